"""Undo and redo: the last questions of a thread with their answers are set aside, and come back."""

from __future__ import annotations

from collections.abc import Sequence

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.protocols import THREAD_SCHEMA, Lease, Record, RecordKind, Store, ThreadInfo
from afkcli.core.contract.structs import FrozenStruct, replace
from afkcli.core.thread.changes import Compaction, Undo, redone_body, replaced_body, undone_body
from afkcli.core.thread.compactions import compactions_in_force
from afkcli.core.thread.history import History, load_history
from afkcli.core.thread.records import advance, next_record
from afkcli.core.thread.set_aside import asked_last, undos_in_force
from afkcli.core.thread.turns import SealedTurn


class Changed(FrozenStruct, kw_only=True):
    """A thread after an undo or a redo.

    `lease` has the thread as it is now. `gone` and `back` are the turns that were set aside and those that came back,
    in order: an undo of a turn that replaced another brings that one back. `gone_compactions` and `back_compactions`
    are the same of compactions: without them the turns that they cover are sent again.
    """

    lease: Lease
    gone: tuple[SealedTurn, ...]
    back: tuple[SealedTurn, ...]
    gone_compactions: tuple[Compaction, ...] = ()
    back_compactions: tuple[Compaction, ...] = ()


def undo(store: Store, lease: Lease, count: int = 1) -> Changed:
    """Undo the last `count` questions of the thread of `lease`, each with all that was answered.

    Nothing is deleted: the turns keep their numbers, and what they cost stays counted. A compaction that was asked for
    after the last question counts as one of `count`. One that a run made stays when its turn is undone, because what it
    says stays true.

    Raises:
        UsageError: the thread has fewer questions.
        UnsupportedRecordError: a newer afk changed the thread.
    """
    history = load_history(store, lease.thread)
    numbers: list[int] = []
    compactions: list[int] = []
    without = history
    for done in range(count):
        last = asked_last(without.seen)
        compaction = _asked_after(without, last)
        if compaction is not None:
            compactions.append(compaction.record)
        elif last:
            numbers += [turn.turn for turn in last]
        else:
            raise UsageError(_nothing_left(lease.thread, done, len(compactions)))
        without = _with(history, Undo(lease.thread.next_index, lease.thread.turns, tuple(numbers), tuple(compactions)))
    return _append(store, lease, history, without, undone_body(sorted(numbers), sorted(compactions)))


def _asked_after(history: History, last: Sequence[SealedTurn]) -> Compaction | None:
    """Return the last compaction that was asked for after the question of `last`, if it is in force."""
    number = last[-1].turn if last else 0
    for compaction in reversed(compactions_in_force(history.changes)):
        if compaction.run_id is None and compaction.turn >= number:
            return compaction
    return None


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
        raise UsageError(f"turn {last.turn + 1} was asked after the undo; {_other_way(thread, last)}")
    body = redone_body(last)
    changes = tuple(change for change in history.changes if change != last)
    return _append(store, lease, history, replace(history, changes=changes), body)


def _other_way(thread: ThreadInfo, undo: Undo) -> str:
    if not undo.turns:
        return f"`afk threads compact {thread.name}` makes a new summary"
    return f"`afk threads fork {thread.name} NEW --at {undo.turns[-1]}` makes a thread of what was undone"


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
    made, made_before = compactions_in_force(after.changes), compactions_in_force(before.changes)
    return Changed(
        lease=replace(lease, thread=changed),
        gone=tuple(turn for turn in seen_before if turn.turn not in now),
        back=tuple(turn for turn in seen if turn.turn not in then),
        gone_compactions=tuple(compaction for compaction in made_before if compaction not in made),
        back_compactions=tuple(compaction for compaction in made if compaction not in made_before),
    )


def _nothing_left(thread: ThreadInfo, done: int, compactions: int) -> str:
    if done == 0:
        return f"there is nothing to undo: the thread {thread.name!r} has no turn"
    what = "change" if compactions else "question"
    return f"the thread {thread.name!r} has only {done} {what}{'' if done == 1 else 's'} to undo"
