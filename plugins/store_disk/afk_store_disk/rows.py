"""The rows of the database: their keys, and the text that they hold.

A thread's rows all start alike, so that they are one range of the database's index:

    thread/<key>/holder                  the lease: token, owner, expiry
    thread/<key>/info                    the thread's metadata
    thread/<key>/kept/<index>/<turn>     a sealed turn, or a change of the thread itself
    thread/<key>/open/<turn>/<index>     the question and the journal of a turn that is not sealed

Beside them there are `name/<name>` and `thread_name/<name>` (the thread's key, twice, so that one damaged row does not
hide a thread), `changed/<number>/<key>` (one a thread, the number grows with every change, see index.py) and
`counter/<name>`. Info and records are two lines: a line of JSON about the row, then the JSON itself to the letter.

The contents of attachments have a table of their own, `Content`, by thread and hash: they are bytes, not text.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Self

import msgspec

from afkcli.plugin import (
    DURABLE_KINDS,
    KEPT_KINDS,
    JsonError,
    LargeRecord,
    Owner,
    Record,
    RecordKind,
    StoreError,
    ThreadInfo,
    dumps,
    loads,
    loads_object,
    thread_info_from_json,
)

MODE_RAW = 1
"""What diskcache calls a value that is in the row as it is."""

CHANGED = "changed"
NAME, NAME_COPY = "name", "thread_name"  # far from each other in the order of keys, so on different pages
KEPT, OPEN = "kept", "open"


def is_journal(records: Sequence[Record]) -> bool:
    """Return whether all that is appended is journal, which need not survive power loss."""
    return bool(records) and not any(record.kind in DURABLE_KINDS for record in records)


def row_text(mode: object, filename: object, value: object) -> str:
    """Return the text of a row.

    Raises:
        StoreError: the row is of another form, so it was not written by afk or is damaged.
    """
    if filename is not None:
        raise StoreError(f"it points to a file ({filename!r}), which afk never reads")
    if mode != MODE_RAW:
        raise StoreError(f"it is of diskcache's mode {mode!r} (pickle or file), which afk never reads")
    return only_text(value)


def only_text(value: object) -> str:
    """Return `value`, which is text; `StoreError` if it is not."""
    if type(value) is not str:
        raise StoreError(f"it is not text but {type(value).__name__}")
    return value


def name_keys(name: str) -> tuple[str, str]:
    return f"{NAME}/{name}", f"{NAME_COPY}/{name}"


def counter_key(counter: str) -> str:
    return f"counter/{counter}"


def changed_key(number: int, thread: str) -> str:
    return f"{CHANGED}/{number:016d}/{thread}"


def changed_threads(keys: Iterable[str]) -> dict[str, int]:
    """Return the threads in the keys of `changed/` rows, each with its number."""
    parts = (key.split("/") for key in keys)
    return {part[2]: int(part[1]) for part in parts if len(part) == 3 and part[1].isdecimal()}


def thread_prefix(thread: str) -> str:
    return f"thread/{thread}"


def info_key(thread: str) -> str:
    return f"thread/{thread}/info"


def holder_key(thread: str) -> str:
    return f"thread/{thread}/holder"


def part_prefix(thread: str, part: str) -> str:
    return f"thread/{thread}/{part}"


def index_key(thread: str, index: int) -> str:
    """Return what the key of a thread's kept record `index` starts with, before a slash."""
    return f"{part_prefix(thread, KEPT)}/{index:012d}"


def turn_prefix(thread: str, turn: int) -> str:
    """Return what the keys of a turn's question and journal start with, before a slash."""
    return f"{part_prefix(thread, OPEN)}/{turn:010d}"


def record_key(thread: str, record: Record) -> str:
    if record.kind in KEPT_KINDS:
        return f"{index_key(thread, record.index)}/{record.turn:010d}"
    return f"{turn_prefix(thread, record.turn)}/{record.index:012d}"


def all_under(prefix: str) -> tuple[str, str]:
    """Return the start and the end of the keys that start with `prefix` and a slash."""
    return f"{prefix}/", f"{prefix}0"  # "0" follows "/" in ASCII


def kept_from(thread: str, index: int) -> tuple[str, str]:
    """Return the start and the end of the keys of a thread's kept records from `index` on."""
    return index_key(thread, index), all_under(part_prefix(thread, KEPT))[1]


def record_to_text(record: Record) -> str:
    """Return the text of a record's row."""
    about = {"index": record.index, "kind": record.kind, "turn": record.turn, "prev": record.prev, "hash": record.hash}
    return f"{dumps(about)}\n{record.body}"


