"""Keeps a warm worker for each home of a test, so that its commands run warm: the option `--warm` of pytest.

A worker is started before the first command of a home, and again where a test has changed what it depends on. Which
commands run warm is afk's own decision; how many did is counted, and why the others did not. However the tests end, the
folder of the sockets is removed then, and with it the workers end.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afkcli.host.paths import config_file
from afkcli.testing.model_server import ModelServer
from afkcli.worker import place
from afkcli.worker.starting import spawn
from afkcli.worker.state import State, read_state

SECONDS = 60
"""After so many seconds without a worker that is ready, a command starts nevertheless: it runs cold."""

_RUN = """
import json, os, sys
program, file, *arguments = sys.argv[1:]
sys.argv[:] = [program, *arguments]
sys.path[0] = os.path.dirname(program)
import afkcli.entry
from afkcli.cli import main

def write_order():
    from afkcli.worker.starting import order_of
    with open(file, "w") as order:
        json.dump(order_of("", program), order)

main(write_order)
"""
"""A run, which writes the order for a worker that imports what the run did."""

_AT_THE_END = 'trap "" INT TERM HUP; cat; [ -e "$0" ] || exit 0; rm -rf "$0"; sleep 10; rm -rf "$0"'
"""Removes a folder when the process that has the other end of its stdin has ended, in any way.

It does so again later: a worker that sees that its socket is not there may have written something meanwhile.
"""

_FOLDERS = re.compile(r"/\S*/(?=\S+ has changed)")
"""What is another one in each test."""
NO_ANSWER = "no answer within a second, or the worker was not asked"
OUT_OF_DATE = "the worker was out of date, and the command started another one"


@dataclass
class _Home:
    """The workers of one home, of which one is there at a time."""

    folder: Path
    started: list[int] = field(default_factory=list)
    config: tuple[int, int] | None = None
    """Time and size of the config that its worker has read."""
    commands: int = 0
    served: dict[int, int] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    changing: threading.Lock = field(default_factory=threading.Lock)
    _last: str = NO_ANSWER

    @property
    def address(self) -> str:
        return str(self.folder / f"worker{place.ENDING}")

    def state(self) -> State | None:
        """Return what the worker tells of itself."""
        self.note()
        return read_state(self.address)

    def note(self) -> None:
        """Note how many commands the worker has run, and why others ran cold; it may have ended because of that."""
        reason = NO_ANSWER
        with contextlib.suppress(OSError, ValueError):
            told = json.loads(Path(f"{self.address}.lock").read_bytes())
            replaced = bool(self.served) and told["pid"] not in {*self.served, *self.started}
            self.served[told["pid"]] = told["served"]
            reason = told["reason"] or (OUT_OF_DATE if replaced else NO_ANSWER)
            reason = _FOLDERS.sub("", reason)
        cold = self.commands - sum(self.served.values()) - self.reasons.total()
        self._last = reason if cold > 0 else self._last
        self.reasons[self._last] += cold  # less than 0 where one was counted that had only begun


class Workers:
    """The workers of a test run.

    Args:
        program: the installed `afk`.
    """

    def __init__(self, program: Path) -> None:
        self._program = program
        self._root = tempfile.mkdtemp(prefix="afk-w-")  # the path of a socket has at most 107 bytes
        self._remover = subprocess.Popen(
            ["/bin/sh", "-c", _AT_THE_END, self._root],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._homes: defaultdict[tuple[str, str], _Home] = defaultdict(self._new)
        self._order: dict[str, object] = {}
        self._lock = threading.Lock()

    def variables(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the variables by which a command finds the worker of its home."""
        return {place.SWITCH: "on", place.SOCKET_VARIABLE: self._home(environment).address}

    def wait_for(self, environment: Mapping[str, str]) -> None:
        """Wait for the worker of a command that is started next; start one if there is none."""
        home = self._home(environment)
        if environment.get(place.SOCKET_VARIABLE) != home.address or place.is_off(environment):
            return
        with self._lock:
            if not self._order:
                self._order = _order_of_a_run(self._program)
        with home.changing:
            if home.config != (config := _config(environment)):
                _replace(home)
                home.config = config
            if home.state() is None and not place.is_held(home.address):
                pid = spawn({**self._order, "socket": home.address}, environment)
                home.started += [] if pid is None else [pid]
            _wait(home)
            home.commands += 1

    def stop(self, below: Path | None = None) -> None:
        """End the workers of the homes below a folder, else all."""
        for (name, _), home in list(self._homes.items()):
            if below is None or Path(name).is_relative_to(below):
                with home.changing:
                    _stop(home)
                    home.state()

    def running(self) -> list[int]:
        """Return the process ids of the workers that take commands."""
        return [state.pid for home in list(self._homes.values()) if (state := home.state()) is not None]

    @property
    def served(self) -> int:
        """How many commands ran warm."""
        return sum(sum(home.served.values()) for home in self._homes.values())

    @property
    def commands(self) -> int:
        """How many commands were started that might run warm."""
        return sum(home.commands for home in self._homes.values())

    @property
    def reasons(self) -> Counter[str]:
        """Why commands ran cold, and how many."""
        return +sum((home.reasons for home in self._homes.values()), Counter())

    def close(self) -> None:
        """End all workers, and remove their sockets."""
        self.stop()
        shutil.rmtree(self._root)
        assert self._remover.stdin is not None
        self._remover.stdin.close()
        self._remover.wait()

    def _home(self, environment: Mapping[str, str]) -> _Home:
        with self._lock:
            return self._homes[environment.get("HOME", ""), environment.get("AFK_HOME", "")]

    def _new(self) -> _Home:
        return _Home(Path(tempfile.mkdtemp(dir=self._root)))


