"""A thread that goes to another server and comes back: what each server is sent, seen at real sockets.

Every API with every other, and with another server of the same one. Signed and encrypted parts belong to one model at
one server; ids of calls are unique only as far as the server that gave them cares, and have its own form.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from afkcli.testing.model_server import ModelServer, RecordedRequest, ScriptedCall, Step
from tests.e2e.eye_tool import TOOL
from tests.e2e.shell import Finished, Shell

IDS = {
    "repeated": ("call_0", "call_1"),
    "both the same": ("call_0", "call_0"),
    "65 characters": ("a" * 64 + "1", "a" * 64 + "2"),
    "other characters": ("functions.look:0", "functions.look:1"),
}
"""The ids of two parallel calls, which a server gives in every step."""

PLAIN_PROVIDER = """
from afkcli import hookimpl
from afkcli.plugin import (
    BaseProvider, FinishReason, Message, ModelResponse, Role, TextDelta, TextPart, ToolCallPart, Usage
)

AFK_HOOKS = 1
AFK_NAME = "plain"


class Plain(BaseProvider):
    name = "plain"

    async def stream(self, request):
        n = sum(message.role is Role.ASSISTANT for message in request.messages) + 1
        if n == 3:
            yield TextDelta("P says 3.")
            parts, reason = (TextPart(text="P says 3."),), FinishReason.STOP
        else:
            calls = [ToolCallPart(id=ID, name="eye.look", arguments={"place": f"P{n}{ID[-1]}"}) for ID in IDS]
            parts, reason = tuple(calls), FinishReason.TOOL_CALLS
        message = Message(role=Role.ASSISTANT, parts=parts)
        yield ModelResponse(message=message, finish_reason=reason, usage=Usage())


@hookimpl
def afk_provider(settings):
    return Plain()
