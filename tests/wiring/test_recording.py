"""`Runner(record=FILE)` and `Runner(replay=FILE)`: recordings from Python."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from afkcli import Agent, AgentResult, MemoryStore, Runner, tool
from afkcli.core.contract.errors import UsageError
from afkcli.host.secrets import Secrets
from afkcli.testing.model_script import ScriptedCall, Step
from afkcli.testing.model_server import ModelServer
from afkcli.wiring.request_diff import Identity, difference

MODEL = "gpt-5.2-mini"
KEY = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AFK_MODEL", "AFK_DEMO", "AFK_STORE", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AFK_HOME", str(tmp_path / "afk"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with ModelServer() as model_server:
        monkeypatch.setenv("OPENAI_BASE_URL", model_server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield model_server


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


async def asked(runner: Runner, *questions: str, agent: Agent | None = None) -> list[AgentResult]:
    """Ask the questions on one thread, and close the runner."""
    async with runner:
        return [
            await runner.run(agent or Agent(model=MODEL), user_message=question, thread_id="t")
            for question in questions
        ]


def test_several_runs_go_into_one_file_and_are_replayed_in_their_order(
    server: ModelServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = home / "talk.jsonl"
    recorded = asyncio.run(asked(Runner(record=file, store="memory", sinks=()), "one", "two", "three"))
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL")
    server.close()
    replayed = asyncio.run(asked(Runner(replay=file), "one", "two", "three", agent=Agent()))

    assert [result.final_text for result in replayed] == [result.final_text for result in recorded]
    assert [result.model for result in replayed] == [f"openai/{MODEL}"] * 3
    assert [line["run"] for line in lines(file) if line["type"] == "run"] == [1, 2, 3]
    assert not list((home / "afk").rglob("*.jsonl"))


def test_a_function_is_not_called_and_its_schema_is_compared(server: ModelServer, home: Path) -> None:
    called: list[int] = []

    def double(number: int) -> int:
        """Double a number."""
        called.append(number)
        return 2 * number

    file = home / "run.jsonl"
    server.script(Step(tool_calls=[ScriptedCall(name="double", arguments={"number": 4})]), Step(text="Eight."))
    asyncio.run(asked(Runner(record=file), "4?", agent=Agent(model=MODEL, tools=[double])))
    replayed = asyncio.run(asked(Runner(replay=file), "4?", agent=Agent(model=MODEL, tools=[double])))
    assert (replayed[0].final_text, called) == ("Eight.", [4])

    other = tool(name="double", description="Triple a number.")(lambda number: number)
    changed = asyncio.run(asked(Runner(replay=file), "4?", agent=Agent(model=MODEL, tools=[other])))
    assert changed[0].error is not None
    assert "differs from the recording" in changed[0].error
    assert "tools[0]" in changed[0].error


def test_a_difference_is_logged_as_a_diff(server: ModelServer, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = home / "run.jsonl"
    asyncio.run(asked(Runner(record=file), "hi"))
    with caplog.at_level(logging.WARNING, "afkcli"):
        result = asyncio.run(asked(Runner(replay=file), "hello"))[0]

    assert (result.state, result.error_kind) == ("failed", "bad_request")
    assert '-          "text": "hi",' in caplog.text


def test_one_more_run_than_was_recorded_is_refused(server: ModelServer, home: Path) -> None:
    file = home / "run.jsonl"
    asyncio.run(asked(Runner(record=file), "hi"))
    with pytest.raises(UsageError, match="has 1 run, and this is one more"):
        asyncio.run(asked(Runner(replay=file), "hi", "again"))


def test_a_store_and_sinks_that_are_given_are_used(server: ModelServer, home: Path) -> None:
    file, store = home / "run.jsonl", MemoryStore()
    asyncio.run(asked(Runner(record=file, store="memory", sinks=()), "hi"))
    asyncio.run(asked(Runner(replay=file, store=store), "hi"))

    kept = store.find("t")
    assert kept is not None
    assert kept.turns == 1


@pytest.mark.parametrize(("record", "replay"), [("a", "b")])
def test_a_runner_does_not_record_and_replay(record: str, replay: str) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        Runner(record=record, replay=replay)


def test_runs_at_the_same_time_are_told_apart(server: ModelServer, home: Path) -> None:
    file = home / "many.jsonl"

    async def both(runner: Runner) -> list[AgentResult]:
        async with runner:
            handles = [await runner.run_stream(Agent(model=MODEL), user_message=f"{n}") for n in range(4)]
            return [await handle.wait() for handle in handles]

    recorded = asyncio.run(both(Runner(record=file, store="memory", sinks=())))
    replayed = asyncio.run(both(Runner(replay=file)))

    assert [result.final_text for result in replayed] == [result.final_text for result in recorded]


def test_the_requests_of_a_loop_do_not_repeat_what_was_sent_before(server: ModelServer, home: Path) -> None:
    def look() -> str:
        return "seen"

    file = home / "loop.jsonl"
    server.script(*[Step(tool_calls=[ScriptedCall(name="look")])] * 5, Step(text="Done."))
    asyncio.run(asked(Runner(record=file), "hi", agent=Agent(model=MODEL, tools=[look])))

    requests = [line for line in lines(file) if line["type"] == "request"]
    assert [len(request["messages"]) for request in requests] == [2, 2, 2, 2, 2, 2]  # the first has the instructions
    assert [request["kept"] for request in requests] == [0, 2, 4, 6, 8, 10]
    assert ["tools" in request for request in requests] == [True, *[False] * 5]


def test_a_turn_that_is_resumed_is_replayed(server: ModelServer, home: Path) -> None:
    """The first run is stopped during its call; the second makes it again, because the tool is idempotent."""
    file, made = home / "resumed.jsonl", []

    @tool(idempotent=True)
    async def look() -> str:
        made.append("look")
        if len(made) == 1:
            await asyncio.sleep(60)
        return "seen"

    agent = Agent(model=MODEL, tools=[look])

    async def resumed(runner: Runner) -> AgentResult:
        async with runner:
            return await runner.resume(agent, thread_id="t")

    async def stopped() -> None:
        async with Runner() as runner:
            handle = await runner.run_stream(agent, user_message="hi", thread_id="t")
            async for event in handle:
                if event.type == "tool_started":
                    await handle.cancel()

    server.script(Step(tool_calls=[ScriptedCall(name="look")]), Step(text="It is there."))
    asyncio.run(stopped())
    recorded = asyncio.run(resumed(Runner(record=file)))
    replayed = asyncio.run(resumed(Runner(replay=file)))

    assert made == ["look", "look"]
    assert recorded.final_text == replayed.final_text == "It is there."
    assert [call.tool_success for call in replayed.tool_executions] == [True]


def test_a_price_list_and_a_budget_are_not_touched_by_a_replay(server: ModelServer, home: Path) -> None:
    folder = home / "afk" / "config"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(
        f'[prices]\n"openai/{MODEL}" = {{ input = 1, output = 1 }}\n[budgets]\nday_usd = 0.0001\n'
    )
    file = home / "run.jsonl"
    recorded = asyncio.run(asked(Runner(record=file), "hi"))[0]
    replays = [asyncio.run(asked(Runner(replay=file), "hi"))[0] for _ in range(10)]

    assert recorded.state == "completed"
    assert {(result.state, result.total_cost_usd) for result in replays} == {("completed", recorded.total_cost_usd)}


class TestSecretsInPieces:
    @pytest.mark.parametrize(
        ("text", "goes_on"),
        [
            ("", False),
            ("sk", True),
            ("my sk-can", True),
            ("sk-canary-012345678", True),
            ("sk-x", False),
            ("s k", False),
        ],
    )
    def test_a_text_that_may_be_completed_to_a_secret(self, text: str, goes_on: bool) -> None:
        secrets = Secrets()
        secrets.add(KEY)
        assert secrets.may_go_on(text) is goes_on


def identity(run_id: str, started: str) -> Identity:
    return Identity(names={run_id: "<run>"}, started=started)


def request(*texts: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "parts": [{"type": "text", "text": text}]} for text in texts]
    return {"model": "p/m", "messages": messages, "tools": [], "options": {}, "extra": {}, **more}


class TestDifference:
    THEN = identity("01a21ce0-0000-7000-8000-000000000001", "2026-11-27T11:00:00.000Z")
    NOW = identity("01a21ce0-0000-7000-8000-000000000002", "2027-01-02T03:04:05.000Z")

    def found(self, before: dict[str, Any], after: dict[str, Any]) -> str | None:
        found = difference(before, after, (self.THEN, self.NOW), ("a", "b"))
        return None if found is None else found.path

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("hi", "hi"),
            ("of run 01a21ce0-0000-7000-8000-000000000001.", "of run 01a21ce0-0000-7000-8000-000000000002."),
            ("at 2026-11-27T11:00:03.5Z", "at 2027-01-02T03:04:06Z"),
            ("at 2026-11-27T12:00:03+01:00", "at 2027-01-02 03:04:06"),
            ("the key is ***, I say", "the key is sk-anything-else, I say"),
            ("*** and *** and ***", "a and b and c"),
            ("***", ""),
            ("at 1999-01-01T00:00:00Z", "at 1999-01-01T00:00:00Z"),
        ],
    )
    def test_ids_times_and_masked_secrets_do_not_count(self, before: str, after: str) -> None:
        assert self.found(request(before), request(after)) is None

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("at 1999-01-01T00:00:00Z", "at 1999-01-01T00:00:01Z"),
            ("on 2026-11-27", "on 2027-01-02"),
            ("the key is ***.", "the kei is ***."),
            ("*** and *** and ***", "a and b"),
            ("ab***ba", "aba"),
            ("hi", "hi "),
            ("a\\nb", "a\nb"),
        ],
    )
    def test_other_texts_do(self, before: str, after: str) -> None:
        assert self.found(request(before), request(after)) == "messages[0].parts[0].text"

    def test_ids_of_calls_do_not_count_and_which_call_a_result_is_of_does(self) -> None:
        def talk(*ids: str) -> dict[str, Any]:
            calls = [{"type": "tool_call", "id": one, "name": "x", "arguments": {}} for one in ids[:2]]
            results = [{"type": "tool_result", "id": one, "name": "x", "parts": []} for one in ids[2:]]
            return request() | {"messages": [{"role": "assistant", "parts": calls}, {"role": "tool", "parts": results}]}

        assert self.found(talk("a", "b", "a", "b"), talk("x", "y", "x", "y")) is None
        assert self.found(talk("a", "b", "a", "b"), talk("x", "y", "y", "x")) == "messages[1].parts[0].id"

    @pytest.mark.parametrize(
        ("more", "path"),
        [
            ({"model": "p/n"}, "model"),
            ({"options": {"temperature": 1}}, "options.temperature"),
            ({"tools": [{"name": "x"}]}, "tools[0]"),
            ({"output_schema": {"type": "object"}}, "output_schema"),
        ],
    )
    def test_the_path_names_what_differs(self, more: dict[str, Any], path: str) -> None:
        assert self.found(request("hi"), request("hi", **more)) == path

    def test_a_long_diff_is_cut(self) -> None:
        found = difference(
            request("hi"), request(*(f"message {n}" for n in range(1000))), (self.THEN, self.NOW), ("a", "b")
        )
        assert found is not None
        assert found.diff.splitlines()[-1].endswith(" more lines")
        assert len(found.diff.splitlines()) == 401
