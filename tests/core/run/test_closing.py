"""The end of a run: its state, its exit code, what the next turn sends, and turns that cannot be saved."""

from __future__ import annotations

import asyncio
import math
import re
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from afkcli.core.contract.errors import (
    ErrorKind,
    HeadMismatchError,
    LeaseLostError,
    StoreError,
)
from afkcli.core.contract.events import Event
from afkcli.core.contract.messages import (
    FinishReason,
    ModelEvent,
    ModelRequest,
    TextDelta,
)
from afkcli.core.contract.protocols import Capabilities, Lease, Owner, Price, ThreadInfo
from afkcli.core.contract.result import AgentResult, RunState, Usage, exit_code
from afkcli.core.run.config import RunnerConfig, Wiring, unknown_owner
from afkcli.core.thread.history import load_history
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.operations import seal_interrupted
from afkcli.core.thread.turns import SealedTurn
from tests.core.scripted import (
    Scripted,
    add,
    agent,
    answer,
    call,
    calls,
    collect,
    events_of,
    failure,
    one_turn,
    response,
    result_of,
    runner_of,
    types,
)

QUESTION = [("user", "hi")]


LEFT_OUT: list[tuple[str, str]] = []


def cut(text: str) -> list[tuple[str, str]]:
    return [*QUESTION, ("assistant", f"{text}[This answer was cut off here: ...]")]


def without_reasons(said: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(role, re.sub(r"(cut off here: ).*\]$", r"\1...]", text)) for role, text in said]


class TestTableOfStates:
    """What happened -> state, exit code and what the next turn sends, as ARCHITECTURE.md has it."""

    @pytest.mark.parametrize(
        ("script", "state", "code", "sent"),
        [
            (answer("a"), "completed", 0, [("user", "hi"), ("assistant", "a")]),
            (answer("a", finish=FinishReason.LENGTH), "degraded", 3, cut("a")),
            ([failure(ErrorKind.AUTH)], "failed", 4, QUESTION),
            ([failure(ErrorKind.NOT_FOUND)], "failed", 4, QUESTION),
            ([failure(ErrorKind.RATE_LIMIT)], "failed", 4, QUESTION),
            ([failure(ErrorKind.OVERLOADED)], "failed", 4, QUESTION),
            ([failure(ErrorKind.NETWORK)], "failed", 4, QUESTION),
            ([failure(ErrorKind.TIMEOUT)], "failed", 4, QUESTION),
            ([failure(ErrorKind.BAD_REQUEST)], "failed", 4, LEFT_OUT),
            ([failure(ErrorKind.CONTEXT_LENGTH)], "failed", 4, LEFT_OUT),
            ([failure(ErrorKind.CONTENT_FILTER)], "failed", 4, LEFT_OUT),
            (answer("a", finish=FinishReason.CONTENT_FILTER), "failed", 4, LEFT_OUT),
            ([TextDelta("a"), failure(ErrorKind.TRUNCATED)], "failed", 4, cut("a")),
            ([TextDelta("a"), failure(ErrorKind.NETWORK)], "failed", 4, cut("a")),
            ([TextDelta("a"), failure(ErrorKind.TIMEOUT)], "failed", 4, cut("a")),
            ([TextDelta("a")], "failed", 4, cut("a")),
            ([], "failed", 4, cut("")),
            ([ValueError("a bug")], "failed", 1, QUESTION),
            ([TextDelta("a"), ValueError("a bug")], "failed", 1, QUESTION),
        ],
    )
    def test_row(self, script: Any, state: str, code: int, sent: list[tuple[str, str]]) -> None:
        model = Scripted(script, answer("ok"))

        async def run() -> tuple[AgentResult, list[Event]]:
            async with runner_of(model, config=RunnerConfig(max_retries=0)) as runner:
                first = await runner.run(agent(), user_message="hi", thread_id="t")
                again = await runner.run_stream(agent(), user_message="again", thread_id="t")
                return first, await collect(again)

        result, events = asyncio.run(run())
        assert (result.state, exit_code(result), result.saved) == (state, code, True)
        assert without_reasons(model.said()) == [*sent, ("user", "again")]
        warned = [event.code for event in events if event.type == "warning"]
        assert warned == (["question_left_out"] if sent == [] else [])
        assert result_of(events).state is RunState.COMPLETED

    def test_a_failure_after_tool_calls_still_sends_them(self) -> None:
        model = Scripted(calls(call("add", a=1, b=2)), [failure(ErrorKind.AUTH)], answer("ok"))

        async def run() -> None:
            async with runner_of(model) as runner:
                await runner.run(agent(tools=[add]), user_message="hi", thread_id="t")
                await runner.run(agent(), user_message="again", thread_id="t")

        asyncio.run(run())
        assert [role for role, _ in model.said()] == ["user", "assistant", "tool", "assistant", "user"]
        assert "cut off" in model.said()[3][1]

    def test_a_timeout_error_of_a_provider_is_internal(self) -> None:
        assert one_turn(Scripted([TimeoutError("idle")])).error_kind is ErrorKind.INTERNAL

    def test_a_provider_that_cancels_its_own_call_is_internal(self) -> None:
        result = one_turn(Scripted([asyncio.CancelledError()]))
        assert (result.state, result.error_kind) == (RunState.FAILED, ErrorKind.INTERNAL)

    def test_an_answer_that_cannot_be_stored_fails_without_its_event(self) -> None:
        deep: Any = 1
        for _ in range(100):
            deep = [deep]
        events = events_of(Scripted([TextDelta("a"), response("a", call("f", x=deep))]))
        assert "step_completed" not in types(events)
        assert (result_of(events).error_kind, result_of(events).saved) == (ErrorKind.INTERNAL, True)

    def test_a_usage_that_cannot_be_stored_fails_without_its_event(self) -> None:
        usage = Usage(input_tokens=math.nan, output_tokens=1, total_tokens=1)  # type: ignore[arg-type]
        events = events_of(Scripted(answer("a", usage=usage)))
        assert "step_completed" not in types(events)
        assert (result_of(events).error_kind, result_of(events).saved) == (ErrorKind.INTERNAL, True)

    @pytest.mark.parametrize("finds", ["a usage of no numbers", "a broken list of prices"])
    def test_a_turn_of_unknown_cost_is_sealed(self, finds: str) -> None:
        def broken(full_name: str, capabilities: Capabilities) -> Price | None:
            raise RuntimeError("no list")

        store = MemoryStore()
        if finds == "a broken list of prices":
            model, wiring, state = Scripted(answer("a")), Wiring(look_up_price=broken), RunState.COMPLETED
        else:
            usage = Usage(input_tokens=None, output_tokens=1, total_tokens=1)  # type: ignore[arg-type]
            price = Price(input=1, output=1)
            model, wiring, state = Scripted(answer("a", usage=usage), price=price), Wiring(), RunState.FAILED
        events = events_of(model, store=store, wiring=wiring)
        result = result_of(events)
        assert (result.state, result.final_text, result.saved, result.total_cost_usd) == (state, "a", True, None)
        assert "cost_unknown" in [event.code for event in events if event.type == "warning"]
        assert store.holder(result.thread_id) is None

    def test_final_text_is_the_last_steps(self) -> None:
        model = Scripted(calls(call("add", a=1, b=2), text="let me see"), [response("", reasoning="done")])
        assert one_turn(model, agent(tools=[add])).final_text == ""


