"""Writes to a descriptor whose reader may have stopped, without waiting for that reader.

O_NONBLOCK belongs to the open file, which this process shares with whoever started it, so it is never set on an
inherited descriptor (fcntl(2), "File status flags"). On Linux a pipe or a terminal is opened a second time through
/proc, as an open file of our own. Anything else is written by a worker, which a stalled write holds up instead of the
run.

`afk --version` imports this module, so that it imports nothing that `afk --version` does not have anyway.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

MAX_KEPT_BYTES = 64 * 1024
"""How much text for a person is kept while nothing reads it, beside what the pipe itself holds."""
WAIT_SECONDS = 0.25
"""How long a line for a person may take where only a blocking write is possible."""
_CHUNK = 4096
_NULL_DEVICE = (1, 3)  # Linux, devices.txt


def own_descriptor(descriptor: int) -> int | None:
    """Open the pipe or the terminal of `descriptor` a second time, to write to it without blocking.

    Returns:
        A descriptor with O_NONBLOCK; None if there cannot be one: another kind of file, another platform, no /proc, a
        pipe of another user, or one that has no reader any more.
    """
    if sys.platform != "linux":
        return None
    try:
        status = os.fstat(descriptor)
        null = stat.S_ISCHR(status.st_mode) and (os.major(status.st_rdev), os.minor(status.st_rdev)) == _NULL_DEVICE
        if not (stat.S_ISFIFO(status.st_mode) or null or os.isatty(descriptor)):
            return None
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return os.open(f"/proc/self/fd/{descriptor}", flags)
    except OSError:
        return None


def has_foreground(descriptor: int) -> bool:
    """Return whether this process is in the foreground of the terminal of `descriptor`.

    Raises:
        OSError: it is not the controlling terminal of this process.

    Since: 0.2.
    """
    if sys.platform == "win32":
        raise OSError("there is no job control")
    return os.tcgetpgrp(descriptor) == os.getpgrp()


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, and wait for the reader; also where another process has set O_NONBLOCK.

    Raises:
        OSError: it cannot be written.
    """
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            wait_writable(descriptor)


def wait_writable(descriptor: int) -> None:
    """Wait until a write to `descriptor` takes something, or fails."""
    import select

    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        poll.poll()
    else:
        select.select([], [descriptor], [])


def is_writable(descriptor: int) -> bool:
    """Return whether a write to `descriptor` takes something now, or fails."""
    import select

    try:
        return bool(select.select([], [descriptor], [], 0)[1])
    except (OSError, ValueError):
        return False


class WriteWorker:
    """A thread that writes to one descriptor, piece by piece; it does not keep the process from ending.

    Where the system starts no thread, because the limit of processes is reached, the caller writes, and waits.
    """

    def __init__(self, descriptor: int) -> None:
        from queue import SimpleQueue

        self._descriptor = descriptor
        self._pieces: SimpleQueue[tuple[bytes, Callable[[OSError | None], None]]] = SimpleQueue()
        self._has_thread = True
        try:
            threading.Thread(target=self._run, name="afk-stdout", daemon=True).start()
        except RuntimeError:
            self._has_thread = False

    def put(self, data: bytes, done: Callable[[OSError | None], None]) -> None:
        """Write `data` after what was put before; `done` is called on the worker, with the error if there is one."""
        if self._has_thread:
            self._pieces.put((data, done))
        else:
            self._write(data, done)

    def _run(self) -> None:
        while True:
            self._write(*self._pieces.get())

    def _write(self, data: bytes, done: Callable[[OSError | None], None]) -> None:
        try:
            write_all(self._descriptor, data)
        except OSError as error:
            done(error)
        else:
            done(None)


