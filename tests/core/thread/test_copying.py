"""Threads are copied from one store into another: whole, to the letter, and never over something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from afkcli.core.contract.errors import ConflictError, ThreadBusyError, UnknownNameError
from afkcli.core.contract.messages import Role, text_message
from afkcli.core.contract.protocols import LEASE_SECONDS, Owner, Record, Store
from afkcli.core.contract.structs import replace
from afkcli.core.thread.copying import Copier
from afkcli.core.thread.history import load_history
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.undoing import undo
from afkcli.host.owner import current_owner
from afkcli.testing.store_case import PICTURE
from afkcli.testing.store_steps import (
    ShiftedTime,
    acquired,
    asked,
    digest,
    save,
    save_turn,
    with_journal,
    with_meta,
    with_question,
    with_seal,
)


def owner() -> Owner:
    return current_owner("copy")


def copier(source: Store, target: Store, said: list[str] | None = None) -> Copier:
    return Copier(source, target, owner, ([] if said is None else said).append)


def turns(store: Store, name: str) -> list[str]:
    thread = store.find(name)
    assert thread is not None
    return [turn.messages[0].text for turn in load_history(store, thread).turns]


def test_a_thread_comes_with_its_key_its_records_and_its_metadata() -> None:
    source, target = MemoryStore(), MemoryStore()
    lease = save_turn(source, acquired(source, "trip"), "question", "answer")
    lease = save(source, lease, with_meta(lease.thread, folder="/a", tags=("x",)))
    lease = save_turn(source, lease, "second", "answer")
    source.release(undo(source, lease).lease)
    info = source.list()[0]

    restored = copier(source, target).copy(info)

    assert (restored.outcome, restored.thread) == ("imported", info)
    assert target.find("trip") == source.find("trip") == info
    assert list(target.load(info.key)) == list(source.load(info.key))
    assert target.holder("trip") is None


def test_attachments_come_with_their_thread() -> None:
    source, target = MemoryStore(), MemoryStore()
    part = {
        "type": "image",
        "name": "a.png",
        "media_type": "image/png",
        "size": len(PICTURE),
        "sha256": digest(PICTURE),
    }
    lease = acquired(source, "trip")
    thread, record = with_question(lease.thread, "question")
    body = {"v": 1, "run_id": "run-1", "agent": "a", "model": "m", "messages": [{"role": "user", "parts": [part]}]}
    lease = save(source, lease, _with_body(lease.thread, thread, record, body), {digest(PICTURE): PICTURE})
    lost = dict(part, name="lost.png", sha256=digest(b"lost"))
    thread, record = with_seal(lease.thread, [text_message(Role.USER, "question")])
    sealed = _sealed_body(record, [part, lost])
    source.release(save(source, lease, _with_body(lease.thread, thread, record, sealed)))
    said: list[str] = []

    copier(source, target, said).copy(source.list()[0])

    assert target.content(source.list()[0].key, digest(PICTURE)) == PICTURE
    assert said == ["the content of lost.png in the thread 'trip' is missing from the thread; it is copied without it"]


def _with_body(before, thread, record, body):
    from afkcli.core.thread.records import advance, next_record

    made = next_record(before, record.kind, record.turn, body)
    moved = advance(before, made)
    return replace(thread, head=moved.head, kept_head=moved.kept_head, next_index=moved.next_index), made


def _sealed_body(record: Record, parts: Sequence[Mapping[str, object]]) -> dict[str, object]:
    from afkcli.core.contract.jsonform import loads_object

    body = loads_object(record.body)
    return {**body, "messages": [{"role": "user", "parts": list(parts)}]}


def test_a_copy_that_is_made_again_adds_what_followed() -> None:
    source, target = MemoryStore(), MemoryStore()
    lease = save_turn(source, acquired(source, "trip"), "first", "answer")
    source.release(lease)
    assert copier(source, target).copy(source.list()[0]).outcome == "imported"
    assert copier(source, target).copy(source.list()[0]).outcome == "present"
    lease = acquired(source, "trip")
    for text in ("second", "third"):
        lease = save_turn(source, lease, text, "answer")
    source.release(lease)

    assert copier(source, target).copy(source.list()[0]).outcome == "appended"

    assert turns(target, "trip") == ["first", "second", "third"]
    assert target.find("trip") == source.find("trip")


def test_a_copy_that_was_continued_on_its_own_is_refused() -> None:
    source, target = MemoryStore(), MemoryStore()
    source.release(save_turn(source, acquired(source, "trip"), "first", "answer"))
    copier(source, target).copy(source.list()[0])
    source.release(save_turn(source, acquired(source, "trip"), "here", "answer"))
    target.release(save_turn(target, acquired(target, "trip"), "there", "answer"))

    with pytest.raises(ConflictError, match="has different turns"):
        copier(source, target).copy(source.list()[0])

    assert turns(target, "trip") == ["first", "there"]
    assert turns(source, "trip") == ["first", "here"]


def test_another_thread_of_the_name_is_never_changed() -> None:
    source, target = MemoryStore(), MemoryStore()
    source.release(save_turn(source, acquired(source, "trip"), "mine", "answer"))
    target.release(save_turn(target, acquired(target, "trip"), "theirs", "answer"))

    with pytest.raises(ConflictError, match="another thread 'trip'; rename one of them with `afk threads rename`"):
        copier(source, target).copy(source.list()[0])

    assert turns(target, "trip") == ["theirs"]


def test_a_thread_that_a_run_uses_is_refused() -> None:
    source, target = MemoryStore(), MemoryStore()
    asked(source, "trip")

    with pytest.raises(ThreadBusyError, match="'trip' is in use"):
        copier(source, target).copy(source.list()[0])

    assert list(target.list()) == []


def test_the_turn_of_a_dead_run_is_sealed_and_copied() -> None:
    source, target = MemoryStore(), MemoryStore()
    time = ShiftedTime()
    time.start()
    try:
        lease = asked(source, "trip")
        save(source, lease, with_journal(lease.thread, "half an ans"))
        time.advance(LEASE_SECONDS + 1)
        copier(source, target).copy(source.list()[0])
    finally:
        time.stop()
    thread = target.find("trip")
    assert thread is not None
    (turn,) = load_history(target, thread).turns
    assert (turn.state.value, turn.messages[1].text) == ("interrupted", "half an ans")


@pytest.mark.parametrize("damage", [{"body": "{}"}, {"body": "no json"}, {"prev": "x"}, {"hash": ""}])
def test_a_damaged_thread_is_refused_and_named(damage: dict[str, str]) -> None:
    source, target = MemoryStore(), MemoryStore()
    lease = save_turn(source, acquired(source, "trip"), "first", "answer")
    source.release(save_turn(source, lease, "second", "answer"))
    info = source.list()[0]
    first, second = source.load(info.key)
    source.put(info, [replace(first, **damage), second])

    with pytest.raises(ConflictError, match=r"the thread 'trip' is not copied: .*record"):
        copier(source, target).copy(info)

    assert list(target.list()) == []


def test_a_thread_that_was_deleted_meanwhile_is_unknown() -> None:
    source, target = MemoryStore(), MemoryStore()
    lease = save_turn(source, acquired(source, "trip"), "first", "answer")
    info = lease.thread
    source.delete(lease)

    with pytest.raises(UnknownNameError):
        copier(source, target).copy(info)
