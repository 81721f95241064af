"""Changes of a thread itself, such as its name or the turns that are undone, as its `meta` records tell of them.

A `meta` record of a kind or version that this afk does not know may change what the turns mean, so a history with one
is refused and never read without it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from afkcli.core.contract.codecs import usage_to_json
from afkcli.core.contract.errors import UnsupportedRecordError
from afkcli.core.contract.jsonform import Json, JsonError, JsonObject, to_plain
from afkcli.core.contract.messages import ProviderData
from afkcli.core.contract.protocols import Record
from afkcli.core.contract.result import Usage, usage_from_json
from afkcli.core.contract.structs import FrozenStruct, field
from afkcli.core.contract.typed_json import from_json

VERSION = 1
CHANGED = "changed"
"""The kind of a change of metadata, and of a record that names no kind (as all do that afk 0.1 wrote)."""
UNDONE, REDONE, REPLACED, COMPACTED = "undone", "redone", "replaced", "compacted"
ALLOWED, REVOKED = "allowed", "revoked"

FIELDS = frozenset({"name", "title", "folder", "tags"})
"""The fields of `ThreadInfo` that a change may set."""


class ThreadChange(NamedTuple):
    """One change of the thread's metadata: the index of its record, the turns before it, the new values by field."""

    record: int
    turn: int
    fields: Mapping[str, Json]


class Undo(NamedTuple):
    """Some turns, and the compactions in the records `compactions`, were undone.

    `turn` is the number of the last turn that was opened before.
    """

    record: int
    turn: int
    turns: tuple[int, ...]
    compactions: tuple[int, ...] = ()


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


class Compaction(FrozenStruct, kw_only=True):
    """Something shorter takes the place of old turns in what is sent; the turns themselves stay in the thread.

    It is used as long as the turns that it covers are the first ones that are seen (`compactions.py`), and may be
    undone. It has what it cost, because it is paid for also where the turn of its run is never sealed: the seal of that
    turn does not have it.

    Args:
        id: a UUIDv7, the same in every fork and import of the thread.
        covers: the turns whose place it takes, as spans of first and last number, in order.
        summary: the text that is sent in place of the turns; "" where `provider_data` alone stands for them.
        model: the full name of the model that made it.
        agent: the name of the agent whose run made it, or whose model was asked.
        started, ended: when it was made, RFC 3339.
        usage: what it took.
        cost_usd: what it cost; None if that is unknown.
        run_id: the run that made it before its own request; None if the user asked for it.
        system: the system prompt of an imported turn that it covers, which is still sent with the instructions.
        provider_data: what a provider made in place of the turns, opaque: it goes back to that provider alone.
        record: the index of its record.
        turn: the number of the last turn that was opened before; the turn of the run that made it.

    Since: 0.2.
    """

    id: str
    covers: tuple[tuple[int, ...], ...]
    summary: str
    model: str
    started: str
    ended: str
    agent: str = ""
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    run_id: str | None = None
    system: str = ""
    provider_data: ProviderData | None = None
    record: int = -1
    turn: int = 0

    @property
    def through(self) -> int:
        """The number of the last turn that it covers."""
        return self.covers[-1][1]

    def has(self, number: int) -> bool:
        """Return whether it covers the turn `number`."""
        at = bisect_right(self.covers, (number, self.through)) - 1
        return at >= 0 and number <= self.covers[at][1]


class Permission(FrozenStruct, kw_only=True):
    """Tool calls that a person allowed for the whole thread.

    The record says what was allowed. It alone allows nothing, because a thread may come from a file: a call is allowed
    only if the store has counted the permission here (`counter_name`).

    Args:
        tool: the name of the tool, or a pattern of names.
        arguments: the arguments of the one call, or a pattern for each argument.
        exact: whether it is one call with exactly these arguments, and not a rule with patterns.
        pins: the fingerprints of the tool as it was.
        other_arguments: whether a rule allows calls with other arguments besides those.
        record: the index of its record.
        turn: the number of the last turn that was opened before.

    Since: 0.2.
    """

    tool: str
    arguments: JsonObject
    exact: bool = False
    pins: tuple[str, ...] = ()
    other_arguments: bool = True
    record: int = -1
    turn: int = 0


