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


class EnvironmentOption(click.Option):
    """An option that takes its value from a variable of the invocation's environment where it is not given."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        return invocation_of(ctx).environment.get(str(self.envvar)) or None if self.envvar else None

    def get_error_hint(self, ctx: click.Context | None, *arguments: object) -> str:
        """Return what an error calls this option: its variable, if the wrong value came from that."""
        if ctx is not None and ctx.get_parameter_source(str(self.name)) is click.core.ParameterSource.ENVIRONMENT:
            return f"'{self.envvar}'"
        return super().get_error_hint(ctx)
