"""Changes of a thread itself, such as its name or the turns that are undone, as its `meta` records tell of them.

A `meta` record of a kind or version that this afk does not know may change what the turns mean, so a history with one
is refused and never read without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from afkcli.core.contract.errors import UnsupportedRecordError
from afkcli.core.contract.jsonform import Json, JsonError, JsonObject
from afkcli.core.contract.protocols import Record

VERSION = 1
CHANGED = "changed"
"""The kind of a change of metadata, and of a record that names no kind (as all do that afk 0.1 wrote)."""
UNDONE, REDONE, REPLACED = "undone", "redone", "replaced"

FIELDS = frozenset({"name", "title", "folder", "tags"})
"""The fields of `ThreadInfo` that a change may set."""


class ThreadChange(NamedTuple):
    """One change of the thread's metadata: the index of its record, the turns before it, the new values by field."""

    record: int
    turn: int
    fields: Mapping[str, Json]


class Undo(NamedTuple):
    """Some turns were undone. `turn` is the number of the last turn that was opened before."""

    record: int
    turn: int
    turns: tuple[int, ...]


class Redo(NamedTuple):
    """The undo in the record with the index `undo` was taken back."""

    record: int
    turn: int
    undo: int


class Replacement(NamedTuple):
    """The turn `by` asked the question of `turns` again and takes their place, as long as it is not undone itself."""

    record: int
    turn: int
    turns: tuple[int, ...]
    by: int


Change: TypeAlias = ThreadChange | Undo | Redo | Replacement


def changed_body(was: JsonObject, now: JsonObject) -> JsonObject:
    """Return the body of the record that changes metadata of a thread from `was` to `now`, both by field."""
    return {"v": VERSION, "changes": now, "was": was}


def undone_body(turns: Sequence[int]) -> JsonObject:
    """Return the body of the record that undoes `turns`."""
    return {"v": VERSION, "kind": UNDONE, "turns": list(turns)}


def redone_body(undo: Undo) -> JsonObject:
    """Return the body of the record that takes back `undo`."""
    return {"v": VERSION, "kind": REDONE, "undo": undo.record}


def replaced_body(turns: Sequence[int], by: int) -> JsonObject:
    """Return the body of the record that puts the turn `by` in the place of `turns`."""
    return {"v": VERSION, "kind": REPLACED, "turns": list(turns), "by": by}


def read_change(thread: str, record: Record, body: JsonObject) -> Change:
    """Return the change that a `meta` record tells of.

    Args:
        thread: the thread's name, for the error.
        record: the record.
        body: its body, parsed.

    Raises:
        UnsupportedRecordError: its version, its kind or a field that it sets is unknown; a newer afk wrote it.
        JsonError: it is not such as afk writes.
    """
    version, kind = body.get("v"), body.get("kind", CHANGED)
    if version == VERSION and kind == CHANGED:
        return _thread_change(thread, record, body)
    if version == VERSION and kind == UNDONE:
        return Undo(record.index, record.turn, _numbers(body, "turns"))
    if version == VERSION and kind == REDONE:
        return Redo(record.index, record.turn, _number(body, "undo"))
    if version == VERSION and kind == REPLACED:
        return Replacement(record.index, record.turn, _numbers(body, "turns"), _number(body, "by"))
    raise _unsupported(thread, record, f"meta kind {kind!r}, version {version!r}")


def _thread_change(thread: str, record: Record, body: JsonObject) -> ThreadChange:
    changes = body.get("changes")
    if not isinstance(changes, dict):
        raise JsonError("a meta record has no object 'changes'")
    unknown = sorted(changes.keys() - FIELDS)
    if unknown:
        raise _unsupported(thread, record, f"a change of {unknown[0]!r}")
    return ThreadChange(record=record.index, turn=record.turn, fields=changes)


def _number(body: JsonObject, name: str) -> int:
    number = body.get(name)
    if type(number) is not int:
        raise JsonError(f"a meta record has no number {name!r}")
    return number


def _numbers(body: JsonObject, name: str) -> tuple[int, ...]:
    numbers = body.get(name)
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise JsonError(f"a meta record has no list of numbers {name!r}")
    return tuple(numbers)


def _unsupported(thread: str, record: Record, what: str) -> UnsupportedRecordError:
    return UnsupportedRecordError(
        f"record {record.index} of thread {thread!r} was written by a newer afk ({what}): upgrade afk"
    )
