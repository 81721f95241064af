"""What all cases share: the server, a folder, the rounds, and the registry of the cases."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Measured, environment, interleaved, run
from benchmarks.report import Row
from benchmarks.server import MODEL, BenchmarkServer

PROGRAMS = Path(__file__).parent / "programs"
AFK = Path(sys.executable).with_name("afk")
PYTHON = Path(sys.executable)
DELTAS = 20_000
FEW_DELTAS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The common parts of the cases: the server, a folder, the rounds, and the output for progress.

    `before` is the `afk` program of another version of afk, for the case `versions`.
    """

    server: BenchmarkServer
    folder: Path
    runs: int
    say: Callable[[str], None]
    peer: bool = True
    before: Path | None = None

    def home(self, name: str) -> dict[str, str]:
        """Make an empty home and return the environment of a program that lives there."""
        home = self.folder / name
        home.mkdir()
        return environment(
            home, OPENAI_BASE_URL=self.server.base_url, OPENAI_API_KEY="none", BENCH_MODEL=MODEL, AFK_DEMO="off"
        )

    def side(
        self, command: Sequence[str | Path], env: dict[str, str], *, requests: bool = True
    ) -> Callable[[], Measured]:
        """Return the call that measures one run of `command`."""
        return lambda: run(command, env, self.server if requests else None, cwd=self.folder)

    def interleave(self, sides: dict[str, Callable[[], Measured]]) -> dict[str, list[Measured]]:
        return interleaved(sides, self.runs, self.say)


Case = Callable[[Bench], list[Row]]
CASES: dict[str, Case] = {}


def benchmark(name: str) -> Callable[[Case], Case]:
    """Return the decorator that registers a case as `name`, the word by which the command line selects it."""

    def register(function: Case) -> Case:
        if name in CASES:
            raise ValueError(f"two cases are named {name!r}")
        CASES[name] = function
        return function

    return register


def ms(values: Sequence[float]) -> list[float]:
    """Return seconds as milliseconds."""
    return [value * 1000 for value in values]
