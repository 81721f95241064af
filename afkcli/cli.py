"""The command line: a group that loads a command's module only when that command is called."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

import click

from afkcli.core.contract.errors import EXIT_INTERNAL, EXIT_USAGE, AfkError
from afkcli.host.signals import SIGPIPE, die_of
from afkcli.version import __version__

COMMANDS = {
    "run": "Run an agent on a message and stream its answer.",
    "threads": "List, show, rename, export and delete threads.",
    "events": "Read the event log; print the events' JSON Schema.",
    "tools": "List the tools of plugins and servers, and what is decided on their calls.",
    "plugins": "List plugins, and what is wrong with them.",
    "config": "Show the config and where it comes from.",
    "init": "Write a commented afk.toml here.",
    "trust": "Trust the afk.toml of this project.",
    "doctor": "Check the installation; say which model a bare run would use.",
    "completion": "Print the completion script for bash, zsh or fish.",
}


class Commands(click.Group):
    """The group of commands. Its help needs none of them; an unknown name may be a plugin's command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *_plugin_commands()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            from importlib import import_module

            module = import_module(f"afkcli.commands.{cmd_name}")
            command: click.Command = module.command
            return command
        return _plugin_command(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = list(COMMANDS.items())
        rows += [(name, "(from a plugin)") for name in _plugin_commands()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "--version", "-V", prog_name="afk", message="%(prog)s %(version)s")
def cli() -> None:
    """Run language-model agents from the shell.

    \b
    afk run "Why is the sky blue?"           ask, in a new thread
    afk run --thread t-42 "And at sunset?"   ask, in a thread that is remembered
    git diff | afk run "Review this"         a message, then what is piped in
    """


def main() -> NoReturn:
    """Run the command line and exit with the documented code."""
    _open_standard_descriptors()
    debug = "--debug" in sys.argv
    try:
        code = cli.main(standalone_mode=False, prog_name="afk")
        _flush()
    except click.exceptions.Exit as exit_:
        code = exit_.exit_code
    except click.exceptions.Abort:
        die_of(signal.SIGINT)
    except KeyboardInterrupt:
        die_of(signal.SIGINT)
    except BrokenPipeError:
        die_of(SIGPIPE)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        code = EXIT_USAGE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "afk"
        _fail(f"{error.format_message().rstrip('.')}; see `{path} --help`", debug)
        code = EXIT_USAGE
    except click.ClickException as error:
        _fail(error.format_message(), debug)
        code = error.exit_code
    except AfkError as error:
        _fail(str(error), debug)
        code = error.exit_code
    except Exception as error:  # the last line of defence: one line, and the traceback for those who ask
        hint = "" if debug else "; run it again with --debug for the traceback"
        _fail(f"something went wrong inside afk: {type(error).__name__}: {error}{hint}", debug)
        code = EXIT_INTERNAL
    sys.exit(code if isinstance(code, int) else 0)


def _fail(line: str, debug: bool) -> None:
    from afkcli.screen.messages import Messages

    messages = Messages()
    if debug:
        import traceback

        messages.raw(traceback.format_exc())
    messages.error(line)


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _open_standard_descriptors() -> None:
    """Open the null device on standard descriptors that are closed, so that no file of ours becomes one of them."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _plugin_commands() -> list[str]:
    from afkcli.loading.discovery import discover

    return [name for name in discover().names("command") if name not in COMMANDS]


def _plugin_command(name: str) -> click.Command | None:
    from afkcli.host.secrets import SECRETS
    from afkcli.loading.discovery import discover

    plugins = discover()
    if f"command.{name}" not in plugins.found:
        return None
    made: Any = plugins.make("command", name, {}, SECRETS)
    command: click.Command = made
    return command