def _order_of_a_run(program: Path) -> dict[str, object]:
    """Return the order for a worker that imports what a run with a provider has imported."""
    with ModelServer() as server, tempfile.TemporaryDirectory(prefix="afk-order-") as folder:
        file = Path(folder, "order")
        variables = {"HOME": folder, "AFK_HOME": folder, "PATH": os.environ["PATH"], place.SWITCH: "off"}
        variables |= {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "none", "AFK_MODEL": "openai/gpt-5.2-mini"}
        command = [sys.executable, "-c", _RUN, str(program), str(file), "run", "-q", "-n", "hi"]
        subprocess.run(command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, check=True, capture_output=True)
        order: dict[str, object] = json.loads(file.read_text())
    return order


def _wait(home: _Home) -> None:
    """Wait until a worker is ready, or there is none."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if home.state() is not None and Path(home.address).is_socket():
            return
        if not place.is_held(home.address) and not any(map(_runs, home.started)):
            return
        time.sleep(0.02)


def _config(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Return the time and the size of the user's config; None where there is none."""
    try:
        status = config_file(environment).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _replace(home: _Home) -> None:
    """Have a worker take no more commands; it ends with those that it runs."""
    end = time.monotonic() + SECONDS
    while (state := home.state()) is not None and time.monotonic() < end:
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.pid, signal.SIGTERM)
        time.sleep(0.02)


def _stop(home: _Home) -> None:
    end = time.monotonic() + SECONDS
    while place.is_held(home.address) or any(map(_runs, home.started)):
        state = home.state()
        for pid in {*home.started, *([state.pid] if state is not None else [])}:
            with contextlib.suppress(ProcessLookupError):
                if _runs(pid):
                    os.kill(pid, signal.SIGTERM)
        assert time.monotonic() < end, f"a worker does not end: {state}"
        time.sleep(0.02)
    home.started.clear()


def _runs(pid: int) -> bool:
    """Return whether a process runs; one that has ended is reaped if it is a child."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


_kept: list[Workers] = []


def keep_workers(program: Path) -> Workers:
    """Have the commands of all tests of this process run warm where they may."""
    _kept.append(Workers(program))
    return _kept[0]


def workers() -> Workers | None:
    """Return the workers of this test process; None without `--warm`."""
    return _kept[0] if _kept else None


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that say whether a command runs warm: without `--warm`, it does not."""
    return _kept[0].variables(environment) if _kept else {place.SWITCH: "off"}


def are_used_by(command: Sequence[str | Path], program: Path, options: Mapping[str, Any]) -> bool:
    """Return whether a command is an `afk` that may find a worker here, which is waited for then."""
    if not _kept or not any(os.fspath(word) == str(program) for word in command):
        return False
    _kept[0].wait_for(options.get("env") or os.environ)
    return True


def runs_in(pid: int) -> list[int]:
    """Return the ids of the processes in which a command may run: its own, and the children of the workers."""
    found = [pid]
    for kept in _kept:
        for worker in kept.running():
            with contextlib.suppress(OSError):
                found += map(int, Path(f"/proc/{worker}/task/{worker}/children").read_text().split())
    return found


def stop(below: Path) -> None:
    """End the workers of the homes below a folder, which is removed next."""
    if _kept:
        _kept[0].stop(below)
