"""Runs programs and measures them from outside: wall time, CPU time, memory, and when their request arrived."""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.server import Arrival, BenchmarkServer

_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of a program.

    `wall` is from just before it was started to its end, `to_request` from the same moment to its last request's
    arrival at the server, `after_request` from there to its end; `cpu` is its user and system time, `cpu_to_request`
    what of it was spent before that arrival; all in seconds. `peak` is its largest resident memory in bytes.
    """

    wall: float
    to_request: float
    cpu_to_request: float
    after_request: float
    cpu: float
    peak: int


class ProgramFailedError(Exception):
    """A measured program did not do its work."""


def environment(home: Path, **variables: str) -> dict[str, str]:
    """Return a program's clean environment: a home of its own, .pyc files in use, no proxy, no key."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {**kept, "HOME": str(home), "AFK_HOME": str(home / "afk"), **variables}


def run(
    command: Sequence[str | Path], env: Mapping[str, str], server: BenchmarkServer | None = None, *, cwd: Path
) -> Measured:
    """Run `command` to its end, reading its stdout through a pipe.

    Raises:
        ProgramFailedError: its exit code is not 0, or it sent no request to the `server` that was given.
    """
    if server is not None:
        server.arrivals()
    begin = time.monotonic()
    process = subprocess.Popen(
        command, env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    if server is not None:
        server.sender = process.pid
    assert process.stdout is not None
    assert process.stderr is not None
    while os.read(process.stdout.fileno(), 1 << 16):
        pass
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    end = time.monotonic()
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    process.stderr.close()
    arrivals = server.arrivals() if server is not None else []
    if process.returncode != 0 or (server is not None and not arrivals):
        what = f"exit code {process.returncode}" if process.returncode else "no request"
        line = " ".join(str(part) for part in command)
        raise ProgramFailedError(f"{line}: {what}: {errors.decode('utf-8', 'replace')[-500:]}")
    arrival = arrivals[-1] if arrivals else Arrival(at=end, cpu=math.nan)
    return Measured(
        wall=end - begin,
        to_request=arrival.at - begin,
        cpu_to_request=arrival.cpu,
        after_request=end - arrival.at,
        cpu=usage.ru_utime + usage.ru_stime,
        peak=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    )


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
