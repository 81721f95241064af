"""Print the table of provider faults: `python -m tests.provider_faults [--short] [--api NAME] [FAULT ...]`.

It ends with 1 where something is not as the design says. FAULT is the beginning of a fault's name.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.interrupts import allow_interrupts
from tests.provider_faults.apis import APIS, Api, installed
from tests.provider_faults.endless import ENDLESS, ENDLESS_IN_A_CONNECTION, ENDLESS_IN_AN_ANSWER
from tests.provider_faults.faults import FAULTS as ORDINARY
from tests.provider_faults.faults import Fault
from tests.provider_faults.observe import Found, observe

AT_ONCE = 4
FAULTS = (*ORDINARY, *ENDLESS)
_HEADINGS = ("fault", "api", "exit", "state", "kind", "requests", "next turn sends", "MB", "as designed", "line")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.provider_faults", description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT")
    parser.add_argument("--short", action="store_true", help="of what the shared connection ends, try a fourth")
    parser.add_argument("--api", action="append", choices=[api.name for api in APIS], help="only this one")
    options = parser.parse_args()
    apis = [api for api in installed() if not options.api or api.name in options.api]
    missing = sorted({api.name for api in APIS if not options.api or api.name in options.api} - {a.name for a in apis})
    if missing and (options.api or not apis):
        parser.error(f"not installed here: {', '.join(missing)}")
    faults = (*ORDINARY, *ENDLESS_IN_A_CONNECTION[::4], *ENDLESS_IN_AN_ANSWER) if options.short else FAULTS
    chosen = [fault for fault in faults if not options.faults or fault.name.startswith(tuple(options.faults))]
    if not chosen:
        parser.error(f"no such fault; there are: {'; '.join(fault.name for fault in FAULTS)}")
    allow_interrupts()
    found = []
    for row in survey(chosen, apis):
        found.append(row)
        how = "; ".join(row.problems) or "as designed"
        print(f"{row.fault.name}, {row.api.name}: {how}", file=sys.stderr, flush=True)
    print(table(found))
    if missing:
        print(f"not installed here, and so not tested: {', '.join(missing)}")
    deviations = [row for row in found if row.problems]
    peak = max(row.megabytes - row.api.library_megabytes for row in found)
    measured = f"; a body without end took {peak} MB at most" if peak else ""
    print(f"{len(found)} rows, {len(deviations)} not as designed{measured}")
    return 1 if deviations else 0


def survey(faults: Sequence[Fault], apis: Sequence[Api]) -> Iterator[Found]:
    """Yield what is observed of each fault at each API, in their order."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(lambda pair: observe(*pair), [(fault, api) for fault in faults for api in apis])


def table(found: Iterable[Found]) -> str:
    """Return the rows as a table of text, the problems below it."""
    rows = list(found)
    cells = [_HEADINGS, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    lines += [f"{row.fault.name}, {row.api.name}: {problem}" for row in rows for problem in row.problems]
    return "\n".join(lines)


def _cells(row: Found) -> tuple[str, ...]:
    designed = "NO" if row.problems else "yes"
    numbers = (str(row.code), row.state, row.kind or "-", str(row.requests))
    return (row.fault.name, row.api.name, *numbers, row.sent, str(row.megabytes or "-"), designed, row.line or "-")


if __name__ == "__main__":
    sys.exit(main())
