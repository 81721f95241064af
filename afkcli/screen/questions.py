"""Questions to the user on the terminal."""

from __future__ import annotations

import click

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.text import one_line
from afkcli.host.invocation import Invocation


def confirmed(invocation: Invocation, question: str, *, yes: bool) -> bool:
    """Return whether the user agrees: by `--yes`, or asked on the terminal.

    Raises:
        UsageError: asking needs a terminal.
    """
    if yes:
        return True
    if not can_ask(invocation):
        raise UsageError(f"nothing was done: asking {one_line(question)!r} needs a terminal; use --yes")
    with invocation.without_transient():
        return click.confirm(one_line(question), err=True)


def can_ask(invocation: Invocation) -> bool:
    """Return whether the user sees a question and can answer it: stdin and stderr are terminals."""
    return invocation.stdin.is_terminal and invocation.stderr.is_terminal
