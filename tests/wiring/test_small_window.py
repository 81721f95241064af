"""300 turns with a model whose window has 4,000 tokens, over HTTP: what the server was sent, with each policy."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from afkcli import Agent, Attachment, ContextConfig, MemoryStore, Runner, tool
from afkcli.core.contract.result import RunState
from afkcli.core.thread.compactions import INTRODUCTION
from afkcli.core.thread.history import load_history
from afkcli.core.thread.trimming import MARK
from afkcli.testing.model_script import ScriptedCall, ScriptedUsage, Step
from afkcli.testing.model_server import ModelServer, RecordedRequest

pytestmark = pytest.mark.long

WINDOW = 4_000
TURNS = 300
WORDS = "word " * 40
MODEL = "openai/gpt-5.2-mini"


@tool
def look() -> str:
    """Look."""
    return "seen " * 200


class Server(ModelServer):
    """Counts a token for four characters, refuses what is longer than its window, and calls a tool where asked to."""

    def __init__(self) -> None:
        super().__init__(answer=self.respond)
        self.refused = 0

    def respond(self, request: RecordedRequest) -> Step:
        messages = request.body["messages"]
        tokens = len(json.dumps(messages)) // 4
        if tokens > WINDOW:
            self.refused += 1
            body = {
                "error": {"message": f"maximum context length is {WINDOW} tokens", "code": "context_length_exceeded"}
            }
            return Step(status=400, body=body)
        usage = ScriptedUsage(input_tokens=tokens, output_tokens=50)
        if is_for_summary(messages):
            return Step(text="what was said", usage=usage)
        last = messages[-1]
        if last["role"] == "user" and "look " in str(last["content"]):
            return Step(tool_calls=[ScriptedCall(name="look")], usage=usage)
        return Step(text=WORDS, usage=usage)

    def asked(self) -> list[list[dict[str, Any]]]:
        """Return the messages of the requests that were not for a summary."""
        return [body["messages"] for body in self.bodies if not is_for_summary(body["messages"])]

    def summaries(self) -> int:
        return sum(is_for_summary(body["messages"]) for body in self.bodies)


def is_for_summary(messages: Sequence[dict[str, Any]]) -> bool:
    return str(messages[0]["content"]).startswith("You summarise")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    config = tmp_path / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[windows]\n"{MODEL}" = {WINDOW}\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AFK_HOME", str(tmp_path / "afk"))
    monkeypatch.chdir(tmp_path)
    with Server() as made:
        monkeypatch.setenv("OPENAI_BASE_URL", made.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789")
        yield made


class Talk:
    """300 questions on one thread, and how often the runs ended in which way."""

    def __init__(self, policy: str, question: str, *, tools: Sequence[Any] = (), attachment: str = "") -> None:
        self.question = question
        self.store = MemoryStore()
        self.states: Counter[RunState] = Counter()
        agent = Agent(model=MODEL, tools=tools, context=ContextConfig(policy=policy))  # type: ignore[arg-type]
        asyncio.run(self._work(agent, attachment))

    async def _work(self, agent: Agent, attachment: str) -> None:
        async with Runner(store=self.store, sinks=()) as runner:
            for number in range(TURNS):
                files = [Attachment(data=f"{number} {attachment}".encode(), name="note.txt")] if attachment else []
                message = f"{number} {self.question}"
                result = await runner.run(agent, user_message=message, thread_id="t", attachments=files)
                self.states[result.state] += 1

    def check(self) -> None:
        """Each run has its answer, and each question is stored once."""
        assert self.states == {RunState.COMPLETED: TURNS}
        thread = self.store.find("t")
        assert thread is not None
        history = load_history(self.store, thread)
        assert history.damage == ()
        assert [turn.messages[0].text for turn in history.seen] == [f"{at} {self.question}" for at in range(TURNS)]


def shared_prefixes(requests: Sequence[Sequence[dict[str, Any]]]) -> int:
    """Return how many requests begin with all that the one before them sent, to the byte."""
    forms = [[json.dumps(message) for message in messages] for messages in requests]
    return sum(later[: len(earlier)] == earlier for earlier, later in itertools.pairwise(forms))


def check_pairs(messages: Sequence[dict[str, Any]]) -> None:
    """Each message with calls is followed by the results of all of them, and each result follows its call."""
    at = 0
    while at < len(messages):
        calls = [call["id"] for call in messages[at].get("tool_calls") or ()]
        results = [message["tool_call_id"] for message in messages[at + 1 : at + 1 + len(calls)]]
        assert results == calls
        at += 1 + len(calls)
        assert at == len(messages) or messages[at]["role"] != "tool"


@pytest.mark.parametrize("policy", ["trim", "compact", "native"])
def test_questions_and_answers(server: Server, policy: str) -> None:
    Talk(policy, WORDS).check()
    requests = server.asked()
    assert (len(requests), server.refused) == (TURNS, 0)
    assert all(str(messages[-1]["content"]).endswith(f"{number} {WORDS}") for number, messages in enumerate(requests))
    assert shared_prefixes(requests) >= 270
    assert (server.summaries() > 0) == (policy == "compact") == any(INTRODUCTION in str(sent) for sent in requests)


@pytest.mark.parametrize("policy", ["trim", "compact"])
def test_tool_calls(server: Server, policy: str) -> None:
    Talk(policy, "look ", tools=[look]).check()
    requests = server.asked()
    assert (len(requests), server.refused) == (2 * TURNS, 0)
    for messages in requests:
        check_pairs(messages)
    assert shared_prefixes(requests) >= 450
    assert any(MARK in str(sent) for sent in requests) == (policy == "trim")


@pytest.mark.parametrize("policy", ["trim", "compact"])
def test_attachments(server: Server, policy: str) -> None:
    text = "text of the note " * 30
    Talk(policy, "read it", attachment=text).check()
    requests = server.asked()
    assert (len(requests), server.refused) == (TURNS, 0)
    assert all(f"{number} {text}".strip() in str(messages[-1]["content"]) for number, messages in enumerate(requests))
    assert max(str(sent).count(text.strip()) for sent in requests) < 25
    assert not any(text.strip() in str(body) for body in server.bodies if is_for_summary(body["messages"]))
    assert shared_prefixes(requests) >= 250


def test_that_is_refused_sends_nothing_more(server: Server) -> None:
    states = Talk("refuse", WORDS).states
    assert states[RunState.COMPLETED] == len(server.asked()) < TURNS
    assert states[RunState.FAILED] == TURNS - states[RunState.COMPLETED]
    assert (server.refused, shared_prefixes(server.asked())) == (0, len(server.asked()) - 1)
