"""From a signal to the end."""

from __future__ import annotations

import signal
import subprocess
import time
from functools import partial
from pathlib import Path

from benchmarks.answers import MODEL, answer
from benchmarks.bench import AFK, DELTAS, Bench, benchmark, ms
from benchmarks.measure import Measured, ProgramFailedError
from benchmarks.report import Row, compare


@benchmark("stopping")
def stopping(bench: Bench) -> list[Row]:
    """From a signal in the middle of an answer, whose reader has stopped reading, to the end of the process."""
    bench.server.answer = answer(DELTAS)
    env = bench.home("stopping")
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    results = bench.interleave({number.name: partial(_stopped, env, bench.folder, number) for number in numbers})
    return [
        compare(
            f"{name} to the end of afk", "a second", "ms", ms([one.wall for one in ones]), [1000.0] * len(ones), goal=1
        )
        for name, ones in results.items()
    ]


def _stopped(env: dict[str, str], folder: Path, number: signal.Signals) -> Measured:
    """Stop a run by a signal when the first of its answer was read; `wall` is how long it took."""
    command: list[str | Path] = [AFK, "run", "-n", "-m", MODEL, "hi"]
    with subprocess.Popen(
        command, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        process.stdout.read(100)
        begin = time.monotonic()
        process.send_signal(number)
        process.wait()
        wall = time.monotonic() - begin
    if process.returncode != -number:
        raise ProgramFailedError(f"afk ended with {process.returncode} of {number.name}")
    return Measured(wall=wall, to_request=0, cpu_to_request=0, after_request=wall, after_first=wall, cpu=0, peak=0)
