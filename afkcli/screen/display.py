"""How much a terminal is asked for: text that is drawn again, or text that is only ever appended."""

from __future__ import annotations

from afkcli.host.invocation import Invocation


def is_append_only(invocation: Invocation, *, plain: bool = False) -> bool:
    """Return whether what was written is never changed: no spinner, redraw, box or rendered Markdown.

    It is so for `plain` (the option `--plain`), for a screen reader (the variable `ACCESSIBLE`, by any value), and on a
    dumb terminal.

    Since: 0.2.
    """
    environment = invocation.environment
    return plain or bool(environment.get("ACCESSIBLE")) or environment.get("TERM") == "dumb"
