"""The group of commands, which loads a command's module only when that command is called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from afkcli.commands.base import SHOWS_AND_EXITS, Group, option
from afkcli.front_page import (
    COMMANDS,
    EXAMPLES,
    INTRODUCTION,
    command_sections,
    plugin_commands,
)
from afkcli.host.collecting import collect_again
from afkcli.host.ending import EndedError, Ending
from afkcli.screen.help_text import MAX_COLUMNS
from afkcli.version import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_IMPORT_MORE = ("chat", "run", "threads")
"""Commands that say themselves when they have imported what they need: see `afkcli.host.collecting`."""


class Commands(Group):
    """The group of commands. Showing its help loads no command; an unknown name may be a command of a plugin."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _quiet_without_a_reader():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _quiet_without_a_reader():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *plugin_commands()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            from importlib import import_module

            module = import_module(f"afkcli.commands.{cmd_name}")
            if cmd_name not in _IMPORT_MORE:
                collect_again()
            command: click.Command = module.command
            return command
        collect_again()
        return _plugin_command(ctx, cmd_name)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that begin so, or the options; no command is loaded for its help."""
        from click.shell_completion import CompletionItem

        rows = [row for rows in command_sections(plugin_commands()).values() for row in rows]
        found = [CompletionItem(name, help=text) for name, text in rows if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for group, rows in command_sections(plugin_commands()).items():
            with formatter.section(group):
                formatter.write_dl(rows)


@contextmanager
def _quiet_without_a_reader() -> Iterator[None]:
    """End the command by SIGPIPE where stdout has no reader any more; click would make exit code 1 of it."""
    try:
        yield
    except BrokenPipeError:
        from afkcli.host.signals import SIGPIPE

        raise EndedError(Ending(signal=SIGPIPE)) from None


def _print_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"afk {__version__}")
        ctx.exit()


@click.group(
    cls=Commands,
    help=INTRODUCTION,
    examples=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": MAX_COLUMNS},
)
@option("--version", "-V", help="Show the version and exit.", callback=_print_version, **SHOWS_AND_EXITS)
def cli() -> None:
    """Hold the commands; the group itself does nothing."""


def _plugin_command(ctx: click.Context, name: str) -> click.Command | None:
    from afkcli.commands.context import invocation_of
    from afkcli.commands.plugin_command import plugin_command

    return plugin_command(invocation_of(ctx), name)