"""

OPAQUE = ("A thinks", "signature", '"encrypted_content"', '"rs_', '"msg_', '"fc_', "provider_data")
"""What only the server that said it understands: thoughts, what is signed or encrypted, ids of items."""

Part = tuple[str, Any]
"""What a request holds, in the words of no API: `user`, `text`, `thought`, `call`, `result`, each with its value."""


def chat_parts(body: dict[str, Any]) -> Iterator[Part]:
    for message in body["messages"]:
        role, content = message["role"], message.get("content")
        if role in ("user", "system"):
            yield role, content
        elif role == "tool":
            yield "result", (message["tool_call_id"], content)
        else:
            if "reasoning_content" in message:
                yield "thought", (message["reasoning_content"], None)
            if content is not None or not message.get("tool_calls"):
                yield "text", content
            for call in message.get("tool_calls", ()):
                yield "call", (call["id"], json.loads(call["function"]["arguments"])["place"])


def responses_parts(body: dict[str, Any]) -> Iterator[Part]:
    item_ids = [item["id"] for item in body["input"] if "id" in item]
    assert len(set(item_ids)) == len(item_ids), "the API refuses a second item of one id"
    for item in body["input"]:
        kind = item.get("type", "message")
        if kind == "reasoning":
            yield "thought", (item["summary"][0]["text"], item["encrypted_content"])
        elif kind == "function_call":
            yield "call", (item["call_id"], json.loads(item["arguments"])["place"])
        elif kind == "function_call_output":
            yield "result", (item["call_id"], item["output"])
        else:
            content = item["content"]
            said = content if isinstance(content, str) else "".join(part["text"] for part in content)
            yield ("text" if item["role"] == "assistant" else item["role"]), said


def messages_parts(body: dict[str, Any]) -> Iterator[Part]:
    roles = [message["role"] for message in body["messages"]]
    assert roles == [("user", "assistant")[n % 2] for n in range(len(roles))]
    for message in body["messages"]:
        assert message["content"], "the API refuses a message without content"
        for block in message["content"]:
            kind = block["type"]
            if kind == "thinking":
                yield "thought", (block["thinking"], block["signature"])
            elif kind == "tool_use":
                yield "call", (block["id"], block["input"]["place"])
            elif kind == "tool_result":
                content = block["content"]
                said = content if isinstance(content, str) else "".join(part["text"] for part in content)
                yield "result", (block["tool_use_id"], said)
            else:
                yield ("text" if message["role"] == "assistant" else "user"), block["text"]


@dataclass(frozen=True)
class Api:
    """One API: the model and the setting that select it, the ids it takes, how a body is read, how thoughts are signed.

    `thinks_last` is whether thoughts of an answer without calls go back too.
    """

    model: str
    form: str
    legal: str
    parts: Callable[[dict[str, Any]], Iterator[Part]]
    signed: str | None
    thinks_last: bool


APIS = {
    "chat": Api("openai/m", "chat", r"[a-zA-Z0-9_-]{1,40}", chat_parts, None, thinks_last=False),
    "responses": Api(
        "openai/m", "responses", r"[a-zA-Z0-9_-]{1,64}", responses_parts, "encrypted-{n}", thinks_last=True
    ),
    "anthropic": Api("anthropic/m", "auto", r"[a-zA-Z0-9_-]{1,64}", messages_parts, "signature-{n}", thinks_last=True),
}
if importlib.util.find_spec("litellm") is not None:  # in an environment of its own: see .ci/litellm
    APIS["litellm"] = Api("litellm/openai/m", "auto", r"[a-zA-Z0-9_-]{1,40}", chat_parts, None, thinks_last=False)
    APIS["litellm to Claude"] = Api(
        "litellm/anthropic/m", "auto", r"[a-zA-Z0-9_-]{1,64}", messages_parts, "signature-{n}", thinks_last=False
    )


def looks(side: str, n: int, ids: tuple[str, str]) -> Step:
    """Return a step with reasoning, text and two calls: `n` is the number of the request at its server."""
    places = (f"{side}{n}x", f"{side}{n}y")
    calls = [ScriptedCall(name="eye__look", arguments={"place": p}, id=i) for p, i in zip(places, ids, strict=True)]
    return Step(reasoning=[f"{side} thinks {n}"], text=[f"{side} looks {n}. "], tool_calls=calls)


def answers(side: str, n: int) -> Step:
    return Step(reasoning=[f"{side} thinks {n}"], text=[f"{side} says", f" {n}."])


def thoughts(api: Api, side: str, called: dict[int, bool]) -> list[tuple[str, str | None]]:
    """Return the thoughts that go back to the server that had them; `called` says which of its answers had calls."""
    return [
        (f"{side} thinks {n}", api.signed and api.signed.format(n=n))
        for n, has_calls in called.items()
        if has_calls or api.thinks_last
    ]


def checked(api: Api, side: str, request: RecordedRequest) -> list[Part]:
    """Return the parts of a request once ids, pairs, order and contents are what its API takes."""
    parts = [part for part in api.parts(request.body) if part[0] != "system"]
    waiting: list[Part] = []
    ids: list[str] = []
    before = ""
    for kind, value in parts:
        if kind == "call":
            assert before != "result" or not waiting, "a call among the results of its step"
            waiting.append(value)
            ids.append(value[0])
            # What a server gave itself may go back as it was; what another gave has this API's form.
            assert re.fullmatch(api.legal, value[0]) or value[1].startswith(side), value
        elif kind == "result":
            id_, place = waiting.pop(0)
            assert value == (id_, f"seen {place}")
        else:
            assert not waiting, f"{kind} between calls and their results"
            assert kind == "thought" or value.strip(), "nothing empty is sent"
            assert not (kind == before == "user"), "two questions in a row"
        before = kind
    assert not waiting
    assert len(set(ids)) == len(ids), ids
    assert parts[0][0] == "user"
    assert before in ("user", "result"), "the last word is not the model's"
    return parts


def values(parts: list[Part], kind: str) -> list[Any]:
    return [value for found, value in parts if found == kind]


def places(parts: list[Part]) -> list[str]:
    return [place for _, place in values(parts, "call")]


def text_of(turn: dict[str, Any]) -> str:
    """Return the text of a stored turn's answers."""
    answers = [message for message in turn["messages"] if message["role"] == "assistant"]
    return "".join(part["text"] for message in answers for part in message["parts"] if part["type"] == "text")


