"""Questions to the user on the terminal."""

from __future__ import annotations

import sys

import click

from afkcli.core.contract.errors import UsageError
from afkcli.screen.text import one_line


def confirmed(question: str, *, yes: bool) -> bool:
    """Return whether the user agrees: by `--yes`, or asked on the terminal.

    Raises:
        UsageError: there is no terminal to ask on.
    """
    if yes:
        return True
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr is not None and sys.stderr.isatty()):
        raise UsageError(f"nothing was done: there is no terminal to ask {one_line(question)!r} on; give --yes")
    return click.confirm(one_line(question), err=True)