class LinesForPeople(io.RawIOBase):
    """Takes text for a person at once, whether or not something reads it.

    What the reader does not take is kept, up to `MAX_KEPT_BYTES`, and written by a worker when it reads again. Later
    text is left out; a line with the number of lines that are missing is written in its place.

    Args:
        descriptor: where the text goes, stderr for instance.
        name: what the line calls it.

    Since: 0.2.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self._descriptor = descriptor
        self._own: int | None = None
        self._opened = False
        self._lock = threading.Lock()
        self._kept = bytearray()
        self._missing = 0
        self._written = 0
        self._worker: threading.Thread | None = None
        self._stalled = False
        self.left_out = 0
        """How many lines were left out so far."""
        self.before_write: Callable[[bytes], bytes] | None = None
        """Returns what is written for a text: the same, behind what erases a transient line. Since: 0.2."""

    @property
    def unread(self) -> int:
        """How many lines were left out so far, or are kept because nothing has read them yet."""
        with self._lock:
            return self.left_out + self._kept.count(b"\n")

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """Take all of `data`, without waiting.

        Raises:
            OSError: it cannot be written: the reader has gone, or the disk is full.
        """
        taken, data = len(data), bytes(data)
        if self.before_write is not None:
            data = self.before_write(data)
        if sys.is_finalizing():  # no thread can be started any more, and waiting for one would take for ever
            write_all(self._descriptor, data)
            return taken
        with self._lock:
            if not self._opened:
                self._opened, self._own = True, own_descriptor(self._descriptor)
            rest = data if self._worker is not None or self._own is None else self._without_waiting(self._own, data)
            if rest:
                self._keep(rest)
            worker = self._worker
        if worker is not None and self._own is None and not self._stalled:
            worker.join(WAIT_SECONDS)  # so that it stays in order with what is written to stdout
            self._stalled = worker.is_alive()
        return taken

    def write_now(self, data: bytes) -> bool:
        """Write `data` if it can be written at once, and return whether it was; what nothing reads is left out.

        It may be called by a signal handler. Since: 0.2.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self._worker is not None or not is_writable(self._descriptor):
                return False
            if not self._opened:
                self._opened, self._own = True, own_descriptor(self._descriptor)
            if self._own is None:  # a terminal that is writable takes a line without blocking
                rest = data[os.write(self._descriptor, data) :]
            else:
                rest = self._without_waiting(self._own, data)
            if rest == data:
                return False
            if rest:
                self._keep(rest)
            return True
        except OSError:
            return False
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close what was opened to write, not the descriptor itself; what is kept then is lost."""
        own, self._own = self._own, None
        if own is not None:
            os.close(own)
        super().close()

    def wait(self, seconds: float) -> None:
        """Wait until all that was kept is written, as long as something of it is written every `seconds`."""
        for _ in range(10):
            worker, before = self._worker, self._written
            if worker is not None:
                worker.join(seconds)
            if worker is None or self._written == before:
                return

    def _without_waiting(self, own: int, data: bytes) -> bytes:
        """Write what is taken now, and return the rest."""
        while data:
            try:
                data = data[os.write(own, data) :]
            except BlockingIOError:
                return data
        return b""

    def _keep(self, data: bytes) -> None:
        if self._worker is None:  # nothing else is kept then
            worker = threading.Thread(target=self._write_kept, name=f"afk-{self.name}", daemon=True)
            try:
                worker.start()
            except RuntimeError:  # the limit of processes is reached: the reader is waited for here
                write_all(self._descriptor if self._own is None else self._own, data)
                return
            self._worker = worker
        if self._missing or len(self._kept) + len(data) > MAX_KEPT_BYTES:
            lines = max(1, data.count(b"\n"))
            self._missing += lines
            self.left_out += lines
        else:
            self._kept += data

    def _write_kept(self) -> None:
        while piece := self._next_piece():
            try:
                written = self._write_waiting(piece)
            except OSError:  # the reader has gone, and the next line finds that out
                written = len(self._kept)
            with self._lock:
                del self._kept[:written]
                self._written += written

    def _next_piece(self) -> bytes:
        """Return what is to be written next; the worker has ended where nothing is left."""
        with self._lock:
            if not self._kept and self._missing:
                self._kept += self._line_for_missing()
            if not self._kept:
                self._worker, self._stalled = None, False
            return bytes(self._kept[:_CHUNK])

    def _line_for_missing(self) -> bytes:
        lines = "1 line was" if self._missing == 1 else f"{self._missing} lines were"
        self._missing = 0
        return f"afk: {lines} left out because nobody read {self.name}\n".encode()

    def _write_waiting(self, piece: bytes) -> int:
        while True:
            try:
                return os.write(self._descriptor if self._own is None else self._own, piece)
            except BlockingIOError:
                wait_writable(self._descriptor if self._own is None else self._own)


def unblocked_text(text: TextIO | None, descriptor: int, name: str) -> io.TextIOWrapper | None:
    """Return a text stream on `descriptor` that never waits for a reader, with the encoding of `text`.

    None on Windows, where a console needs Python's own stream, and where `text` is None or was replaced already.
    """
    if os.name == "nt" or text is None:
        return None
    try:
        if text.fileno() != descriptor or isinstance(getattr(text, "buffer", None), LinesForPeople):
            return None
    except (OSError, ValueError):
        return None
    with contextlib.suppress(OSError, ValueError):
        text.flush()
    lines = LinesForPeople(descriptor, name)
    return io.TextIOWrapper(lines, text.encoding, "backslashreplace", newline="\n", line_buffering=True)
