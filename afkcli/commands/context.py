"""What a command was called with, handed down by click's context."""

from __future__ import annotations

import click

from afkcli.host.invocation import Invocation


def invocation() -> Invocation:
    """Return the invocation of the running command; that of this process where the command was called without one."""
    context = click.get_current_context(silent=True)
    return invocation_of(context) if context is not None else Invocation.of_process()


def invocation_of(context: click.Context) -> Invocation:
    """Return the invocation of a command by its context."""
    return context.find_object(Invocation) or Invocation.of_process()
