"""`python -m benchmarks`: measure, and print the table of ratios."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

from benchmarks.bench import PEERS_OF_CASES, Bench
from benchmarks.cases import CASES
from benchmarks.isolation import leave_network
from benchmarks.measure import ProgramFailedError
from benchmarks.peers.installing import PEERS, Installed, install
from benchmarks.report import Row, as_json, as_text
from benchmarks.server import BenchmarkServer


def main() -> int:
    """Return the exit code: 0, or 1 with `--check` where a goal is missed or could not be measured."""
    options = _options()
    signal.signal(signal.SIGTERM, _end)  # so that what is measured ends too, and the folder is removed
    names = options.cases or list(CASES)
    with tempfile.TemporaryDirectory(prefix="afk-benchmarks-") as folder:
        peers = _peers(options, names, Path(folder))
        network, variables = leave_network()
        with BenchmarkServer() as server:
            rows = []
            for name in names:
                bench = Bench(
                    server=server,
                    folder=Path(folder) / name,
                    runs=max(1, options.runs),
                    say=_say(name),
                    peers=peers,
                    network=variables,
                    before=options.before,
                )
                done = _rows(name, bench)
                print(as_text(done, {}), file=sys.stderr, flush=True)  # all cases together take long
                rows += done
    conditions = _conditions(peers, network)
    print(as_json(rows, options.runs, conditions) if options.json else as_text(rows, conditions))
    missed = any(row.goal is not None and not row.met for row in rows)
    failed = any(row.ratio is None and not row.against for row in rows)
    return 1 if options.check and (missed or failed) else 0


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Print what afk costs, as ratios.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"which cases: {', '.join(CASES)} (default: all)")
    parser.add_argument("--runs", type=int, default=7, help="rounds that count, of each case (default: 7)")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    parser.add_argument(
        "--peers",
        type=Path,
        metavar="FOLDER",
        help="install the peers below FOLDER and keep them for the next time (default: a folder that is removed)",
    )
    parser.add_argument("--no-peers", action="store_true", help="install no peers; their rows say so")
    parser.add_argument(
        "--before", type=Path, metavar="PROGRAM", help="the `afk` of another version, for the case `versions`"
    )
    parser.add_argument("--check", action="store_true", help="end with exit code 1 if a goal is missed or not measured")
    options = parser.parse_args()
    unknown = set(options.cases) - set(CASES)
    if unknown:
        parser.error(f"there is no case {min(unknown)!r} (cases: {', '.join(CASES)})")
    return options


def _peers(options: argparse.Namespace, names: Sequence[str], folder: Path) -> dict[str, Installed | str]:
    """Install the peers of these cases, while the network is there."""
    needed = [peer for peer in PEERS if any(peer in PEERS_OF_CASES[name] for name in names)]
    if options.no_peers:
        return dict.fromkeys(needed, "left out with --no-peers")
    return install(needed, (options.peers or folder / "peers").resolve(), _say("peers"))


def _rows(name: str, bench: Bench) -> list[Row]:
    bench.folder.mkdir()
    try:
        return CASES[name](bench)
    except (ProgramFailedError, subprocess.SubprocessError, OSError) as error:  # the other cases are worth having
        return [Row(case=name, against="", unit="", note=str(error))]


def _conditions(peers: Mapping[str, Installed | str], network: str) -> dict[str, str]:
    versions = {name: peer.version if isinstance(peer, Installed) else peer for name, peer in peers.items()}
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    return {"network": network, "cores": str(os.cpu_count()), "load at the end": load, **versions}


def _say(name: str) -> Callable[[str], None]:
    def say(line: str) -> None:
        print(f"{name}: {line}", file=sys.stderr, flush=True)

    return say


if __name__ == "__main__":
    sys.exit(main())
