"""What all cases share: the server, a folder, the rounds, the peers, and the registry of the cases."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.answers import CLAUDE_MODEL, MODEL
from benchmarks.measure import RUN_SECONDS, Measured, ProgramFailedError, environment, interleaved, run
from benchmarks.peers.conversations import UnknownFormError
from benchmarks.peers.installing import Installed
from benchmarks.peers.pointing import AGAINST, NEXT_TURNS, POINTING, TURNS
from benchmarks.report import Row, compare
from benchmarks.server import BenchmarkServer

PROGRAMS = Path(__file__).parent / "programs"
AFK = Path(sys.executable).with_name("afk")
PYTHON = Path(sys.executable)
ANTHROPIC = f"anthropic/{CLAUDE_MODEL}"
DELTAS = 20_000
FEW_DELTAS = 200

Side = Callable[[], Measured]
Figure = Callable[[Measured], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The common parts of the cases.

    `peers` has what was installed of each peer that a case names, or the reason why it was not. `network` are the
    variables that keep programs off the network. `before` is the `afk` program of another version of afk. `failures`
    are the peers that were installed and did not work, with the reason.
    """

    server: BenchmarkServer
    folder: Path
    runs: int
    say: Callable[[str], None]
    peers: Mapping[str, Installed | str] = field(default_factory=dict)
    network: Mapping[str, str] = field(default_factory=dict)
    before: Path | None = None
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        """How often `interleave` runs each side: the first round does not count."""
        return self.runs + 1

    def home(self, name: str) -> dict[str, str]:
        """Make an empty home and return the environment of a program that lives there."""
        home = self.folder / name
        home.mkdir()
        variables = {
            "OPENAI_BASE_URL": self.server.base_url,
            "OPENAI_API_KEY": "none",
            "ANTHROPIC_BASE_URL": self.server.origin,
            "ANTHROPIC_API_KEY": "none",
            "BENCH_MODEL": MODEL,
            "BENCH_CLAUDE_MODEL": CLAUDE_MODEL,
            "AFK_DEMO": "off",
        }
        return environment(home, **variables, **self.network)

    def side(
        self,
        command: Sequence[str | Path],
        env: dict[str, str],
        *,
        requests: bool = True,
        seconds: float = RUN_SECONDS,
    ) -> Side:
        """Return the call that measures one run of `command`, which may take so many seconds."""
        return lambda: run(command, env, self.server if requests else None, cwd=self.folder, seconds=seconds)

    def interleave(self, sides: dict[str, Side]) -> dict[str, list[Measured]]:
        return interleaved(sides, self.runs, self.say)

    def peer_sides(
        self,
        env: dict[str, str],
        names: Sequence[str],
        *,
        turns: Mapping[str, tuple[str, ...]] = NEXT_TURNS,
        prepare: Callable[[str, dict[str, str]], None] = lambda name, env: None,
    ) -> dict[str, Side]:
        """Return a side for each of these peers that works here: the one of `turns`, in the home of `env`.

        Each has made a turn then, so that it has its files, and a conversation that can be continued; and is prepared.
        """
        sides = {}
        for name in names:
            peer = self.peers.get(name, "left out")
            if not isinstance(peer, Installed):
                continue
            env_of_peer = {**env, **POINTING[name](Path(env["HOME"]), self.server)}
            try:
                self.side([peer.program, *TURNS[name]], env_of_peer)()
                prepare(name, env_of_peer)
            except (ProgramFailedError, UnknownFormError) as error:
                self.failures[name] = str(error)
            else:
                sides[name] = self.side([peer.program, *turns[name]], env_of_peer)
        return sides

    def against_peer(
        self,
        case: str,
        name: str,
        unit: str,
        mine: Sequence[float],
        other: Sequence[float] | None,
        *,
        goal: float | None = None,
        more_is_better: bool = False,
    ) -> Row:
        """Return the row of afk and a peer; without `other` figures it says why the peer was not measured."""
        against = AGAINST.get(name, name)
        if other is None:
            reason = self.failures.get(name) or str(self.peers.get(name, "left out"))
            return Row(case=case, against=against, unit=unit, goal=goal, more_is_better=more_is_better, note=reason)
        return compare(case, against, unit, mine, other, goal=goal, more_is_better=more_is_better)


Case = Callable[[Bench], list[Row]]
CASES: dict[str, Case] = {}
PEERS_OF_CASES: dict[str, tuple[str, ...]] = {}


def benchmark(name: str, *, peers: tuple[str, ...] = ()) -> Callable[[Case], Case]:
    """Return the decorator that registers a case.

    Args:
        name: the word by which the command line selects the case.
        peers: the peers that have to be installed for it, as `benchmarks.peers.installing` names them.
    """

    def register(function: Case) -> Case:
        if name in CASES:
            raise ValueError(f"two cases are named {name!r}")
        CASES[name] = function
        PEERS_OF_CASES[name] = peers
        return function

    return register


def ms(values: Sequence[float]) -> list[float]:
    """Return seconds as milliseconds."""
    return [value * 1000 for value in values]


def figures(results: Mapping[str, Sequence[Measured]], figure: Figure) -> dict[str, list[float]]:
    """Return one figure of every side, a value a round."""
    return {name: [figure(one) for one in ones] for name, ones in results.items()}