class BrokenStore(MemoryStore):
    """A store that fails in the calls that the test names."""

    def __init__(self, *methods: str, error: Exception | None = None) -> None:
        super().__init__()
        self.broken = set(methods)
        self.error = error or StoreError("the disk is full")

    def _fail(self, method: str) -> None:
        if method in self.broken:
            raise self.error

    def acquire(self, name: str, owner: Owner, *, create: bool = True) -> Lease | None:
        self._fail("acquire")
        return super().acquire(name, owner, create=create)

    def find(self, name: str) -> ThreadInfo | None:
        self._fail("find")
        return super().find(name)

    def load(self, key: str, **options: Any) -> Any:
        self._fail("load")
        return super().load(key, **options)

    def renew(self, lease: Lease) -> Lease:
        self._fail("renew")
        return super().renew(lease)

    def append(self, thread: ThreadInfo, records: Any, *rest: Any) -> None:
        for record in records:
            self._fail(str(record.kind))
        super().append(thread, records, *rest)


class TestAnswersThatCannotBeSaved:
    @pytest.mark.parametrize("error", [StoreError("the disk is full"), OSError(28, "the disk is full")])
    @pytest.mark.parametrize("methods", [("acquire",), ("acquire", "find"), ("load",), ("question",), ("seal",)])
    def test_the_answer_is_returned_and_the_turn_rescued(self, methods: tuple[str, ...], error: Exception) -> None:
        rescued: list[SealedTurn] = []

        def rescue(thread_id: str, turn: SealedTurn, contents: dict[str, bytes]) -> str:
            rescued.append(turn)
            return "/rescue/file"

        events = events_of(
            Scripted(answer("a")), store=BrokenStore(*methods, error=error), wiring=Wiring(rescue=rescue)
        )
        result = result_of(events)
        assert (result.state, result.final_text, result.saved, exit_code(result)) == ("completed", "a", False, 1)
        said = [event.message for event in events if event.type == "warning"]
        *before, after = rescued
        assert len(said) == len(rescued) == (1 if "seal" in methods else 2)
        assert all("the disk is full" in line and "/rescue/file" in line for line in said)
        assert [[message.text for message in turn.messages] for turn in before] == [["hi"]] * len(before)
        assert [message.text for message in after.messages] == ["hi", "a"]

    def test_the_question_is_kept_before_the_model_is_asked_and_the_answer_as_it_comes(self) -> None:
        kept: list[str] = []
        journaled = threading.Event()

        def rescue(thread_id: str, turn: SealedTurn, contents: dict[str, bytes]) -> str:
            kept.append(turn.state)
            return "/rescue/file"

        def more(where: str, body: dict[str, Any], contents: dict[str, bytes]) -> None:
            kept.append(f"{where}: {body['text']}")
            journaled.set()

        class Slow(Scripted):
            async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
                assert kept == ["interrupted"]
                async for event in super().stream(request):
                    yield event
                    if isinstance(event, TextDelta):
                        await asyncio.to_thread(journaled.wait)

        wiring = Wiring(rescue=rescue, rescue_more=more)
        events_of(Slow(answer("a")), store=BrokenStore("acquire"), wiring=wiring)
        assert kept == ["interrupted", "/rescue/file: a", "completed"]

    @pytest.mark.parametrize("rescue", [lambda *turn: None, lambda *turn: 1 / 0])
    def test_a_rescue_that_fails_is_reported(self, rescue: Any) -> None:
        events = events_of(Scripted(answer("a")), store=BrokenStore("seal"), wiring=Wiring(rescue=rescue))
        assert "could not be kept anywhere" in next(event.message for event in events if event.type == "warning")
        assert result_of(events).saved is False

    def test_a_readable_thread_is_still_sent(self) -> None:
        store = BrokenStore()
        model = Scripted(answer("one"), answer("two"))

        async def run() -> AgentResult:
            async with runner_of(model, store=store) as runner:
                await runner.run(agent(), user_message="first", thread_id="t")
                store.broken = {"acquire"}
                return await runner.run(agent(), user_message="second", thread_id="t")

        assert asyncio.run(run()).saved is False
        assert model.said() == [("user", "first"), ("assistant", "one"), ("user", "second")]


