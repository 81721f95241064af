"""The steps of a turn as a store meets them, and time that passes at once: for tests of stores."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from afkcli.core.contract.ids import rfc3339
from afkcli.core.contract.messages import Message, Role, text_message
from afkcli.core.contract.protocols import NO_CONTENTS, Append, Lease, OpenTurn, Record, RecordKind, Store, ThreadInfo
from afkcli.core.contract.result import RunState, Usage
from afkcli.core.thread.records import advance, next_record
from afkcli.core.thread.turns import SealedTurn, after_seal, turn_to_json
from afkcli.host.owner import current_owner

_EPOCH = 1_700_000_000  # seconds; the times in the records are counted from here


class ShiftedTime:
    """Lets time pass at once, for `time.time` and `time.monotonic`."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._real = time.time, time.monotonic

    def start(self) -> None:
        wall, monotonic = self._real
        time.time, time.monotonic = lambda: wall() + self._ahead, lambda: monotonic() + self._ahead

    def stop(self) -> None:
        time.time, time.monotonic = self._real

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


def with_question(thread: ThreadInfo, text: str, second: int = 0) -> tuple[ThreadInfo, Record]:
    """Return `thread` with a turn opened by the question `text`, and the record to append."""
    number, now = thread.turns + 1, rfc3339(_EPOCH + second)
    body = {"v": 1, "run_id": f"run-{number}", "agent": "agent", "model": "model", "messages": [_message("user", text)]}
    record = next_record(thread, RecordKind.QUESTION, number, body)
    opened = OpenTurn(turn=number, run_id=f"run-{number}", index=record.index, started=now)
    thread = replace(advance(thread, record), open_turn=opened, turns=number, used=now, title=thread.title or text)
    return thread, record


def with_journal(thread: ThreadInfo, text: str) -> tuple[ThreadInfo, Record]:
    """Return `thread` with `text` journaled in its open turn, and the record to append."""
    record = next_record(thread, RecordKind.JOURNAL, thread.turns, {"v": 1, "messages": [], "text": text})
    return advance(thread, record), record


def with_seal(thread: ThreadInfo, messages: Sequence[Message], second: int = 0) -> tuple[ThreadInfo, Record]:
    """Return `thread` with its open turn sealed, and the record to append."""
    now = rfc3339(_EPOCH + second)
    turn = SealedTurn(
        turn=thread.turns,
        run_id=f"run-{thread.turns}",
        state=RunState.COMPLETED,
        reason=None,
        error=None,
        error_kind=None,
        agent="agent",
        model="model",
        started=now,
        sealed=now,
        messages=tuple(messages),
        usage=Usage(input_tokens=3, output_tokens=4, total_tokens=7),
        cost_usd=0.25,
        steps=1,
    )
    record = next_record(thread, RecordKind.SEAL, turn.turn, turn_to_json(turn))
    return after_seal(advance(thread, record), turn), record


def with_meta(thread: ThreadInfo, **changes: Any) -> tuple[ThreadInfo, Record]:
    """Return `thread` with `changes`, and the record that tells of them."""
    record = next_record(thread, RecordKind.META, thread.turns, {"v": 1, "changes": changes})
    return replace(advance(thread, record), **changes), record


def save(
    store: Store, lease: Lease, step: tuple[ThreadInfo, Record], contents: Mapping[str, bytes] = NO_CONTENTS
) -> Lease:
    """Append the record of `step`, and `contents`; return the lease with the thread as it is then."""
    thread, record = step
    store.append(thread, [record], lease.thread.head, lease, contents)
    return replace(lease, thread=thread)


def appended(lease: Lease, step: tuple[ThreadInfo, Record], contents: Mapping[str, bytes] = NO_CONTENTS) -> Append:
    """Return the operation that appends the record of `step`, and `contents`."""
    thread, record = step
    return Append(thread, [record], lease.thread.head, lease, contents)


def save_turn(store: Store, lease: Lease, question: str, answer: str, second: int = 0) -> Lease:
    """Append a whole turn: question, journal, seal."""
    lease = save(store, lease, with_question(lease.thread, question, second))
    lease = save(store, lease, with_journal(lease.thread, answer))
    messages = (text_message(Role.USER, question), text_message(Role.ASSISTANT, answer))
    return save(store, lease, with_seal(lease.thread, messages, second))


def digest(data: bytes) -> str:
    """Return the hash by which a content is kept."""
    return hashlib.sha256(data).hexdigest()


def acquired(store: Store, name: str = "t-42") -> Lease:
    """Return the lease of `name`, which must be free."""
    lease = store.acquire(name, current_owner("run-0"))
    assert lease is not None
    return lease


def asked(store: Store, name: str = "t-42") -> Lease:
    """Return the lease of `name` with a turn opened by a question."""
    lease = acquired(store, name)
    return save(store, lease, with_question(lease.thread, "question"))


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "text": text}]}
