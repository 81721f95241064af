"""Starts `afk` as a fork of a process that has its imports done, so that a test does not wait for them again.

What runs is a real process with a process id, descriptors, signals and an exit status of its own; only the interpreter
was started before. A test whose subject is the start itself takes `subprocess.Popen`. With `--warm` the compiled client
is started instead, which hands its command to the worker of afk (`workers.py`). With `AFK_TEST_START=cold` all
start cold: CI runs some suites so.
"""

from __future__ import annotations

import atexit
import inspect
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.workers import are_used_by, workers

AFK = Path(sys.executable).parent / ("afk.exe" if os.name == "nt" else "afk")
LOCALE = ("LANG", "LC_ALL", "LC_CTYPE", "LANGUAGE")
_COLD_VARIABLES = ("PYTHON", "LD_", "MALLOC_", "GLIBC_")
"""What the interpreter or its loader reads at its start."""
_COLD_OPTIONS = ("preexec_fn", "executable", "shell", "user", "group", "extra_groups")


def start(
    command: Sequence[str | Path], *, cold: bool = False, take_terminal: bool = False, **options: Any
) -> subprocess.Popen[Any]:
    """Start a command as `subprocess.Popen` does; warm, where it is `afk` or a Python script that may be.

    Args:
        command: the program and its arguments.
        cold: start it cold, as a child of this process.
        take_terminal: make the terminal on stdin the controlling one; for a session of its own.
        options: those of `subprocess.Popen`.
    """
    cold = are_used_by(command, AFK, options) or cold
    if not cold and _can_be_warm(command, options):
        return _Warm(command, take_terminal=take_terminal, **options)
    if take_terminal:
        options["preexec_fn"] = _take_terminal
    return subprocess.Popen(command, **options)


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _can_be_warm(command: Sequence[str | Path], options: dict[str, Any]) -> bool:
    if sys.platform != "linux" or os.environ.get("AFK_TEST_START") == "cold":
        return False
    if workers() is not None and os.fspath(command[0]) == str(AFK):
        return False
    env = options.get("env") or os.environ
    return (
        _is_known(command)
        and not any(options.get(name) for name in _COLD_OPTIONS)
        and not any(name.startswith(_COLD_VARIABLES) and name != "PYTHONPATH" for name in env)
        and not any(Path(entry, "sitecustomize.py").exists() for entry in env.get("PYTHONPATH", "").split(os.pathsep))
        and all(env.get(name) == os.environ.get(name) for name in LOCALE)
    )


def _is_known(command: Sequence[str | Path]) -> bool:
    """Return whether the command is `afk`, or Python with a script and no option of its own."""
    program = os.fspath(command[0])
    return program == str(AFK) or (program == sys.executable and str(command[1]).endswith(".py"))


def shim(path: Path) -> None:
    """Write a program that is `afk`, started warm, for scripts that find it on their PATH.

    Nothing is written where everything starts cold.
    """
    if _can_be_warm([AFK], {"env": {name: os.environ[name] for name in LOCALE if name in os.environ}}):
        path.write_text(f"#!{sys.executable} -IS\n" + _SHIM.replace("ADDRESS", repr(_server().address)))
        path.chmod(0o755)


_SHIM = f"""
import array, json, os, signal, socket, struct, sys

connection = socket.socket(socket.AF_UNIX)
connection.connect(ADDRESS)
order = json.dumps({{
    "arguments": [{str(AFK)!r}, *sys.argv[1:]],
    "environment": dict(os.environ),
    "folder": os.getcwd(),
    "umask": os.umask(0),
    "new_session": False,
    "process_group": -1,
    "take_terminal": False,
    "targets": [0, 1, 2],
}}).encode()
rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))
connection.sendmsg([struct.pack("!I", len(order))], [rights])
connection.sendall(order)
pid = struct.unpack("!i", connection.recv(4, socket.MSG_WAITALL))[0]
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, lambda number, _: os.kill(pid, number))
status = struct.unpack("!i", connection.recv(4, socket.MSG_WAITALL))[0]
if os.WIFSIGNALED(status):
    signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
    os.kill(os.getpid(), os.WTERMSIG(status))
os._exit(os.waitstatus_to_exitcode(status))
"""


def on_terminal(command: Sequence[str | Path], env: Mapping[str, str], folder: Path) -> list[str] | None:
    """Return the command that starts `afk` warm on the terminal that it has itself; None where it has to start cold.

    It has to be the leader of the terminal's session, so that it can pass the terminal on to the child of the warm
    process. It takes its environment, and writes the exit code into the file `code` as a shell does.

    Args:
        command: `afk` and its arguments.
        env: the variables that it will have.
        folder: where the file `code` will be.
    """
    if not _can_be_warm(command, {"env": env}):
        return None
    script = folder / "relay.py"
    script.write_text(_RELAY.replace("ADDRESS", repr(_server().address)).replace("CODE", repr(str(folder / "code"))))
    return [sys.executable, "-IS", str(script), *map(str, command)]


