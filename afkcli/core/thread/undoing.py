"""Undo and redo: the last questions of a thread with their answers are set aside, and come back."""

from __future__ import annotations

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.protocols import THREAD_SCHEMA, Lease, Record, RecordKind, Store, ThreadInfo
from afkcli.core.contract.structs import FrozenStruct, replace
from afkcli.core.thread.changes import Undo, redone_body, replaced_body, undone_body
from afkcli.core.thread.history import History, load_history
from afkcli.core.thread.records import advance, next_record
from afkcli.core.thread.set_aside import asked_last, undos_in_force
from afkcli.core.thread.turns import SealedTurn


class Changed(FrozenStruct, kw_only=True):
    """A thread after an undo or a redo.

    `lease` has the thread as it is now. `gone` and `back` are the turns that were set aside and those that came back,
    in order: an undo of a turn that replaced another brings that one back.
    """

    lease: Lease
    gone: tuple[SealedTurn, ...]
    back: tuple[SealedTurn, ...]


def undo(store: Store, lease: Lease, count: int = 1) -> Changed:
    """Undo the last `count` questions of the thread of `lease`, each with all that was answered.

    Nothing is deleted: the turns keep their numbers, and what they cost stays counted.

    Raises:
        UsageError: the thread has fewer questions.
        UnsupportedRecordError: a newer afk changed the thread.
    """
    history = load_history(store, lease.thread)
    numbers: list[int] = []
    without = history
    for done in range(count):
        last = asked_last(without.seen)
        if not last:
            raise UsageError(_nothing_left(lease.thread, done))
        numbers += [turn.turn for turn in last]
        without = _with(history, Undo(lease.thread.next_index, lease.thread.turns, tuple(numbers)))
    return _append(store, lease, history, without, undone_body(sorted(numbers)))


def redo(store: Store, lease: Lease) -> Changed:
    """Take back the last undo of the thread of `lease`.

    Raises:
        UsageError: there is no undo, or another question was asked since.
        UnsupportedRecordError: a newer afk changed the thread.
    """
    history, thread = load_history(store, lease.thread), lease.thread
    undos = undos_in_force(history.changes)
    if not undos:
        raise UsageError(f"there is nothing to redo: no turn of the thread {thread.name!r} is undone")
    last = undos[-1]
    if thread.turns > last.turn:
        raise UsageError(
            f"turn {last.turn + 1} was asked after the undo; `afk threads fork {thread.name} NEW --at {last.turns[-1]}`"
            " makes a thread of what was undone"
        )
    body = redone_body(last)
    changes = tuple(change for change in history.changes if change != last)
    return _append(store, lease, history, replace(history, changes=changes), body)


def replacement(thread: ThreadInfo, turns: tuple[int, ...], by: int) -> tuple[ThreadInfo, Record]:
    """Return the record that puts the turn `by`, which is about to be opened, in the place of `turns`.

    Returns:
        The thread as it is after that record, and the record.
    """
    record = next_record(thread, RecordKind.META, by, replaced_body(turns, by))
    return replace(advance(thread, record), schema=THREAD_SCHEMA), record


def _with(history: History, undo: Undo) -> History:
    return replace(history, changes=(*history.changes, undo))


def _append(store: Store, lease: Lease, before: History, after: History, body: JsonObject) -> Changed:
    """Append the record `body`, which makes `after` of the history `before`."""
    seen, seen_before = after.seen, before.seen
    now, then = ({turn.turn for turn in turns} for turns in (seen, seen_before))
    thread = lease.thread
    record = next_record(thread, RecordKind.META, thread.turns, body)
    last = seen[-1] if seen else None
    changed = replace(
        advance(thread, record),
        schema=THREAD_SCHEMA,
        last_state=last.state if last else None,
        last_run_id=last.run_id if last else None,
    )
    store.append(changed, [record], thread.head, lease)
    return Changed(
        lease=replace(lease, thread=changed),
        gone=tuple(turn for turn in seen_before if turn.turn not in now),
        back=tuple(turn for turn in seen if turn.turn not in then),
    )


def _nothing_left(thread: ThreadInfo, done: int) -> str:
    if done == 0:
        return f"there is nothing to undo: the thread {thread.name!r} has no turn"
    return f"the thread {thread.name!r} has only {done} question{'' if done == 1 else 's'} to undo"
