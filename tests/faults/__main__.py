"""Run the fault suite and print its table: `python -m tests.faults [--long] [--seed SEED] [CASE ...]`.

It ends with 1 if a goal does not hold. A failure is repeated with the seed that was printed.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import time

from tests.faults.cases import CASES
from tests.faults.table import Row, table
from tests.interrupts import allow_interrupts


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Run the fault suite of afk.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(case.name for case in CASES)}")
    parser.add_argument("--long", action="store_true", help="large numbers; about an hour on two cores")
    parser.add_argument("--seed", default=secrets.token_hex(4), help="repeats the chances of an earlier run")
    options = parser.parse_args()
    unknown = set(options.cases) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    allow_interrupts()
    print(f"seed {options.seed}", flush=True)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that what is mounted goes
    rows: list[Row] = []
    for case in CASES:
        if options.cases and case.name not in options.cases:
            continue
        began = time.monotonic()
        rows.append((case.long if options.long else case.short)(options.seed))
        print(f"{table(rows[-1:])}\n({time.monotonic() - began:.0f} s)\n", flush=True)
    print(table(rows))
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
