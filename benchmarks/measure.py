"""Runs programs and measures them from outside: wall time, CPU time, memory, and when their request arrived."""

from __future__ import annotations

import math
import os
import pty
import resource
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import BinaryIO, cast

from benchmarks.server import Arrival, BenchmarkServer

RUN_SECONDS = 120
"""After so long a program is taken to hang."""

_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of a program.

    `wall` is from just before it was started to its end, `to_request` from the same moment to its last request's
    arrival at the server, `after_request` from there to its end, `after_first` from the arrival of its first request
    to its end; `cpu` is its user and system time, `cpu_to_request` what of it was spent before the last request's
    arrival; all in seconds. `peak` is its largest resident memory in bytes, and that of the processes below it; `sent`
    is the size of its last request's body.
    """

    wall: float
    to_request: float
    cpu_to_request: float
    after_request: float
    after_first: float
    cpu: float
    peak: int
    sent: int = 0


class ProgramFailedError(Exception):
    """A measured program did not do its work."""


def environment(home: Path, **variables: str) -> dict[str, str]:
    """Return a program's clean environment: a home of its own, .pyc files in use, no proxy, no key."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {**kept, "HOME": str(home), "AFK_HOME": str(home / "afk"), "AFK_WORKER": "off", **variables}


def run(
    command: Sequence[str | Path],
    env: Mapping[str, str],
    server: BenchmarkServer | None = None,
    *,
    cwd: Path,
    seconds: float = RUN_SECONDS,
) -> Measured:
    """Run `command` to its end, reading its stdout through a pipe; after `seconds` it is taken to hang.

    Raises:
        ProgramFailedError: its exit code is not 0, or it sent no request to the `server` that was given.
    """
    if server is not None:
        server.arrivals()
    with tempfile.TemporaryFile() as errors:
        begin = time.monotonic()
        with _stops_held() as release:
            process = subprocess.Popen(
                command,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
            if server is not None:
                server.sender = process.pid
            assert process.stdout is not None
            with process.stdout:
                return _measure(process, process.stdout.fileno(), begin, release, server, errors, seconds)


def run_on_terminal(
    command: Sequence[str | Path], env: Mapping[str, str], *, lines: int, columns: int = 100, cwd: Path
) -> Measured:
    """Run `command` to its end on a terminal of this size, reading what it shows.

    Raises:
        ProgramFailedError: its exit code is not 0.
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (lines, columns))
    with os.fdopen(ours, "rb", buffering=0):
        begin = time.monotonic()
        with _stops_held() as release:
            try:
                process = subprocess.Popen(
                    command,
                    env={**env, "TERM": "xterm"},
                    cwd=cwd,
                    stdin=theirs,
                    stdout=theirs,
                    stderr=theirs,
                    start_new_session=True,
                )
            finally:
                os.close(theirs)
            return _measure(process, ours, begin, release)


@contextmanager
def _stops_held() -> Iterator[Callable[[], None]]:
    """Hold SIGINT and SIGTERM back until the function that is yielded is called, or the block ends.

    A handler that raises between the start of a process and the `try` that ends it would leave the process behind.
    """
    held: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def release() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        before.clear()
        while held:
            signal.raise_signal(held.pop())

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    for number in before:
        signal.signal(number, hold)
    try:
        yield release
    finally:
        release()


def _measure(
    process: subprocess.Popen[bytes],
    output: int,
    begin: float,
    release: Callable[[], None],
    server: BenchmarkServer | None = None,
    errors: BinaryIO | None = None,
    seconds: float = RUN_SECONDS,
) -> Measured:
    """Read what a process writes to `output`, and wait for its end; it has its own group, which a limit ends.

    `release` lets the signals through that were held back while the process was started.
    """
    limit = threading.Timer(seconds, _end, (process,))
    limit.start()
    try:
        release()
        last = _read_to_end(output)
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        _end(process)
        process.wait()
        raise
    finally:
        limit.cancel()
    end = time.monotonic()
    process.returncode = os.waitstatus_to_exitcode(status)
    arrivals = server.arrivals() if server is not None else []
    if process.returncode != 0 or (server is not None and not arrivals):
        if errors is not None:
            errors.seek(0)
            last = errors.read()
        raise ProgramFailedError(_failure(process, end - begin, last, seconds))
    arrival = arrivals[-1] if arrivals else Arrival(at=end, cpu=math.nan)
    return Measured(
        wall=end - begin,
        to_request=arrival.at - begin,
        cpu_to_request=arrival.cpu,
        after_request=end - arrival.at,
        after_first=end - (arrivals[0].at if arrivals else end),
        cpu=usage.ru_utime + usage.ru_stime,
        peak=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        sent=arrival.size,
    )


def _read_to_end(descriptor: int) -> bytes:
    """Read until the last writer has closed it, and return the last of it."""
    last = b""
    with suppress(OSError):  # what Linux reports at the end of a terminal
        while piece := os.read(descriptor, 1 << 16):
            last = piece
    return last


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _failure(process: subprocess.Popen[bytes], lasted: float, shown: bytes, most: float) -> str:
    if lasted >= most:
        what = f"it was killed after {most:g} s"
    else:
        what = f"exit code {process.returncode}" if process.returncode else "no request"
    line = " ".join(str(part) for part in cast("Sequence[object]", process.args))
    return f"{line}: {what}: {shown.decode('utf-8', 'replace')[-500:]}"


def own_peak() -> int:
    """Return this process's largest resident memory in bytes; what it starts cannot show less (Linux)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


def interleaved(
    sides: Mapping[str, Callable[[], Measured]], runs: int, say: Callable[[str], None]
) -> dict[str, list[Measured]]:
    """Run the sides in turn, `runs` rounds after one that warms up (.pyc files, page cache) and does not count.

    Every round begins with another side, so that none always follows the same one.
    """
    measured: dict[str, list[Measured]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(runs + 1):
        say(f"round {number} of {runs}")
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            result = sides[name]()
            if number:
                measured[name].append(result)
    return measured