class LargeText(str):
    """The beginning of a row that is too large to be read, `size` bytes in all."""

    size: int

    def __new__(cls, head: str, size: int) -> Self:
        made = super().__new__(cls, head)
        made.size = size
        return made


def record_from_text(key: str, text: str | None) -> Record:
    """Return the record of a row; one that cannot be read comes without a hash, so that its reader finds it damaged.

    One that is too large to be read is a `LargeRecord`.
    """
    line, _, body = (text or "").partition("\n")
    try:
        about = _read_about(str(line))
    except ValueError:
        return damaged_record(key, body)
    if isinstance(text, LargeText):
        return LargeRecord(
            index=about.index,
            kind=about.kind,
            turn=about.turn,
            prev=about.prev,
            body="",
            hash=about.hash,
            size=text.size,
        )
    return Record(index=about.index, kind=about.kind, turn=about.turn, prev=about.prev, body=body, hash=about.hash)


class _About(msgspec.Struct):
    """The line about a record."""

    index: int
    kind: RecordKind
    turn: int
    prev: str
    hash: str


_read_about = msgspec.json.Decoder(_About).decode


def damaged_record(key: str, body: str) -> Record:
    """Return a record for a row that cannot be read: what its key says, and no hash."""
    part, first, second = ["", "", "", *key.split("/")][-3:]
    index, turn = (first, second) if part == KEPT else (second, first)
    return Record(
        index=int(index) if index.isdecimal() else 0,
        kind=RecordKind.SEAL if part == KEPT else RecordKind.JOURNAL,
        turn=int(turn) if turn.isdecimal() else 0,
        prev="",
        body=body,
        hash="",
    )


class InfoRow(msgspec.Struct, frozen=True):
    """A thread's metadata, and the number of its last change (0 where it is not listed yet)."""

    info: ThreadInfo
    changed: int


def info_to_text(row: InfoRow) -> str:
    """Return the text of a metadata row; its checksum covers all of it."""
    try:
        body = _encode(row.info).decode()
    except ValueError:  # a lone surrogate, which the other writer replaces
        body = dumps(row.info)
    return f'{{"changed":{row.changed},"crc32":{_crc32(row.changed, body)}}}\n{body}'


def info_from_text(text: str) -> InfoRow | None:
    """Return the metadata in a row, or None if it is damaged."""
    line, _, body = text.partition("\n")
    try:
        about = _read_checksum(line)
        if about.crc32 == _crc32(about.changed, body):
            return InfoRow(_info(body), about.changed)
    except (ValueError, TypeError):
        pass
    return None


class _Checksum(msgspec.Struct):
    """The line about a thread's metadata."""

    changed: int
    crc32: int


def _info(body: str) -> ThreadInfo:
    try:
        return _read_info(body)
    except ValueError:  # the other reader takes more
        return thread_info_from_json(loads_object(body))


_encode = msgspec.json.Encoder().encode
_read_checksum = msgspec.json.Decoder(_Checksum).decode
_read_info = msgspec.json.Decoder(ThreadInfo).decode


def _crc32(changed: int, body: str) -> int:
    return zlib.crc32(f"{changed}\n{body}".encode())


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a lease and until when: by the monotonic clock of the boot `boot_id`, and by the wall clock."""

    token: str
    owner: Owner
    boot_id: str
    expires: float
    expires_wall: float


def holder_from_text(text: str | None) -> Holder | None:
    """Return the holder in a lease's row; a damaged row has no holder, so that it locks no one out."""
    try:
        holder = _read_holder(text or "")
        return holder if holder.expires + holder.expires_wall > 0 and holder.owner.pid >= 0 else None
    except ValueError:
        return None


_read_holder = msgspec.json.Decoder(Holder).decode


def holder_to_text(holder: Holder) -> str:
    """Return the text of a lease's row."""
    return _encode(holder).decode()


def ended(holder: Holder) -> Holder:
    """Return a lease's row that says that the lease was given back; to an earlier afk it has run out."""
    return msgspec.structs.replace(holder, expires=0.0, expires_wall=1.0)


def is_ended(holder: Holder) -> bool:
    """Return whether a row is one of `ended`."""
    return holder.expires == 0.0


def number_from_text(text: str | None) -> float | None:
    """Return the number in a row, 0 if there is no row, or None if it is damaged."""
    try:
        value = loads(text) if text is not None else 0
    except JsonError:
        return None
    return value if type(value) in (int, float) else None