class TestLostLease:
    def test_found_at_the_seal_interrupts_and_writes_nothing_more(self) -> None:
        store = MemoryStore()

        async def take_over() -> None:
            thread = store.find("t")
            assert thread is not None
            kept = store._threads[thread.key]
            kept.expires = 0.0
            lease = store.acquire("t", unknown_owner("other"))
            assert lease is not None
            seal_interrupted(store, lease, load_history(store, lease.thread))

        result = one_turn(Scripted([TextDelta("a"), take_over, *answer("b")]), store=store)
        assert (result.state, result.saved, exit_code(result)) == (RunState.INTERRUPTED, False, 5)
        thread = store.find("t")
        assert thread is not None
        assert [turn.state for turn in load_history(store, thread).turns] == [RunState.INTERRUPTED]

    def test_found_while_it_streams_ends_the_run(self) -> None:
        events = events_of(
            Scripted([TextDelta("a"), asyncio.Event()]),
            store=BrokenStore("journal", error=LeaseLostError("another run took over the thread 't'")),
        )
        result = result_of(events)
        assert (result.state, result.final_text, exit_code(result)) == (RunState.INTERRUPTED, "a", 5)
        assert "took over" in (result.reason or "")

    def test_a_journal_that_fails_is_reported_once_and_retried(self) -> None:
        store = BrokenStore("journal", error=HeadMismatchError("odd"))
        journaled = asyncio.Event()

        async def run() -> list[Event]:
            async with runner_of(Scripted([TextDelta("a"), journaled, *answer("b")]), store=store) as runner:
                handle = await runner.run_stream(agent(), user_message="hi", thread_id="t")
                run = next(iter(runner._runs))
                while not run.outlet.pending_warnings:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                store.broken = set()
                while not any(record.kind == "journal" for record in store.load(run.spec.thread_key)):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                journaled.set()
                return await collect(handle)

        events = asyncio.run(run())
        assert [event.code for event in events if event.type == "warning"] == ["journal"]
        assert result_of(events).saved is True
