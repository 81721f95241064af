"""A very large piece of an answer becomes several events, and is not kept while the turn is sealed."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

import pytest

from afkcli.core.contract.events import Event, event_to_json
from afkcli.core.contract.limits import FailSafeConfig
from afkcli.core.contract.messages import ReasoningDelta, TextDelta, ToolCallDelta
from afkcli.core.run import large_pieces
from afkcli.core.run.large_pieces import cut_piece
from afkcli.core.thread.memory_store import MemoryStore
from tests.core.scripted import Scripted, agent, collect, response, runner_of

TEXT = "".join(f"{number:07d} " for number in range(500))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_pieces, "MAX_PIECE_CHARS", 1000)


@pytest.mark.parametrize("event", [TextDelta(TEXT), ReasoningDelta(TEXT), ToolCallDelta("c", "look", TEXT)])
def test_a_large_piece_is_several_events(event: Any) -> None:
    pieces: list[Any] = list(cut_piece(event))
    texts = [getattr(piece, "arguments", None) or piece.text for piece in pieces]

    assert {type(piece) for piece in pieces} == {type(event)}
    assert [len(text) for text in texts] == [1000] * 4
    assert "".join(texts) == TEXT


@pytest.mark.parametrize("event", [TextDelta("x" * 1000), ReasoningDelta(""), ToolCallDelta("c", "look", "")])
def test_any_other_piece_stays_as_it_is(event: Any) -> None:
    assert list(cut_piece(event)) == [event]


def run(*script: Any, store: MemoryStore, **limits: Any) -> list[Event]:
    async def main() -> list[Event]:
        async with runner_of(Scripted([*script]), store=store) as runner:
            chosen = agent(fail_safe=FailSafeConfig(**limits))
            return await collect(await runner.run_stream(chosen, user_message="hi", thread_id="t"))

    return asyncio.run(main())


def test_no_event_of_an_answer_that_comes_in_one_piece_is_as_large_as_the_answer() -> None:
    events = run(TextDelta(TEXT * 20), response(TEXT * 20), store=MemoryStore())
    deltas = [event for event in events if event.type == "text_delta"]

    assert "".join(event.text_delta for event in deltas) == TEXT * 20
    assert len(deltas) > 1


class Text(str):
    """A text that can be referred to weakly."""


def test_a_piece_that_was_too_large_is_not_kept_while_the_turn_is_sealed() -> None:
    alive: list[bool] = []
    refs: list[weakref.ref[Text]] = []

    class Provider(Scripted):
        async def stream(self, request: Any) -> Any:
            text = Text("x" * 100_000)
            refs.append(weakref.ref(text))
            piece = TextDelta(text)
            del text
            yield piece

    class Store(MemoryStore):
        def append(self, thread: Any, records: Any, *rest: Any, **options: Any) -> None:
            if any(record.kind == "seal" for record in records):
                alive.append(refs[0]() is not None)
            super().append(thread, records, *rest, **options)

    async def main() -> list[Event]:
        async with runner_of(Provider([]), store=Store()) as runner:
            chosen = agent(fail_safe=FailSafeConfig(max_turn_mb=0.01))
            return await collect(await runner.run_stream(chosen, user_message="hi", thread_id="t"))

    events = asyncio.run(main())
    assert events[-1].type == "completed"
    assert events[-1].result.reason == "max_turn_mb"
    assert alive == [False]
    assert max(len(event_to_json(event)) for event in events[:-1]) < 3000
