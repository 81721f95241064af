"""The context policy `native` with any provider: what is asked for, and what begins with a compaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from afkcli.core.contract.context import ContextConfig
from afkcli.core.contract.errors import ErrorKind, ProviderError
from afkcli.core.contract.events import ContextEvent, Event
from afkcli.core.contract.limits import FailSafeConfig
from afkcli.core.contract.messages import (
    ContextEdit,
    FinishReason,
    Message,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    ProviderData,
    ReasoningPart,
    Role,
    TextDelta,
    TextPart,
)
from afkcli.core.contract.protocols import Capabilities
from afkcli.core.contract.result import RunState, Usage
from afkcli.core.run.summariser import INSTRUCTIONS
from afkcli.core.run.transcript import LEFT_OUT_NOTE
from afkcli.core.thread.compactions import INTRODUCTION
from afkcli.core.thread.memory_store import MemoryStore
from tests.core.run.test_context import WORDS, form_of
from tests.core.scripted import Scripted, agent, collect, result_of, runner_of

WINDOW = 4_000
NATIVE = ContextConfig(policy="native")


class Compacting(Scripted):
    """A model whose server makes a compaction of a conversation that is longer than it is asked for.

    It counts a token for four characters, and refuses what is too long for its window.
    """

    def __init__(self, name: str = "fake", *, native_from: int | None = 100, state: str = "state") -> None:
        super().__init__(name=name)
        self.native_from = native_from
        self.state = state
        self.failing: list[ProviderError] = []
        self.compacted: list[int] = []

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(context_tokens=WINDOW, native_context_from=self.native_from)

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.requests.append(request)
        if self.failing:
            raise self.failing.pop(0)
        tokens = len(form_of(request.messages)) // 4
        if tokens > WINDOW:
            said = f"maximum context length is {WINDOW} tokens"
            raise ProviderError("too long", kind=ErrorKind.CONTEXT_LENGTH, said=said)
        parts: list[Any] = [TextPart(text=WORDS)]
        threshold = request.native_context_from
        size = None
        if threshold is not None and tokens > threshold:
            self.compacted.append(len(self.requests))
            data = ProviderData(provider=self.name, api="any", model=request.model, payload=self.state)
            parts.insert(0, ReasoningPart(text="", provider_data=data, compacts=True))
            size = 100
        yield TextDelta(WORDS)
        yield ModelResponse(
            message=Message(role=Role.ASSISTANT, parts=tuple(parts)),
            finish_reason=FinishReason.STOP,
            usage=Usage(input_tokens=tokens, output_tokens=50),
            context_tokens=size,
        )


def talk(
    provider: Compacting, *questions: str, store: MemoryStore, others: Sequence[Scripted] = (), **fields: Any
) -> Any:
    async def run() -> list[list[Event]]:
        turns = []
        async with runner_of(provider, *others, store=store) as runner:
            for question in questions:
                chosen = agent(**{"context": NATIVE, "model": f"{provider.name}/small", **fields})
                turns.append(await collect(await runner.run_stream(chosen, user_message=question, thread_id="t")))
        return turns

    return asyncio.run(run())


def begins_with_compaction(request: ModelRequest) -> bool:
    first = next(message for message in request.messages if message.role is not Role.SYSTEM)
    return any(isinstance(part, ReasoningPart) and part.compacts is True for part in first.parts)


def questions_of(request: ModelRequest) -> list[str]:
    return [message.text.split(" ")[0] for message in request.messages if message.role is Role.USER]


def is_for_summary(request: ModelRequest) -> bool:
    return request.messages[0].text == INSTRUCTIONS


def contexts(events: Sequence[Event]) -> list[ContextEvent]:
    return [event for event in events if isinstance(event, ContextEvent)]


def asked(count: int, first: int = 0) -> list[str]:
    return [f"{number} {WORDS}" for number in range(first, first + count)]


def compacted_thread(state: str = "state") -> tuple[Compacting, MemoryStore, int]:
    """Return a model, a store with a thread that has a compaction, and how many turns that thread has."""
    model, store, turns = Compacting(state=state), MemoryStore(), 0
    while not model.compacted:
        talk(model, *asked(1, turns), store=store)
        turns += 1
    return model, store, turns


def test_a_provider_without_a_word_on_compactions_gets_its_own_back() -> None:
    model, store, turns = compacted_thread()
    talk(model, *asked(2, turns), store=store)
    assert begins_with_compaction(model.requests[-1])
    assert questions_of(model.requests[-1]) == [str(turns), str(turns + 1)]


def test_another_model_of_the_provider_gets_the_turns() -> None:
    model, store, turns = compacted_thread()
    talk(model, *asked(1, turns), store=store, model="fake/large", context=ContextConfig(keep=0.9))
    assert not begins_with_compaction(model.requests[-1])
    assert len(questions_of(model.requests[-1])) > 10


def test_a_fallback_model_gets_the_turns_and_the_next_run_the_compaction_again() -> None:
    model, store, turns = compacted_thread()
    other = Compacting("other", native_from=None)
    model.failing = [ProviderError("wrong key", kind=ErrorKind.AUTH)]
    [events] = talk(
        model, *asked(1, turns), store=store, others=[other], fail_safe=FailSafeConfig(fallback_models=("other/x",))
    )
    assert result_of(events).state is RunState.COMPLETED
    assert begins_with_compaction(model.requests[-1])
    assert not begins_with_compaction(other.requests[-1])
    assert len(questions_of(other.requests[-1])) > 10
    codes = [event.code for event in events if event.type == "warning"]
    assert codes == ["fallback", "native_unavailable"]
    talk(model, *asked(1, turns + 1), store=store)
    assert begins_with_compaction(model.requests[-1])


def outgrown_thread() -> tuple[Compacting, MemoryStore, int]:
    """Return what `compacted_thread` does, with so many more turns that all of them fit into no window."""
    model, store, turns = compacted_thread()
    talk(model, *asked(10, turns), store=store)
    return model, store, turns + 10


class TestAfterAChangeOfModel:
    def test_a_summary_takes_the_place_of_turns_that_do_not_fit(self) -> None:
        _, store, turns = outgrown_thread()
        other = Compacting("other", native_from=None)
        events = talk(other, *asked(3, turns), store=store)
        assert list(map(is_for_summary, other.requests)) == [True, True, False, False, False]  # in two pieces
        assert "[Turn 1]" in other.requests[0].messages[1].text
        said = [contexts(of_turn) for of_turn in events]
        through = said[0][0].compacted_through
        assert through is not None
        assert said[0][0].compaction_model == "other/small"
        assert said[0][0].message.startswith("sent as a summary of about ")
        for number in range(3):
            request = other.requests[number + 2]
            assert request.messages[0].text.startswith(INTRODUCTION)
            assert questions_of(request)[1:] == [str(n) for n in range(through, turns + number + 1)]
        assert said[0][0].dropped_through is None
        assert said[1:] == [[], []]

    def test_the_first_model_gets_its_compaction_again(self) -> None:
        model, store, turns = outgrown_thread()
        other = Compacting("other", native_from=None)
        talk(other, *asked(1, turns), store=store)
        asked_before = len(model.requests)
        talk(model, *asked(1, turns + 1), store=store)
        assert len(model.requests) == asked_before + 1
        assert begins_with_compaction(model.requests[-1])

        async def undo() -> None:
            async with runner_of(model, store=store) as runner:
                await runner.threads.undo("t", 2)

        asyncio.run(undo())
        talk(model, *asked(1, turns), store=store)
        assert begins_with_compaction(model.requests[-1])
        assert questions_of(model.requests[-1]) == [*map(str, range(turns - 10, turns + 1))]

    def test_a_fallback_model_in_the_turn_gets_one_too(self) -> None:
        model, store, turns = outgrown_thread()
        other = Compacting("other", native_from=None)
        model.failing = [ProviderError("wrong key", kind=ErrorKind.AUTH)]
        fail_safe = FailSafeConfig(fallback_models=("other/x",))
        [events] = talk(model, *asked(1, turns), store=store, others=[other], fail_safe=fail_safe)
        assert result_of(events).state is RunState.COMPLETED
        assert [is_for_summary(request) for request in other.requests] == [True, True, False]
        assert other.requests[2].messages[0].text.startswith(INTRODUCTION)

    def test_a_summary_that_fails_leaves_old_turns_out(self) -> None:
        _, store, turns = outgrown_thread()
        other = Compacting("other", native_from=None)
        other.failing = [ProviderError("no", kind=ErrorKind.AUTH)]
        [events] = talk(other, *asked(1, turns), store=store)
        assert result_of(events).state is RunState.COMPLETED
        codes = [event.code for event in events if event.type == "warning"]
        assert codes == ["compaction_failed", "native_unavailable"]
        assert contexts(events)[0].dropped_through

    def test_without_a_compaction_of_a_server_old_turns_are_left_out(self) -> None:
        other, store = Compacting("other", native_from=None), MemoryStore()
        turns = talk(other, *asked(30), store=store)
        assert not any(map(is_for_summary, other.requests))
        assert contexts(turns[-1])[0].dropped_through

    def test_the_model_of_the_context_makes_the_summary(self) -> None:
        _, store, turns = outgrown_thread()
        other, cheap = Compacting("other", native_from=None), Compacting("cheap")
        context = ContextConfig(policy="native", model="cheap/x")
        talk(other, *asked(1, turns), store=store, others=[cheap], context=context)
        assert list(map(is_for_summary, cheap.requests)) == [True, True]
        assert other.requests[0].messages[0].text.startswith(INTRODUCTION)


def test_where_the_api_refuses_the_turn_with_the_compaction_the_turns_before_it_come_back() -> None:
    model, store, turns = compacted_thread()
    model.failing = [ProviderError("no such state", kind=ErrorKind.BAD_REQUEST, message_index=0)]
    [events] = talk(model, *asked(1, turns), store=store)
    assert result_of(events).state is RunState.COMPLETED
    assert [event.code for event in events if event.type == "warning"] == ["turn_left_out"]
    assert not begins_with_compaction(model.requests[-1])
    assert len(questions_of(model.requests[-1])) > 10


def long_thread(state: str = "state") -> tuple[Compacting, MemoryStore]:
    """Return a model, and a store with a thread that has a compaction and eight turns behind it."""
    model, store, turns = compacted_thread(state)
    talk(model, *asked(8, turns), store=store)
    assert begins_with_compaction(model.requests[-1])
    return model, store


def notes_of(request: ModelRequest) -> list[str]:
    return [message.text for message in request.messages if message.role is Role.SYSTEM]


def test_a_long_message_leaves_out_turns_and_not_the_compaction() -> None:
    model, store = long_thread()
    [events] = talk(model, "x" * 8_000, store=store)
    assert result_of(events).state is RunState.COMPLETED
    request = model.requests[-1]
    assert begins_with_compaction(request)
    assert len(questions_of(request)) < 5
    assert notes_of(request) == [LEFT_OUT_NOTE]
    [said] = [event for event in events if isinstance(event, ContextEvent) and not event.by_server]
    assert said.compacted_through is not None
    assert said.dropped_through is not None
    assert said.message.startswith(f"left out of the request: turns {said.compacted_through + 1} to ")
    talk(model, "and now?", store=store)
    assert begins_with_compaction(model.requests[-1])


def test_a_compaction_that_does_not_fit_either_is_left_out() -> None:
    model, store = long_thread("s" * 5_000)
    [events] = talk(model, "x" * 8_000, store=store)
    assert result_of(events).state is RunState.COMPLETED
    assert not begins_with_compaction(model.requests[-1])
    assert notes_of(model.requests[-1]) == [LEFT_OUT_NOTE]


def test_the_size_that_the_server_says_is_taken_and_not_what_was_paid_for() -> None:
    model, store, _ = compacted_thread()
    [events] = talk(model, "x" * 8_000, store=store)
    assert result_of(events).state is RunState.COMPLETED
    assert all(event.dropped_through is None for event in events if isinstance(event, ContextEvent))


def test_what_a_server_left_out_is_said_once_while_it_stays_the_same() -> None:
    class Clearing(Compacting):
        async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
            async for event in super().stream(request):
                if isinstance(event, ModelResponse):
                    left_out = ContextEdit(what="2 old files", tokens=70), ContextEdit(what="a search")
                    event = ModelResponse(event.message, event.finish_reason, event.usage, edits=left_out)
                yield event

    model = Clearing()
    [events] = talk(model, "hi", store=MemoryStore())
    [said] = [event for event in events if isinstance(event, ContextEvent)]
    assert said.message == "the server left out 2 old files (70 tokens) and left out a search"
    assert (said.by_server, said.tokens_before - said.tokens_after) == (True, 70)


def test_a_fault_of_the_provider_ends_the_run_and_not_afk() -> None:
    class Faulty(Compacting):
        def takes_compaction(self, model: str, data: ProviderData) -> bool:
            raise KeyError("what")

    _, store, turns = compacted_thread()
    [events] = talk(Faulty(), *asked(1, turns), store=store)
    result = result_of(events)
    assert (result.state, result.error_kind) == (RunState.FAILED, ErrorKind.INTERNAL)
    assert "the provider 'fake'" in (result.error or "")
