"""Where an open turn is journaled while the database is locked: one append-only file per lease, beside the database.

SQLite has one write lock, and a process that is stopped in the milliseconds of a write keeps it. What others stream in
that time cannot wait: it is put aside in `spool/<thread key>.<lease token>`, a checked line a call, and counts as
written. The contents that it names have lines of their own before it. The next transaction of the lease's owner brings
it into the database first and removes the file; so does the next owner of the lease; and everything that reads an open
turn reads its file too.

The token is the fence: a take-over gives the thread another one, in the transaction that brings the old file in. What a
former owner writes to its own file afterwards is ignored, and the next one to take a lease removes it. Bringing in
twice, as after a crash before the file was removed, changes nothing: a line counts only where its records chain on to
the thread's head. (An owner that is alive and whose lease ran out can put a line aside in the very moment in which it
is replaced, too late to be brought in. Its next call tells it, and its turn goes to a rescue file.)
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
import zlib
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from afk_store_disk import rows
from afkcli.plugin import (
    KEPT_KINDS,
    JsonError,
    JsonObject,
    Record,
    RecordKind,
    ThreadInfo,
    advance,
    dumps,
    loads_object,
    make_private_folder,
    private_file,
)

FOLDER = "spool"
KINDS = frozenset({RecordKind.JOURNAL, RecordKind.SEAL})
"""What can be put aside: records of a turn that is open."""

_NAME = r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([0-9a-f]{32})"  # compiled where there is a file
_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

Files = dict[str, bytes]
"""What is in the spool, by the names of its files."""


def name_of(key: str, token: str) -> str:
    """Return the name of the file of a lease."""
    return f"{key}.{token}"


class Followed:
    """An open turn as its file tells of it.

    Attributes:
        info: the thread after all that chains on to it.
        records: what is to be added to the database.
        renewed: the lease as it was renewed last, None if it was not.
        damaged: whether a line is there that was not written so.
    """

    def __init__(self, info: ThreadInfo) -> None:
        self.info = info
        self.records: list[Record] = []
        self.renewed: rows.Holder | None = None
        self.damaged = False
        self._contents: dict[str, str] = {}

    def content(self, sha256: str) -> bytes | None:
        """Return a content that is to be added to the database, None if there is none of that hash."""
        text = self._contents.get(sha256)
        return a2b_base64(text) if text is not None else None

    def contents(self) -> dict[str, bytes]:
        """Return all contents that are to be added to the database."""
        return {sha256: a2b_base64(text) for sha256, text in self._contents.items()}

    def take(self, form: JsonObject) -> None:
        """Take a line: a renewal, a content of the records that come after it, or records if they follow the thread's
        last one; other records were taken before."""
        if "holder" in form:
            self.renewed = rows.holder_from_text(form["holder"])
            return
        if "content" in form:
            self._contents[str(form["content"])] = str(form["data"])
            return
        row = rows.info_from_text(form["info"])
        records = [rows.record_from_text("", text) for text in form["records"]]
        if row is not None and _follows(self.info, row.info, records):
            self.info = row.info
            self.records += records


def follow(info: ThreadInfo, content: bytes) -> Followed:
    """Return the thread `info` as it is with what is in the file of its lease."""
    followed = Followed(info)
    for line in content.split(b"\n")[:-1]:  # behind the last newline there is nothing, or what a kill tore
        try:
            followed.take(_checked(line))
        except (JsonError, KeyError, TypeError, AttributeError):
            followed.damaged = True
    return followed


def _follows(before: ThreadInfo, after: ThreadInfo, records: Sequence[Record]) -> bool:
    """Return whether `records` are of the turn that is open in `before`, and lead from there to `after`."""
    for record in records:
        opened, kept = before.open_turn, record.kind in KEPT_KINDS
        if opened is None or record.turn != opened.turn or record.kind not in KINDS:
            return False
        if (record.index, record.prev) != (before.next_index, before.kept_head if kept else before.head):
            return False
        before = advance(before, record)
    same = (before.key, before.name, before.head, before.kept_head, before.next_index)
    return bool(records) and same == (after.key, after.name, after.head, after.kept_head, after.next_index)


def _line(form: JsonObject) -> bytes:
    body = dumps(form).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _write(descriptor: int, line: bytes) -> int:
    """Write a line, or several, with one call, and return how much of it there was room for."""
    return os.write(descriptor, line)


def _checked(line: bytes) -> JsonObject:
    """Return what `_line` wrote; `JsonError` if it is something else."""
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        raise JsonError("its checksum does not match")
    return loads_object(body)


class Spool:
    """The files beside one database.

    Args:
        folder: the folder of the database.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        self._known: dict[str, tuple[str, int, ThreadInfo]] = {}  # head in the database, size of the file, thread
        self._said: set[str] = set()

    def names(self) -> list[str]:
        """Return the names of the files."""
        try:
            return [file.name for file in self.folder.iterdir() if re.fullmatch(_NAME, file.name)]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, name: str) -> bytes:
        """Return what is in the file `name`; nothing if there is none, or none that is the user's."""
        try:
            descriptor = os.open(self.folder / name, os.O_RDONLY | _SAFE)
            try:
                self._check(name, descriptor)
                with open(descriptor, "rb", closefd=False) as file:
                    return file.read()
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            return b""
        except OSError as error:
            self._say_left_out(name, error.strerror)
            return b""

    def read_all(self, key: str = "") -> Files:
        """Return all that is in the spool, or all of the thread `key`.

        Read before the database, it misses nothing that is brought in meanwhile.
        """
        return {name: self.read(name) for name in self.names() if name.startswith(key)}

    def now(self, name: str, info: ThreadInfo) -> ThreadInfo:
        """Return the thread `info` of the database as it is with the file `name`, to the writer of that file."""
        head, size, there = self._known.get(name, ("", 0, info))
        if head == info.head and size == self._size(name):
            return there  # so that a long file is not read with every call
        content = self.read(name)
        there = follow(info, content).info
        self._known[name] = info.head, len(content), there
        return there

    def put_records(
        self, name: str, after: ThreadInfo, records: Sequence[Record], contents: Mapping[str, bytes]
    ) -> None:
        """Put `records` aside, their `contents` and the thread as it is after them.

        When it returns they survive the process.
        """
        forms: list[JsonObject] = [
            {"content": sha256, "data": b2a_base64(data, newline=False).decode("ascii")}
            for sha256, data in contents.items()
        ]
        info = rows.info_to_text(rows.InfoRow(after, 0))
        forms.append({"info": info, "records": [rows.record_to_text(record) for record in records]})
        self._put(name, forms, after)

    def put_renewal(self, name: str, holder: rows.Holder) -> None:
        """Put aside how long the lease lasts from now."""
        self._put(name, [{"holder": rows.holder_to_text(holder)}], None)

    def remove(self, name: str) -> None:
        """Remove the file `name`, which was brought in or belongs to no lease; one that stays does no harm."""
        self._known.pop(name, None)
        with suppress(OSError):
            (self.folder / name).unlink()

    def keep_copy(self, name: str, content: bytes) -> None:
        """Keep a copy of a damaged file, and say so; once."""
        if name in self._said:
            return
        self._said.add(name)
        copy = self.folder / f"{name}.damaged-{int(time.time())}"
        with os.fdopen(private_file(copy), "wb") as file:
            file.write(content)
        import logging  # takes 3 ms, and damage is rare

        logging.getLogger("afkcli").warning(
            "afk: %s is damaged; text of a turn may be missing; a copy is kept at %s", self.folder / name, copy
        )

    def listed(self) -> Spool:
        """Return a spool for the operations of one transaction: a file that is not there now is not looked for."""
        return _ListedSpool(self)

    def _put(self, name: str, forms: Sequence[JsonObject], after: ThreadInfo | None) -> None:
        line = b"".join(map(_line, forms))
        self._make_folder()
        descriptor = os.open(self.folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _SAFE, 0o600)
        try:
            before = self._check(name, descriptor)
            if _write(descriptor, line) != len(line):
                os.ftruncate(descriptor, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder / name))
        finally:
            os.close(descriptor)
        if name in self._known:
            head, _, there = self._known[name]
            self._known[name] = head, before + len(line), after or there

    def _make_folder(self) -> None:
        make_private_folder(self.folder)
        found = self.folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "it is not a folder", str(self.folder))
        if os.name == "posix" and found.st_mode & 0o077:
            self.folder.chmod(0o700)

    def _check(self, name: str, descriptor: int) -> int:
        """Return the size of an open file; `OSError` if it is not a plain file of this user's or the folder's owner."""
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is not a plain file", str(self.folder / name))
        if os.name == "posix" and found.st_uid not in (os.geteuid(), self.folder.stat().st_uid):
            raise PermissionError(errno.EACCES, "it is another user's", str(self.folder / name))
        if os.name == "posix" and found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != 0o600:
            os.fchmod(descriptor, 0o600)  # whatever the umask was
        return found.st_size

    def _size(self, name: str) -> int:
        try:
            return (self.folder / name).stat().st_size
        except OSError:
            return 0

    def _say_left_out(self, name: str, why: str | None) -> None:
        if name not in self._said:
            self._said.add(name)
            import logging

            logging.getLogger("afkcli").warning("afk: %s is left out: %s", self.folder / name, why)


class _ListedSpool(Spool):
    """The spool as it is while a transaction holds the lock; what comes later, comes in with a later one."""

    def __init__(self, spool: Spool) -> None:
        super().__init__(spool.folder.parent)
        self._known, self._said = spool._known, spool._said
        self._there: set[str] | None = None  # where the folder cannot be read, each file is looked for
        with suppress(OSError):
            self._there = set(spool.names())

    def read(self, name: str) -> bytes:
        return super().read(name) if self._there is None or name in self._there else b""

    def remove(self, name: str) -> None:
        if self._there is None or name in self._there:
            super().remove(name)
