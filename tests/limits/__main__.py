"""Print the table of limits: `python -m tests.limits [CASE ...]`.

It drives the installed `afk` as a real process against a scripted server on a real socket: what was set, what was
observed, and whether it held. It ends with 1 where a row does not hold.
"""

from __future__ import annotations

import argparse
import sys

from tests.limits.cases import CASES, rows_of
from tests.limits.table import Row, table
from tests.limits.world import world


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.limits", description="Print the table of limits.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(case.name for case in CASES)}")
    options = parser.parse_args()
    unknown = set(options.cases) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    rows: list[Row] = []
    with world() as made:
        for case in CASES:
            if not options.cases or case.name in options.cases:
                rows += rows_of(made, case)
                print(f"\r{len(rows)} rows, {made.runs} runs", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print(table(rows))
    broken = sum(not row.held for row in rows)
    print(f"{len(rows)} rows, {broken} that did not hold")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
