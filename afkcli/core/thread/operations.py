"""Operations on a whole thread: find it, hold it, fork it, rename it, seal the turn that a dead run left open."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from afkcli.core.contract.errors import (
    AfkError,
    LeaseLostError,
    StoreError,
    ThreadBusyError,
    UsageError,
)
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.protocols import THREAD_SCHEMA, Fork, Lease, Owner, Record, RecordKind, Store, ThreadInfo
from afkcli.core.contract.result import RunState
from afkcli.core.contract.structs import replace
from afkcli.core.thread.attachments import attached_parts
from afkcli.core.thread.changes import Compaction, changed_body, compacted_body
from afkcli.core.thread.compactions import compactions_in_force, fits
from afkcli.core.thread.contents import stored_contents
from afkcli.core.thread.fitting import fitted
from afkcli.core.thread.history import History, load_history, no_messages
from afkcli.core.thread.listing import RUNNING
from afkcli.core.thread.lookup import unknown_thread
from afkcli.core.thread.names import check_name, check_tag
from afkcli.core.thread.records import advance, next_record
from afkcli.core.thread.set_aside import changes_until, path_to
from afkcli.core.thread.turns import SealedTurn, after_seal, interrupted_turn, turn_to_json


def find_thread(store: Store, name: str) -> ThreadInfo:
    """Return the thread that has exactly the name `name`.

    Raises:
        UnknownNameError: there is no such thread; the error names those with similar names.
        InvalidNameError: `name` is not a valid thread name.
    """
    name = check_name(name)
    found = store.find(name)
    if found is None:
        raise unknown_thread(store, name)
    return found


def holder_of(store: Store, name: str) -> str:
    """Return " by process PID on HOST" for the run that holds the thread `name`, "" if the store does not know it."""
    holder = store.holder(name)
    return f" by process {holder.pid} on {holder.host}" if holder else ""


def lease_of(store: Store, name: str, owner: Owner) -> Lease:
    """Return the lease of the thread `name`, taken without waiting; raises as `held`."""
    lease = store.acquire(name, owner, create=False)
    if lease is None:
        who = holder_of(store, name)
        raise ThreadBusyError(f"the thread {name!r} is in use{who}; try again when its run has ended")
    return lease


@contextlib.contextmanager
def held(store: Store, name: str, owner: Owner, *, seal: bool = True) -> Iterator[Lease]:
    """Hold the lease of the thread `name`, taken without waiting.

    Args:
        store: where the thread is kept.
        name: its name.
        owner: who holds the lease.
        seal: whether a turn that a dead run left open is sealed first.

    Raises:
        ThreadBusyError: a run holds the thread.
        UnknownNameError: there is no such thread.
    """
    lease = lease_of(store, name, owner)
    try:
        if seal and lease.thread.open_turn is not None:
            lease, _ = seal_interrupted(store, lease, load_history(store, lease.thread, no_messages))
        yield lease
    finally:
        with contextlib.suppress(StoreError):
            store.release(lease)


def settled(store: Store, info: ThreadInfo, owner: Callable[[], Owner]) -> tuple[ThreadInfo, str | None]:
    """Return a thread and its state as they are now: `RUNNING`, or how its last turn ended (None: it has no turn).

    A turn whose run is dead is sealed as `interrupted`. If that cannot be written, the state is the same.
    """
    if info.open_turn is None:
        return info, info.last_state
    try:
        with held(store, info.name, owner()) as lease:
            return lease.thread, lease.thread.last_state
    except (ThreadBusyError, LeaseLostError):
        return info, RUNNING
    except StoreError:
        return info, RunState.INTERRUPTED.value


def seal_interrupted(store: Store, lease: Lease, history: History) -> tuple[Lease, History]:
    """Seal the turn that a dead owner left open as `interrupted`; see `seal_open_turn`."""
    return seal_open_turn(store, lease, history, RunState.INTERRUPTED)


def seal_open_turn(store: Store, lease: Lease, history: History, state: RunState) -> tuple[Lease, History]:
    """Seal the turn that is open, with its question and the text that was journaled.

    Returns:
        The lease and the history afterwards; both unchanged if no turn is open.
    """
    thread = lease.thread
    if thread.open_turn is None:
        return lease, history
    turn = fitted(replace(interrupted_turn(thread, thread.open_turn, history.open_records), state=state))
    record = next_record(thread, RecordKind.SEAL, turn.turn, turn_to_json(turn))
    sealed = after_seal(advance(thread, record), turn)
    store.append(sealed, [record], thread.head, lease)
    return replace(lease, thread=sealed), replace(history, turns=(*history.turns, turn), open_records=())


def rename(store: Store, lease: Lease, name: str) -> ThreadInfo:
    """Rename the thread of `lease`, and return it as it is then.

    Raises:
        UsageError: it has that name already.
        InvalidNameError: `name` is not a valid thread name.
        NameTakenError: another thread has the name.
        UnsupportedRecordError: a newer afk changed the thread.
    """
    thread, name = lease.thread, check_name(name)
    if thread.name == name:
        raise UsageError(f"the thread is already called {name!r}")
    return _changed(store, lease, {"name": thread.name}, {"name": name}, replace(thread, name=name))


def tag(store: Store, lease: Lease, add: Sequence[str] = (), remove: Sequence[str] = ()) -> ThreadInfo:
    """Add tags to the thread of `lease` and remove others, and return it as it is then; nothing else is written.

    Raises:
        UsageError: a tag is empty, or too long, or has a blank, a comma or a control character.
        UnsupportedRecordError: a newer afk changed the thread.
    """
    thread = lease.thread
    kept = [name for name in thread.tags if name not in remove]
    tags = (*kept, *dict.fromkeys(check_tag(name) for name in add if name not in kept))
    if tags == thread.tags:
        return thread
    return _changed(store, lease, {"tags": list(thread.tags)}, {"tags": list(tags)}, replace(thread, tags=tags))


def _changed(store: Store, lease: Lease, was: JsonObject, now: JsonObject, changed: ThreadInfo) -> ThreadInfo:
    """Append the record that changes metadata from `was` to `now`, and return the thread `changed` as it is then."""
    thread = lease.thread
    load_history(store, thread, no_messages)  # a thread that this afk cannot read is left as it is
    record = next_record(thread, RecordKind.META, thread.turns, changed_body(was, now))
    changed = advance(changed, record)
    store.append(changed, [record], thread.head, lease)
    return changed


def fork(
    store: Store, source: ThreadInfo, name: str, owner: Owner, *, at: int | None = None, must_have_turns: bool = False
) -> Lease:
    """Create the thread `name` with the turns of `source` and their attachments, and return its lease.

    The fork has copies of all that it needs, so the source may be deleted.

    Args:
        store: where both are kept.
        source: the thread to fork.
        name: the name of the fork.
        owner: who takes the lease.
        at: the number of the last turn to take over, with the turns that were seen when it was the last one; it may be
            set aside. By default all turns that are not set aside.
        must_have_turns: whether to refuse a fork without a turn, which would be gone with its lease.

    Raises:
        UsageError: `source` has no turn `at`, or none at all.
        StoreError: `name` exists, or the store failed.
        UnsupportedRecordError: a newer afk changed `source`.
    """
    history = load_history(store, source)
    if at is not None and all(turn.turn != at for turn in history.turns):
        numbers = ", ".join(str(turn.turn) for turn in history.turns[-5:])
        there = (
            f"its last turn{' is' if len(history.turns) == 1 else 's are'} {numbers}"
            if numbers
            else "it has no turn yet"
        )
        raise UsageError(f"the thread {source.name!r} has no turn {at}; {there}")
    changes = history.changes if at is None else changes_until(at, history.changes)
    turns = history.seen if at is None else path_to(at, history.turns, history.changes)
    if must_have_turns and not turns:
        raise UsageError(f"the thread {source.name!r} has no turn that a fork could have")
    lease = store.acquire(name, owner)
    if lease is None or lease.thread.head:
        if lease is not None:
            store.release(lease)
        raise StoreError(f"there is already a thread {name!r}; choose another name")
    last = turns[-1].turn if turns else 0
    thread = replace(
        lease.thread,
        title=source.title,
        folder=source.folder,
        agent=source.agent,
        model=source.model,
        turns=last,
        last_state=turns[-1].state if turns else None,
        last_run_id=turns[-1].run_id if turns else None,
        parent=Fork(key=source.key, name=source.name, turn=last),
    )
    left_behind = {turn.turn for turn in history.turns}.difference(turn.turn for turn in turns)
    compactions = [made for made in compactions_in_force(changes) if fits(made, turns, left_behind)]
    thread, records = _copied(thread, turns, compactions)
    attached = {part.sha256 for turn in turns for part in attached_parts(turn.messages)}
    try:
        contents = stored_contents(store, source.key, attached)
        store.append(thread, records, lease.thread.head, lease, contents)
    except AfkError:
        store.release(lease)
        raise
    return replace(lease, thread=thread)


def _copied(
    thread: ThreadInfo, turns: Sequence[SealedTurn], compactions: Sequence[Compaction]
) -> tuple[ThreadInfo, list[Record]]:
    """Return the records of `turns` with those of their `compactions` in between, and `thread` as it is then.

    What a compaction cost stays with the thread that paid for it, as what a turn cost does.
    """
    records, waiting = list[Record](), list(compactions)
    kept: list[tuple[RecordKind, int, JsonObject]] = []
    for turn in turns:
        while waiting and _is_before(waiting[0], turn.turn):
            kept.append((RecordKind.META, min(waiting[0].turn, thread.turns), compacted_body(waiting.pop(0))))
        kept.append((RecordKind.SEAL, turn.turn, turn_to_json(fitted(turn))))
    kept += [(RecordKind.META, thread.turns, compacted_body(compaction)) for compaction in waiting]
    for kind, number, body in kept:
        record = next_record(thread, kind, number, body)
        thread = advance(thread, record)
        records.append(record)
    return (replace(thread, schema=THREAD_SCHEMA) if compactions else thread), records


def _is_before(compaction: Compaction, number: int) -> bool:
    """Return whether a compaction was made before the turn `number` was sealed."""
    return compaction.turn <= number if compaction.run_id is not None else compaction.turn < number
