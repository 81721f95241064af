"""What is written to stderr when a command ends by an exception, and how the process ends then."""

from __future__ import annotations

import signal

import click

from afkcli.core.contract.errors import EXIT_INTERNAL, EXIT_USAGE, AfkError
from afkcli.core.contract.suggestions import near_names
from afkcli.host.ending import EndedError, Ending
from afkcli.host.invocation import Invocation
from afkcli.host.signals import SIGPIPE
from afkcli.screen.messages import Messages


def ending_of(error: BaseException, invocation: Invocation, *, debug: bool) -> Ending:
    """Write the one line that describes `error` to stderr, with `debug` the traceback too, and return the ending.

    An interruption and a stdout without a reader have no line.
    """
    if isinstance(error, EndedError):
        return error.ending
    if isinstance(error, (KeyboardInterrupt, click.exceptions.Abort)):
        return Ending(signal=signal.SIGINT)
    if isinstance(error, BrokenPipeError):
        return Ending(signal=SIGPIPE)
    if isinstance(error, click.exceptions.Exit):
        return Ending(error.exit_code)
    if isinstance(error, SystemExit):
        return Ending(error.code if isinstance(error.code, int) else EXIT_INTERNAL if error.code else 0)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        return Ending(EXIT_USAGE)
    line, code = _described(error, debug)
    messages = Messages(invocation)
    if debug:
        import traceback

        messages.raw("".join(traceback.format_exception(error)))
    messages.error(line)
    return Ending(code)


def _words(error: click.UsageError) -> str:
    """Return what click says of a wrong call; a name is suggested only if it is near, and click's own need not be."""
    if error.ctx is None or not isinstance(error, (click.NoSuchOption, _NO_SUCH_COMMAND)):
        return error.format_message()
    if isinstance(error, click.NoSuchOption):
        name = error.option_name
        known = [
            option for item in error.ctx.command.get_params(error.ctx) for option in (*item.opts, *item.secondary_opts)
        ]
        known = [option for option in known if option.startswith("--")]
    else:
        name = str(getattr(error, "command_name", ""))
        command = error.ctx.command
        known = command.list_commands(error.ctx) if isinstance(command, click.Group) else []
    near = near_names(name, known, most=3)
    return error.message.rstrip(".") + (f"; did you mean {' or '.join(map(repr, near))}?" if near else "")


_NO_SUCH_COMMAND = getattr(click.exceptions, "NoSuchCommand", ())
"""Since click 8.4; before, the group said it without a name to suggest."""


def _described(error: BaseException, debug: bool) -> tuple[str, int]:
    """Return the line for a person, and the exit code."""
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "afk"
        return f"{_words(error).rstrip('.')}; see `{path} --help`", EXIT_USAGE
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, AfkError):
        return str(error), error.exit_code
    hint = "" if debug else "; run it again with --debug for the traceback"
    return f"something went wrong inside afk: {type(error).__name__}: {error}{hint}", EXIT_INTERNAL
