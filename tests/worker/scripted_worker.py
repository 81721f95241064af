"""A worker that says what a test wants, for the compiled client alone: it has a real socket, and runs no command."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SOURCE = Path(__file__).parents[2] / "afkcli" / "worker" / "client.c"
LIMIT = 60  # seconds after which something hangs; never a measure of speed
COLD_CODE = 7
_COLD_PYTHON = f"""#!/bin/sh
shift 4
printf 'cold'
[ $# -gt 50 ] || for word; do printf ' %s' "$word"; done
exit {COLD_CODE}
"""
"""In place of an interpreter: it shows that the call went the cold way, and with which arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A compiled client in an environment of its own, whose interpreter only says `cold`."""

    program: Path
    prefix: Path

    def run(self, *arguments: str | bytes, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Run the client to its end."""
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([self.program, *arguments], capture_output=True, timeout=LIMIT, check=False, **options)

    def start(self, *arguments: str | bytes, **options: Any) -> subprocess.Popen[bytes]:
        """Start the client, its output in pipes."""
        for name, target in (("stdin", subprocess.DEVNULL), ("stdout", subprocess.PIPE), ("stderr", subprocess.PIPE)):
            options.setdefault(name, target)
        return subprocess.Popen([self.program, *arguments], **options)


def compile_client(folder: Path, *options: str) -> Path:
    """Compile the client with every warning an error, and with these options; return the program."""
    program = folder / "afk"
    warnings = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
    subprocess.run(["cc", "-std=c11", "-O2", *warnings, *options, "-o", program, SOURCE], check=True, timeout=LIMIT)
    return program


def make_client(folder: Path, compiled: Path, python: str = _COLD_PYTHON) -> Client:
    """Make an environment below a folder with the client and this program as its interpreter."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    (folder / "pyvenv.cfg").touch()
    shutil.copy(compiled, programs / "afk")
    (programs / "python").write_text(python)
    (programs / "python").chmod(0o755)
    return Client(program=programs / "afk", prefix=folder)


@dataclass(slots=True)
class Call:
    """What a client sent, and its connection."""

    connection: socket.socket
    pid: int
    flags: int
    umask: int
    ignored: int
    blocked: int
    arguments: list[bytes]
    environment: list[bytes]
    descriptors: list[int] = field(default_factory=list)

    def say(self, *pieces: bytes) -> None:
        """Send bytes to the client."""
        for piece in pieces:
            self.connection.sendall(piece)

    def hear(self, count: int = 1) -> bytes:
        """Return the next bytes of the client, fewer where it has closed the connection."""
        heard = b""
        while len(heard) < count and (piece := self.connection.recv(count - len(heard))):
            heard += piece
        return heard

    def take(self, pid: int = 0) -> None:
        """Say that the call is taken, by the process of this id; wait until the client agrees and gives descriptors."""
        self.say(b"W" + struct.pack("<I", pid))
        self.agreed()

    def agreed(self) -> None:
        heard, self.descriptors, _, _ = socket.recv_fds(self.connection, 1, 8)
        assert heard == b"G"

    def close(self) -> None:
        self.connection.close()
        for descriptor in self.descriptors:
            os.close(descriptor)


Script = Callable[[Call], object]


@dataclass
class ScriptedWorker:
    """Listens at a socket in a safe folder, and plays a script for each client that connects.

    Args:
        script: what is done with each call.
        path: where the socket is; it is made in a folder of its own if there is none.
        backlog: how many clients may wait.
    """

    script: Script
    path: Path | None = None
    backlog: int = 256
    calls: list[Call] = field(default_factory=list)
    problems: list[BaseException] = field(default_factory=list)

    def __enter__(self) -> Self:
        if self.path is None:
            self._folder = tempfile.mkdtemp(prefix="afk-w-")  # short: the path of a socket has at most 107 bytes
            self.path = Path(self._folder, "w.sock")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(self.backlog)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LIMIT)
        self._listener.close()
        assert self.path is not None
        self.path.unlink(missing_ok=True)
        if getattr(self, "_folder", None):
            shutil.rmtree(self._folder, ignore_errors=True)
        if kind is None and self.problems:
            raise self.problems[0]

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a client finds this worker."""
        return {"PATH": os.environ["PATH"], "AFK_WORKER_SOCKET": str(self.path)}

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(LIMIT)
        try:
            call = _read_call(connection)
        except BaseException as error:  # a failing thread fails the test
            self.problems.append(error)
            connection.close()
            return
        self.calls.append(call)
        try:
            self.script(call)
        except BaseException as error:
            self.problems.append(error)
        finally:
            call.close()


def _read_call(connection: socket.socket) -> Call:
    data = b""
    while len(data) < 12:
        data += connection.recv(12 - len(data))
    assert data[:8] == b"AFKWARM1", data
    (length,) = struct.unpack("<I", data[8:])
    payload = b""
    while len(payload) < length:
        piece = connection.recv(length - len(payload))
        assert piece, "the frame ends too early"
        payload += piece
    version, pid, flags, umask, ignored, blocked = struct.unpack_from("<IIIIQQ", payload)
    assert version == 1
    rest = payload[32:]
    arguments, rest = _strings(rest)
    environment, rest = _strings(rest)
    assert rest == b""
    return Call(connection, pid, flags, umask, ignored, blocked, arguments, environment)


def _strings(data: bytes) -> tuple[list[bytes], bytes]:
    (count,) = struct.unpack_from("<I", data)
    *strings, rest = data[4:].split(b"\0", count)
    assert len(strings) == count
    return strings, rest


def socket_name(prefix: Path, environment: Mapping[str, str]) -> str:
    """Return how the socket of an environment is named: FNV-1a of its prefix, AFK_HOME and HOME."""
    parts: Sequence[str] = (str(prefix), environment.get("AFK_HOME", ""), environment.get("HOME", ""))
    value = 14695981039346656037
    for byte in b"\0".join(part.encode() for part in parts):
        value = (value ^ byte) * 1099511628211 % 2**64
    return f"{value:016x}.sock"


@contextmanager
def safe_folder() -> Iterator[Path]:
    """Make a folder with a short path, which belongs to this user alone."""
    folder = Path(tempfile.mkdtemp(prefix="afk-w-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
