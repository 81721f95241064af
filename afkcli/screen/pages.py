"""Text that a person has to see in full: wrapped and not cut, and on a terminal page by page.

No pager of the environment is started: it could leave out lines, and the one that asks could not know whether all of
the text was shown.

Since: 0.2.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from afkcli.core.contract.text import escaped
from afkcli.host.invocation import Invocation
from afkcli.screen.messages import Messages
from afkcli.screen.questions import can_ask
from afkcli.screen.text import width_of

_ROWS, _COLUMNS = 24, 80
_LEAST = 20  # columns for the text of a line, however deep it is indented


def show_all(invocation: Invocation, lines: Sequence[str]) -> bool:
    """Write lines to stderr; return False if the user did not want to see the rest of them.

    On a terminal long lines are wrapped, and after each screen the user is asked to go on.

    Args:
        invocation: whose stderr and stdin are used.
        lines: the lines, indented by blanks; characters that a terminal would not show are escaped.
    """
    messages = Messages(invocation)
    safe = [escaped(line) for line in lines]
    if not can_ask(invocation):
        messages.raw("".join(f"{line}\n" for line in safe))
        return True
    columns, rows = _size(invocation.stderr.descriptor)
    wrapped = [part for line in safe for part in wrap(line, columns)]
    step = max(rows - 2, 1)
    for start in range(0, len(wrapped), step):
        messages.raw("".join(f"{line}\n" for line in wrapped[start : start + step]))
        left = len(wrapped) - start - step
        if left > 0 and not go_on(invocation, f"{left} more lines"):
            return False
    return True


def wrap(line: str, columns: int) -> list[str]:
    """Return a line in parts that fit in `columns`; further parts are indented more than the first one."""
    indent = len(line) - len(line.lstrip(" "))
    width = max(columns - indent - 4, _LEAST)
    parts, part, used = [], "", 0
    for char in line[indent:]:
        more = width_of(char)
        if used + more > width:
            parts.append(part)
            part, used = "", 0
        part, used = part + char, used + more
    parts.append(part)
    return [" " * (indent if number == 0 else indent + 4) + part for number, part in enumerate(parts)]


def go_on(invocation: Invocation, what: str) -> bool:
    """Ask on the terminal whether to show more, and return the answer; True where nobody can be asked.

    Args:
        invocation: whose stderr and stdin are used.
        what: what there is more of: `12 more lines`.
    """
    if not can_ask(invocation):
        return True
    Messages(invocation).raw(f"-- {what}: Enter shows them, q and Enter leaves --")
    stdin = invocation.stdin.text
    answer = stdin.readline() if stdin is not None else ""
    return answer.endswith("\n") and not answer.strip().lower().startswith("q")


def _size(descriptor: int) -> tuple[int, int]:
    try:
        size = os.get_terminal_size(descriptor)
    except OSError:
        return _COLUMNS, _ROWS
    return size.columns or _COLUMNS, size.lines or _ROWS
