"""Changes of a thread itself, such as its name, as its `meta` records tell of them.

A `meta` record of a kind or version that this afk does not know may change what the turns mean, so a history with one
is refused and never read without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from afkcli.core.contract.errors import UnsupportedRecordError
from afkcli.core.contract.jsonform import Json, JsonError, JsonObject
from afkcli.core.contract.protocols import Record

VERSION = 1
CHANGED = "changed"
"""The kind of a change of metadata, and of a record that names no kind (as all do that afk 0.1 wrote)."""

FIELDS = frozenset({"name", "title", "folder", "tags"})
"""The fields of `ThreadInfo` that a change may set."""


class ThreadChange(NamedTuple):
    """One change of the thread's metadata: the index of its record, the turns before it, the new values by field."""

    record: int
    turn: int
    fields: Mapping[str, Json]


def renamed_body(old: str, new: str) -> JsonObject:
    """Return the body of the record that renames a thread from `old` to `new`."""
    return {"v": VERSION, "changes": {"name": new}, "was": {"name": old}}


def read_change(thread: str, record: Record, body: JsonObject) -> ThreadChange:
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
    if version != VERSION or kind != CHANGED:
        raise _unsupported(thread, record, f"meta kind {kind!r}, version {version!r}")
    changes = body.get("changes")
    if not isinstance(changes, dict):
        raise JsonError("a meta record has no object 'changes'")
    unknown = sorted(changes.keys() - FIELDS)
    if unknown:
        raise _unsupported(thread, record, f"a change of {unknown[0]!r}")
    return ThreadChange(record=record.index, turn=record.turn, fields=changes)


def _unsupported(thread: str, record: Record, what: str) -> UnsupportedRecordError:
    return UnsupportedRecordError(
        f"record {record.index} of thread {thread!r} was written by a newer afk ({what}): upgrade afk"
    )
