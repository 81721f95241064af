"""Of a history that is sent, no messages are made that are not sent; what is sent is the same, and damage is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from afkcli.core.contract.errors import ErrorKind
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.messages import Message, Role, text_message
from afkcli.core.contract.protocols import Record, RecordKind, ThreadInfo
from afkcli.core.contract.result import RunState
from afkcli.core.thread import seals
from afkcli.core.thread.history import History, fold, no_messages
from afkcli.core.thread.records import advance, next_record
from afkcli.core.thread.sending import history_warnings, sent_turns, turns_to_send
from afkcli.core.thread.turns import SealedTurn, turn_to_json
from tests.core.thread.made_turns import info, sealed

BROKEN: list[JsonObject] = [{"role": "user", "parts": [{"type": "of a later version"}]}]


class Made:
    """A thread that is made record by record."""

    def __init__(self) -> None:
        self.thread: ThreadInfo = info()
        self.records: list[Record] = []

    def _add(self, kind: RecordKind, turn: int, body: JsonObject) -> None:
        record = next_record(self.thread, kind, turn, body)
        self.thread = replace(advance(self.thread, record), turns=max(self.thread.turns, turn))
        self.records.append(record)

    def seal(self, number: int, state: RunState = RunState.COMPLETED, **changes: object) -> None:
        messages = changes.pop("messages", None)
        turn = replace(sealed(state, None, *said(number)), turn=number, run_id=f"run-{number}")
        form = turn_to_json(replace(turn, **changes))
        self._add(RecordKind.SEAL, number, form if messages is None else {**form, "messages": messages})

    def fold(self, *wanted: object) -> History:
        return fold(self.thread, self.records, *wanted)  # type: ignore[arg-type]


def said(number: int) -> tuple[Message, Message]:
    return text_message(Role.USER, f"question {number}"), text_message(Role.ASSISTANT, f"answer {number}")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The messages that were made from JSON."""
    read: list[object] = []

    def counted(real: Callable[[Any], Message]) -> Callable[[Any], Message]:
        def make(form: object) -> Message:
            read.append(form)
            return real(form)

        return make

    for name in ("message_from_json", "message_of_text"):
        monkeypatch.setattr(seals, name, counted(getattr(seals, name)))
    return read


def refused(thread: Made) -> None:
    for number in range(1, 11):
        is_refused = number % 2 == 0
        kind = ErrorKind.BAD_REQUEST if is_refused else None
        thread.seal(number, RunState.FAILED if is_refused else RunState.COMPLETED, error_kind=kind, reason=kind)


def resumed(thread: Made) -> None:
    for number in range(1, 11, 2):
        thread.seal(number, RunState.INTERRUPTED)
        thread.seal(number + 1, resumed=True, parent_run_id=f"run-{number}")


@pytest.mark.parametrize("kind", [refused, resumed])
def test_half_of_a_thread_that_is_not_sent_is_not_made_into_messages(kind: object, made: list[object]) -> None:
    thread = Made()
    kind(thread)  # type: ignore[operator]
    whole = thread.fold()
    assert len(made) == 20
    made.clear()
    history = thread.fold(turns_to_send)
    assert len(made) == 10
    assert sent_turns(history) == sent_turns(whole)
    assert history_warnings(history) == history_warnings(whole)
    assert [turn.run_id for turn in history.turns] == [turn.run_id for turn in whole.turns]


def test_of_an_operation_on_a_thread_nothing_is_made_into_messages(made: list[object]) -> None:
    thread = Made()
    resumed(thread)
    history = thread.fold(no_messages)
    assert made == []
    assert len(history.turns) == 10


def test_a_turn_that_is_sent_and_cannot_be_read_is_named_before_it_is_sent() -> None:
    thread = Made()
    thread.seal(1)
    thread.seal(2, messages=BROKEN)
    thread.seal(3)
    history = thread.fold(turns_to_send)
    assert [turn.turn for turn in sent_turns(history)] == [1, 3]
    assert history == thread.fold()
    (line,) = history.damage
    assert "turn 2 of thread" in line
    assert "messages.0.parts.0" in line


def test_what_a_turn_replaced_that_cannot_be_read_is_sent_in_its_place() -> None:
    thread = Made()
    thread.seal(1, RunState.INTERRUPTED)
    thread.seal(2, resumed=True, parent_run_id="run-1", messages=BROKEN)
    history = thread.fold(turns_to_send)
    assert [turn.turn for turn in sent_turns(history)] == [1]
    assert sent_turns(history) == sent_turns(thread.fold())


def test_a_sealed_turn_without_messages_is_whole() -> None:
    thread = Made()
    thread.seal(1, messages=[])
    turn: SealedTurn = thread.fold(turns_to_send).turns[0]
    assert turn.messages == ()
