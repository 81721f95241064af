"""Print the table of dialects: `python -m tests.dialects`. It ends with 1 where something is not as it should be."""

from __future__ import annotations

import sys

from tests.dialects.play import SITUATIONS, Played, play
from tests.dialects.servers import DIALECTS


def main() -> int:
    found = [played for dialect in DIALECTS for played in play(dialect)]
    print(table(found))
    return 1 if any(played.problems for played in found) else 0


def table(found: list[Played]) -> str:
    """Return a row a server, a column a situation, and the problems below."""
    names = list(dict.fromkeys(played.dialect for played in found))
    width = max(map(len, names))
    lines = ["  ".join(["server".ljust(width), *SITUATIONS])]
    for name in names:
        cells = ["NO" if played.problems else "yes" for played in found if played.dialect == name]
        lines.append(
            "  ".join([name.ljust(width), *(cell.ljust(len(s)) for cell, s in zip(cells, SITUATIONS, strict=True))])
        )
    lines += [f"{played.dialect}, {played.situation}: {problem}" for played in found for problem in played.problems]
    return "\n".join(line.rstrip() for line in lines)


if __name__ == "__main__":
    sys.exit(main())
