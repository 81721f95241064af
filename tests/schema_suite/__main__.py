"""Play JSON-Schema-Test-Suite, drafts 3 to 2020-12: `python -m tests.schema_suite [FOLDER]`.

FOLDER has a copy of the suite; without it, one is installed into the user's cache. The command prints the crashes and
the wrong verdicts with their reasons, and ends with 1 if there is a crash, or a wrong verdict without a known reason.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.schema_suite.suite import UNEXPLAINED, cases_of, installed, play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.schema_suite", description="Play JSON-Schema-Test-Suite.")
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="a copy of the suite")
    folder = parser.parse_args().folder or installed()
    required, optional = play(cases_of(folder)), play(cases_of(folder, optional=True))
    for line in (*required.crashes, *optional.crashes):
        print(f"crash: {line}")
    for reason, names in required.wrong.items():
        print(f"{len(names)} wrong verdicts: {reason}")
        for name in names:
            print(f"  {name}")
    wrong = sum(map(len, required.wrong.values()))
    print(f"required: {required.cases} cases, {len(required.crashes)} crashes, {wrong} wrong verdicts")
    print(f"optional: {optional.cases} cases, {len(optional.crashes)} crashes; their verdicts are not judged")
    return 1 if required.crashes or optional.crashes or UNEXPLAINED in required.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
