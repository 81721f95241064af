"""How much a terminal is asked for: text that is drawn again, or text that is only ever appended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from afkcli.host.invocation import Invocation

if TYPE_CHECKING:
    from afkcli.screen.activity import Activity
    from afkcli.screen.messages import Messages

WaitForm = Literal["line", "appended"]
"""How a person is shown that something is waited for: by a line that is drawn again, or by lines that are appended."""


def is_append_only(invocation: Invocation, *, plain: bool = False) -> bool:
    """Return whether what was written is never changed: no spinner, redraw, box or rendered Markdown.

    It is so for `plain` (the option `--plain`), for a screen reader (the variable `ACCESSIBLE`, by any value), and on a
    dumb terminal.

    Since: 0.2.
    """
    environment = invocation.environment
    return plain or bool(environment.get("ACCESSIBLE")) or environment.get("TERM") == "dumb"


def wait_form(invocation: Invocation, *, plain: bool = False) -> WaitForm | None:
    """Return how a wait is shown on stderr, None if it is not: stderr is not a terminal.

    Lines are appended where `is_append_only` says so, where the terminal is that of a job (the variable `CI`), and
    where nothing is known of it.

    Since: 0.2.
    """
    if not invocation.stderr.is_terminal:
        return None
    environment = invocation.environment
    is_job = environment.get("CI", "").lower() not in ("", "0", "false")
    is_unknown = os.name == "nt" or environment.get("TERM", "unknown") in ("", "unknown")
    return "appended" if is_job or is_unknown or is_append_only(invocation, plain=plain) else "line"


@contextmanager
def shown_activity(
    invocation: Invocation, messages: Messages, text: str, *, plain: bool = False
) -> Iterator[Activity | None]:
    """Show what is waited for inside the block, where stderr is a terminal.

    Args:
        invocation: the terminal is its stderr.
        messages: the lines on it.
        text: what goes on where nothing else is waited for.
        plain: whether output is only to be appended.

    Since: 0.2.
    """
    form = wait_form(invocation, plain=plain)
    if form is None:
        yield None
        return
    from afkcli.screen.activity import Activity  # not at the top: a script has no terminal

    with Activity(invocation, messages, appended=form == "appended") as activity:
        activity.show(text)
        yield activity
