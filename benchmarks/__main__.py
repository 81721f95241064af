"""`python -m benchmarks`: measure, and print the table of ratios."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.cases import CASES
from benchmarks.measure import ProgramFailedError
from benchmarks.report import Row, as_json, as_text
from benchmarks.server import BenchmarkServer


def main() -> int:
    """Return the exit code: 0, or 1 with `--check` where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Print what afk costs, as ratios.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"which cases: {', '.join(CASES)} (default: all)")
    parser.add_argument("--runs", type=int, default=7, help="rounds that count, of each case (default: 7)")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    parser.add_argument("--no-peer", action="store_true", help="do not install the peer `llm` from PyPI")
    parser.add_argument(
        "--before", type=Path, metavar="PROGRAM", help="the `afk` of another version, for the case `versions`"
    )
    parser.add_argument("--check", action="store_true", help="end with exit code 1 if a goal is missed")
    options = parser.parse_args()
    unknown = set(options.cases) - set(CASES)
    if unknown:
        parser.error(f"there is no case {min(unknown)!r} (cases: {', '.join(CASES)})")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="afk-benchmarks-") as folder, BenchmarkServer() as server:
        for name in options.cases or CASES:
            place = Path(folder) / name
            place.mkdir()

            def say(line: str, name: str = name) -> None:
                print(f"{name}: {line}", file=sys.stderr, flush=True)

            bench = Bench(
                server=server,
                folder=place,
                runs=max(1, options.runs),
                say=say,
                peer=not options.no_peer,
                before=options.before,
            )
            try:
                rows += CASES[name](bench)
            except ProgramFailedError as error:
                rows.append(Row(case=name, against="", unit="", note=str(error)))
    print(as_json(rows, options.runs) if options.json else as_text(rows))
    return 1 if options.check and any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