_RELAY = """
import array, fcntl, json, os, signal, socket, struct, sys, termios

for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
fcntl.ioctl(0, termios.TIOCNOTTY)
connection = socket.socket(socket.AF_UNIX)
connection.connect(ADDRESS)
order = json.dumps({
    "arguments": sys.argv[1:],
    "environment": dict(os.environ),
    "folder": os.getcwd(),
    "umask": os.umask(0),
    "new_session": True,
    "process_group": -1,
    "take_terminal": True,
    "targets": [0, 1, 2],
}).encode()
rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))
connection.sendmsg([struct.pack("!I", len(order))], [rights])
connection.sendall(order)
connection.recv(4, socket.MSG_WAITALL)
code = os.waitstatus_to_exitcode(struct.unpack("!i", connection.recv(4, socket.MSG_WAITALL))[0])
with open(CODE, "w") as file:
    file.write(f"{code if code >= 0 else 128 - code}\\n")
"""


class _Warm(subprocess.Popen[Any]):
    """A process that was forked by the warm one, which also tells its wait status."""

    def __init__(self, command: Sequence[str | Path], *, take_terminal: bool, **options: Any) -> None:
        self._take_terminal = take_terminal
        self._status: socket.socket | None = None
        super().__init__(command, **options)

    def _execute_child(self, *values: Any, **named: Any) -> None:
        asked = inspect.signature(subprocess.Popen._execute_child).bind(self, *values, **named).arguments  # type: ignore[attr-defined]
        standard = [asked["p2cread"], asked["c2pwrite"], asked["errwrite"]]
        targets = [0, 1, 2, *asked["pass_fds"]]
        order = {
            "arguments": [os.fspath(word) for word in asked["args"]],
            "environment": dict(os.environ if asked["env"] is None else asked["env"]),
            "folder": os.fspath(asked["cwd"] or os.getcwd()),  # noqa: PTH109
            "umask": asked["umask"],
            "new_session": bool(asked["start_new_session"]),
            "process_group": asked.get("process_group", -1),
            "take_terminal": self._take_terminal,
            "targets": targets,
        }
        descriptors = [given if given != -1 else number for number, given in enumerate(standard)]
        try:
            self._status = _server().send(order, [*descriptors, *asked["pass_fds"]])
            self.pid = struct.unpack("!i", self._status.recv(4, socket.MSG_WAITALL))[0]
            self._child_created = True
        finally:
            names = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
            self._close_pipe_fds(*(asked[name] for name in names))  # type: ignore[attr-defined]

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """Return as `os.waitpid` does: (0, 0) where it still runs and `wait_flags` has WNOHANG."""
        assert self._status is not None
        if self._status.fileno() < 0:  # it was closed, for example because the warm process had died
            return self.pid, signal.SIGKILL
        if wait_flags & os.WNOHANG and not select.select([self._status], [], [], 0)[0]:
            return 0, 0
        status = self._status.recv(4, socket.MSG_WAITALL)
        self._status.close()
        return self.pid, struct.unpack("!i", status)[0] if len(status) == 4 else signal.SIGKILL

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):  # type: ignore[attr-defined]
            try:
                if self.returncode is None and self._status is not None:
                    pid, status = self._try_wait(os.WNOHANG)
                    if pid == self.pid:
                        self._handle_exitstatus(status)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode


class _Server:
    """The warm process, started with the first command of this test process."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="afk-warm-")
        self.address = str(Path(self._folder.name, "socket"))
        kept = ("PATH", "TMPDIR", "HOME", *LOCALE)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen(64)
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.warm_process", str(listener.fileno())],
                cwd=Path(__file__).parents[2],
                env={name: os.environ[name] for name in kept if name in os.environ},
                stdin=subprocess.PIPE,
                pass_fds=[listener.fileno()],
            )
        process.wait()  # the warm process has gone its own way, until its stdin ends
        assert process.stdin is not None
        self._stdin = process.stdin
        atexit.register(self.stop)

    def send(self, order: dict[str, Any], descriptors: list[int]) -> socket.socket:
        """Send an order; return the connection on which the process id and then the wait status come."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(self.address)
            data = json.dumps(order).encode()
            socket.send_fds(connection, [struct.pack("!I", len(data))], descriptors)
            connection.sendall(data)
        except BaseException:
            connection.close()
            raise
        return connection

    def stop(self) -> None:
        self._stdin.close()
        self._folder.cleanup()


_started: list[_Server] = []
_starting = threading.Lock()


def _server() -> _Server:
    with _starting:
        if not _started:
            _started.append(_Server())
        return _started[0]
