"""The rows of the tables as objects, and what is in them as bytes."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from afkcli.plugin import (
    LargeRecord,
    Owner,
    Record,
    RecordKind,
    ThreadInfo,
    dumps,
    is_unnamed,
    loads_object,
    reversed_end,
    thread_info_from_json,
)

THREAD_COLUMNS = "key, name, info, crc, token, owner, coalesce(expires > clock_timestamp(), false)"
RECORD_COLUMNS = "index, kind, turn, prev, hash"
LARGEST_BODY = 256 << 20
"""The bytes of a record that are read; of a larger one only its size is."""

_encode = msgspec.json.Encoder().encode
_read_info = msgspec.json.Decoder(ThreadInfo).decode
_read_owner = msgspec.json.Decoder(Owner).decode


@dataclass
class ThreadRow:
    """A thread as a transaction knows it: `info` is None if its bytes are damaged, `live` whether its lease is."""

    key: str
    name: str
    info: ThreadInfo | None
    token: str
    owner: bytes | None
    live: bool


def thread_row(row: tuple[Any, ...]) -> ThreadRow:
    """Return the row of `THREAD_COLUMNS`."""
    key, name, info, crc, token, owner, live = row
    return ThreadRow(key, name, info_of(key, info, crc), token, owner, live)


class InfoBytes(NamedTuple):
    """A thread's metadata as it is kept, and its checksum."""

    data: bytes
    crc: int


def info_bytes(info: ThreadInfo) -> InfoBytes:
    """Return the metadata as it is kept."""
    try:
        data = _encode(info)
    except ValueError:  # a lone surrogate, which the other writer replaces
        data = dumps(info).encode()
    return InfoBytes(data, zlib.crc32(data))


def info_of(key: str, data: bytes, crc: int) -> ThreadInfo | None:
    """Return the metadata in a row, or None if it is damaged."""
    if zlib.crc32(data) != crc:
        return None
    try:
        info = _read_info(data)
    except ValueError:  # the other reader takes more
        try:
            info = thread_info_from_json(loads_object(data.decode()))
        except (ValueError, TypeError):
            return None
    return info if info.key == key else None


def owner_bytes(owner: Owner) -> bytes:
    """Return the owner of a lease as it is kept."""
    return _encode(owner)


def owner_of(data: bytes | None) -> Owner | None:
    """Return the owner in a row, None if there is none or it is damaged."""
    try:
        return _read_owner(data or b"")
    except ValueError:
        return None


def record_of(row: tuple[Any, ...]) -> Record:
    """Return the record of `RECORD_COLUMNS`, the size of its body, and its body if that is not too large.

    One of an unknown kind comes without a hash, so that its reader finds it damaged.
    """
    index, kind, turn, prev, digest, size, body = row
    try:
        known = RecordKind(kind)
    except ValueError:
        known, digest = RecordKind.JOURNAL, ""
    if body is None:
        return LargeRecord(index=index, kind=known, turn=turn, prev=prev, body="", hash=digest, size=size)
    text = body.decode("utf-8", "replace")
    return Record(index=index, kind=known, turn=turn, prev=prev, body=text, hash=digest)


def is_column(text: str) -> bool:
    """Return whether a column can have this text."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def column(text: str | None) -> str | None:
    """Return a text as a column that is compared has it: what that cannot hold is replaced."""
    if text is None or is_column(text):
        return text
    return "".join(character if is_column(character) else "\ufffd" for character in text)


def tail_of(name: str) -> str | None:
    """Return the end of an unnamed name, as the column has it; None for any other name."""
    return reversed_end(name) if is_unnamed(name) else None