class Revocation(NamedTuple):
    """The permission in the record with the index `allowed` was removed."""

    record: int
    turn: int
    allowed: int


Change: TypeAlias = ThreadChange | Undo | Redo | Replacement | Compaction | Permission | Revocation


def changed_body(was: JsonObject, now: JsonObject) -> JsonObject:
    """Return the body of the record that changes metadata of a thread from `was` to `now`, both by field."""
    return {"v": VERSION, "changes": now, "was": was}


def undone_body(turns: Sequence[int], compactions: Sequence[int] = ()) -> JsonObject:
    """Return the body of the record that undoes `turns`, and the compactions in those records."""
    body: JsonObject = {"v": VERSION, "kind": UNDONE, "turns": list(turns)}
    return {**body, "compactions": list(compactions)} if compactions else body


def redone_body(undo: Undo) -> JsonObject:
    """Return the body of the record that takes back `undo`."""
    return {"v": VERSION, "kind": REDONE, "undo": undo.record}


def replaced_body(turns: Sequence[int], by: int) -> JsonObject:
    """Return the body of the record that puts the turn `by` in the place of `turns`."""
    return {"v": VERSION, "kind": REPLACED, "turns": list(turns), "by": by}


def compacted_body(compaction: Compaction) -> JsonObject:
    """Return the body of the record of a compaction; its place in the thread is that of the record."""
    names = (name for name in Compaction.__struct_fields__ if name not in ("record", "turn"))
    form: JsonObject = {name: to_plain(getattr(compaction, name)) for name in names}
    return {"v": VERSION, "kind": COMPACTED, **form}


def allowed_body(permission: Permission) -> JsonObject:
    """Return the body of the record of a permission; its place in the thread is that of the record."""
    names = (name for name in Permission.__struct_fields__ if name not in ("record", "turn"))
    return {"v": VERSION, "kind": ALLOWED, **{name: to_plain(getattr(permission, name)) for name in names}}


def revoked_body(permission: Permission) -> JsonObject:
    """Return the body of the record that removes `permission`."""
    return {"v": VERSION, "kind": REVOKED, "allowed": permission.record}


def spans(numbers: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Return rising numbers as spans of first and last number."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple(found)


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
        compactions = _numbers(body, "compactions") if "compactions" in body else ()
        return Undo(record.index, record.turn, _numbers(body, "turns"), compactions)
    if version == VERSION and kind == REDONE:
        return Redo(record.index, record.turn, _number(body, "undo"))
    if version == VERSION and kind == REPLACED:
        return Replacement(record.index, record.turn, _numbers(body, "turns"), _number(body, "by"))
    if version == VERSION and kind == COMPACTED:
        return _compaction(record, body)
    if version == VERSION and kind in (ALLOWED, REVOKED):
        return _permission(record, body, kind)
    raise _unsupported(thread, record, f"meta kind {kind!r}, version {version!r}")


def _thread_change(thread: str, record: Record, body: JsonObject) -> ThreadChange:
    changes = body.get("changes")
    if not isinstance(changes, dict):
        raise JsonError("a meta record has no object 'changes'")
    unknown = sorted(changes.keys() - FIELDS)
    if unknown:
        raise _unsupported(thread, record, f"a change of {unknown[0]!r}")
    return ThreadChange(record=record.index, turn=record.turn, fields=changes)


def _compaction(record: Record, body: JsonObject) -> Compaction:
    usage = usage_to_json(usage_from_json(body.get("usage")))  # read leniently, as that of a seal
    found = from_json(Compaction, {**body, "usage": usage, "record": record.index, "turn": record.turn})
    ends = [number for span in found.covers for number in span]
    if not ends or ends != sorted(ends) or any(len(span) != 2 for span in found.covers) or ends[-1] > record.turn:
        raise JsonError("a compaction does not cover spans of earlier turns in their order")
    return found


def _permission(record: Record, body: JsonObject, kind: str) -> Permission | Revocation:
    if kind == REVOKED:
        return Revocation(record.index, record.turn, _number(body, "allowed"))
    return from_json(Permission, {**body, "record": record.index, "turn": record.turn})


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
