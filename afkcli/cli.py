"""The command line: a group that loads a command's module only when that command is called."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

import click

from afkcli.host.ending import Ending
from afkcli.host.invocation import Invocation, open_standard_descriptors, unblock_stderr
from afkcli.host.signals import die_of
from afkcli.version import __version__

_LAST_LINES_SECONDS = 0.5
"""How long the end waits for a reader of stderr that takes nothing."""

COMMANDS = {
    "run": "Run an agent on a message and stream its answer.",
    "threads": "List, show, rename, export and delete threads.",
    "events": "Read the event log; print the events' JSON Schema.",
    "tools": "List the tools of plugins and servers, and the decision on their calls.",
    "plugins": "List plugins and their problems.",
    "config": "Show the config and where it comes from.",
    "init": "Write a commented afk.toml here.",
    "trust": "Trust the afk.toml of this project.",
    "doctor": "Check the installation; show which model a bare run would use.",
    "completion": "Print the completion script for bash, zsh or fish.",
}


class Commands(click.Group):
    """The group of commands. Showing its help loads no command; an unknown name may be a command of a plugin."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *_plugin_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            from importlib import import_module

            module = import_module(f"afkcli.commands.{cmd_name}")
            command: click.Command = module.command
            return command
        return _plugin_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = list(COMMANDS.items())
        rows += [(name, "(from a plugin)") for name in _plugin_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "--version", "-V", prog_name="afk", message="%(prog)s %(version)s")
def cli() -> None:
    """Run language-model agents from the shell.

    \b
    afk run "Why is the sky blue?"           ask, in a new thread
    afk run --thread t-42 "And at sunset?"   ask, in a thread that is remembered
    git diff | afk run "Review this"         a message, followed by piped text
    """


def run(invocation: Invocation) -> Ending:
    """Run the command line of `invocation`; return how it ended. It raises nothing and ends no process."""
    try:
        returned = cli.main(list(invocation.arguments), prog_name="afk", standalone_mode=False, obj=invocation)
        invocation.stdout.flush()
    except BaseException as error:
        from afkcli.screen.errors import ending_of

        return ending_of(error, invocation, debug="--debug" in invocation.arguments)
    if isinstance(returned, Ending):
        return returned
    return Ending(returned if isinstance(returned, int) else 0)


def main() -> NoReturn:
    """Run the command line, and end this process as it ended: the documented exit code, or the signal."""
    wait_for_stderr = unblock_stderr()
    invocation = Invocation.of_process(owns_process=True)
    open_standard_descriptors()
    ending = run(invocation)
    wait_for_stderr(_LAST_LINES_SECONDS)
    if ending.signal is not None:
        die_of(ending.signal)
    if ending.at_once:
        with contextlib.suppress(OSError, ValueError):
            invocation.stdout.flush()
            invocation.stderr.flush()
        os._exit(ending.code)
    sys.exit(ending.code)


def _plugin_commands(ctx: click.Context) -> list[str]:
    from afkcli.commands.context import invocation_of
    from afkcli.loading.discovery import discover

    return [name for name in discover(invocation_of(ctx)).names("command") if name not in COMMANDS]


def _plugin_command(ctx: click.Context, name: str) -> click.Command | None:
    from afkcli.commands.context import invocation_of
    from afkcli.commands.plugin_command import plugin_command

    return plugin_command(invocation_of(ctx), name)
