"""Print the table of the sandbox: `python -m tests.sandbox`.

The installed `afk` runs as a user and as root, on a machine with bubblewrap, with Landlock alone, with neither, and
with the sandbox switched off; the kernel itself takes away what a machine is not to have. It ends with 1 where a cell
is not as it has to be.
"""

from __future__ import annotations

import sys

from tests.sandbox.table import columns, table
from tests.sandbox.world import missing, world


def main() -> int:
    reason = missing()
    if reason:
        print(f"the table cannot be made here: {reason}", file=sys.stderr)
        return 2
    with world() as place:
        made = list(columns(place))
    print(table(made))
    problems = [line for column in made for line in column.problems()]
    print(f"{len(problems)} cells are not as they have to be")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