def calls_of(turn: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the calls of a stored turn."""
    return [part for message in turn["messages"] for part in message["parts"] if part["type"] == "tool_call"]


class Conversation:
    """One thread, `t`, between two servers."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.shown: list[str] = []
        (shell.folder / "eye.py").write_text(TOOL)

    def ask(self, api: Api, server: ModelServer, question: str, *options: str, model: str = "") -> None:
        """Ask a question, of another model than the API's own if one is given; the turn succeeds."""
        config = self.shell.home / "afk" / "config" / "config.toml"
        config.parent.mkdir(parents=True, exist_ok=True)
        path = "" if "/anthropic/" in api.model else "/v1"
        config.write_text(
            f'[providers.openai]\napi = "{api.form}"\n'
            f'[providers.litellm]\napi_key = "k"\nbase_url = "{server.base_url.removesuffix("/v1")}{path}"\n'
        )
        done: Finished = self.shell.in_process(
            *(
                "run",
                "--json",
                "-t",
                "t",
                "-m",
                model or api.model,
                "--plugin",
                "eye.py",
                "--tool",
                "eye.*",
                *options,
                question,
            ),
            OPENAI_BASE_URL=server.base_url,
            OPENAI_API_KEY="sk-canary-0123456789",
            ANTHROPIC_BASE_URL=server.base_url,
            ANTHROPIC_API_KEY="sk-ant-canary-0123456789",
        )
        assert done.code == 0, done.err
        assert "warning" not in done.types(), done.out
        self.shown.append("".join(event["text_delta"] for event in done.events if event["type"] == "text_delta"))

    def ask_local(self, question: str) -> None:
        """Ask the local model, which cannot use tools; it answers with what it likes."""
        config = self.shell.home / "afk" / "config" / "config.toml"
        config.write_text("[providers.local]\nmax_output_tokens = 40\nthreads = 1\nseed = 1\ntemperature = 0.0\n")
        done = self.shell.in_process("run", "--json", "-t", "t", "-m", "local", question)
        assert done.code in (0, 3), done.err  # 3 where the limit cut it
        assert "warning" not in done.types(), done.out
        self.shown.append("".join(event["text_delta"] for event in done.events if event["type"] == "text_delta"))
        assert self.shown[-1]

    def stored(self) -> str:
        return self.shell.in_process("threads", "show", "t", "--json").out


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize(("here", "there"), list(itertools.product(APIS, repeat=2)))
def test_a_thread_goes_to_another_server_and_comes_back(shell: Shell, here: str, there: str, ids: str) -> None:
    a, b, given = APIS[here], APIS[there], IDS[ids]
    talk = Conversation(shell)
    with ModelServer() as first, ModelServer() as second:
        first.script(looks("A", 1, given), looks("A", 2, given), answers("A", 3), looks("A", 4, given), answers("A", 5))
        second.script(looks("B", 1, given), answers("B", 2))
        talk.ask(a, first, "first")
        talk.ask(b, second, "second")
        talk.ask(a, first, "third")
        at_a = [checked(a, "A", request) for request in first.requests]
        at_b = [checked(b, "B", request) for request in second.requests]

    turns = [json.loads(line) for line in talk.stored().splitlines()]
    assert [turn["state"] for turn in turns] == ["completed"] * 3
    assert talk.shown == ["A looks 1. A looks 2. A says 3.", "B looks 1. B says 2.", "A looks 4. A says 5."]
    assert [text_of(turn) for turn in turns] == talk.shown

    to_b, to_a = at_b[-1], at_a[-1]
    assert values(to_b, "user") == ["first", "second"]
    assert values(to_b, "text") == ["A looks 1. ", "A looks 2. ", "A says 3.", "B looks 1. "]
    assert places(to_b) == ["A1x", "A1y", "A2x", "A2y", "B1x", "B1y"]
    assert values(to_a, "user") == ["first", "second", "third"]
    assert values(to_a, "text") == [*values(to_b, "text"), "B says 2.", "A looks 4. "]
    assert places(to_a) == [*places(to_b), "A4x", "A4y"]
    assert values(to_b, "thought") == thoughts(b, "B", {1: True})
    assert values(to_a, "thought") == thoughts(a, "A", {1: True, 2: True, 3: False, 4: True})
    assert not [mark for mark in OPAQUE if mark in json.dumps(second.bodies[0])]
    for earlier, later in itertools.pairwise(at_a):
        assert later[: len(earlier)] == earlier, "what was sent once is sent so again"
    assert at_b[1][: len(at_b[0])] == at_b[0]


@pytest.mark.parametrize("name", APIS)
def test_another_model_of_the_same_server_gets_no_thoughts(shell: Shell, server: ModelServer, name: str) -> None:
    api, ids = APIS[name], IDS["other characters"]
    talk = Conversation(shell)
    server.script(looks("A", 1, ids), answers("A", 2), Step(text="B says 1."), Step(text="A says 4."))
    talk.ask(api, server, "first")
    talk.ask(api, server, "second", model=f"{api.model}-other")
    talk.ask(api, server, "third")

    other, back = server.requests[2:]
    assert values(checked(api, "B", other), "thought") == []
    assert not [mark for mark in OPAQUE if mark in json.dumps(other.body)]
    assert values(checked(api, "A", back), "thought") == thoughts(api, "A", {1: True, 2: False})


@pytest.mark.parametrize("name", APIS)
def test_a_thread_goes_to_the_local_model_and_comes_back(shell: Shell, server: ModelServer, name: str) -> None:
    api, ids = APIS[name], IDS["other characters"]
    talk = Conversation(shell)
    server.script(looks("A", 1, ids), answers("A", 2), looks("A", 3, ids), answers("A", 4))
    talk.ask(api, server, "first")
    talk.ask_local("second")
    talk.ask(api, server, "third")

    *_, back = (checked(api, "A", request) for request in server.requests)
    assert values(back, "user") == ["first", "second", "third"]
    assert talk.shown[1] in values(back, "text")
    assert places(back) == ["A1x", "A1y", "A3x", "A3y"]
    assert values(back, "thought") == thoughts(api, "A", {1: True, 2: False, 3: True})


@pytest.mark.parametrize("ids", ["repeated", "65 characters", "other characters"])
@pytest.mark.parametrize("name", APIS)
def test_a_thread_of_a_plugin_that_keeps_the_ids_of_its_server_can_be_sent(
    shell: Shell, server: ModelServer, name: str, ids: str
) -> None:
    api, talk = APIS[name], Conversation(shell)
    (shell.folder / "plain.py").write_text(PLAIN_PROVIDER + f"\n\nIDS = {IDS[ids]!r}\n")
    server.script(looks("A", 1, IDS[ids]), answers("A", 2))
    talk.ask(api, server, "first", "--plugin", "plain.py", model="plain/m")
    talk.ask(api, server, "second")

    called, answered = (checked(api, "A", request) for request in server.requests)
    first, second = (id_[-1] for id_ in IDS[ids])
    assert places(called) == [f"P1{first}", f"P1{second}", f"P2{first}", f"P2{second}"]
    assert places(answered) == [*places(called), "A1x", "A1y"]
    assert answered[: len(called)] == called
    stored = [part["id"] for part in calls_of(json.loads(talk.stored().splitlines()[0]))]
    assert stored == [*IDS[ids], *IDS[ids]], "the plugin gave each id twice"
