"""The options of a turn, which `afk run` and `afk threads resume` share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from afkcli.commands.base import CONVERSATION, MODEL, OUTPUT, RUN_LIMITS, TESTING, TOOLS, EnvironmentOption, option
from afkcli.commands.completion import complete_agent, complete_file, complete_model, complete_thread, complete_tool
from afkcli.commands.number_types import Number, Seconds, WholeNumber
from afkcli.core.contract.context import CONTEXT_POLICIES
from afkcli.core.contract.limits import LIMITS, Limit

if TYPE_CHECKING:
    from afkcli.commands.turn_request import TurnRequest

F = TypeVar("F", bound=Callable[..., Any])


def _not_negative(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise click.BadParameter(f"must be 0 or greater (got {value:g})", ctx, param)
    return value


def options_of_the_model(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, Any]:
    """Return the options by name; a value that is a JSON scalar is parsed, any other is text."""
    from afkcli.core.contract.jsonform import JsonError, loads

    options: dict[str, Any] = {}
    for item in value:
        name, equals, text = item.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{item!r} is not NAME=VALUE, as in temperature=0", ctx, param)
        try:
            said = loads(text)
        except JsonError:
            said = text
        options[name] = text if isinstance(said, (dict, list)) else said
    return options


def _number(limit: Limit) -> WholeNumber | Number | Seconds:
    if limit.is_time:
        return Seconds()
    if limit.kind is int:
        return WholeNumber(min=0 if limit.may_be_zero else 1)
    return Number("of at least 0" if limit.may_be_zero else "greater than 0")


def _option_of(limit: Limit) -> Callable[[F], F]:
    """Return the option of a limit; its value is passed by the name of the limit's field."""

    def check(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
        wrong = limit.wrong(value) if value is not None else None
        if wrong is not None:
            raise click.BadParameter(f"{wrong} (got {value:g})", ctx, param)
        return value

    return option(
        str(limit.option),
        limit.field,
        type=_number(limit),
        callback=check,
        cls=EnvironmentOption,
        envvar=limit.variable,
        metavar=limit.metavar,
        help=limit.help,
        group=RUN_LIMITS,
    )


_OPTIONS = (
    option(
        "--model",
        "-m",
        group=MODEL,
        metavar="MODEL",
        shell_complete=complete_model,
        help="The model, as provider/model or a name that a plugin knows.",
    ),
    option(
        "--agent",
        "-a",
        group=MODEL,
        shell_complete=complete_agent,
        metavar="NAME",
        help="The agent, by its name in the config.",
    ),
    option(
        "--instructions",
        "-s",
        group=MODEL,
        once=True,
        metavar="TEXT",
        help="Instructions (the system message) for this run.",
    ),
    option(
        "--schema",
        group=OUTPUT,
        shell_complete=complete_file,
        metavar="FILE|JSON",
        help="The answer must be JSON that matches this JSON Schema; nothing else is written to stdout.",
    ),
    option(
        "--tool",
        "tools",
        group=TOOLS,
        multiple=True,
        shell_complete=complete_tool,
        metavar="NAME",
        help="Give the agent this tool of a plugin too, or namespace.* for all of one; may be given more than once.",
    ),
    option(
        "--approvals",
        group=TOOLS,
        type=click.Choice(["ask", "deny", "stdin"]),
        cls=EnvironmentOption,
        envvar="AFK_APPROVALS",
        help="Who decides on tool calls without a rule: ask on the terminal, deny, or read decisions from stdin.",
    ),
    option("--fail-on-denied", group=TOOLS, is_flag=True, help="Exit with code 6 if a tool call was denied."),
    option(
        "--option",
        "-o",
        "options",
        group=MODEL,
        multiple=True,
        callback=options_of_the_model,
        metavar="NAME=VALUE",
        help="An option of the model, such as temperature=0; may be given more than once.",
    ),
    option(
        "--context",
        group=CONVERSATION,
        type=click.Choice(CONTEXT_POLICIES),
        help="What to do with a conversation that does not fit into the model's window; trim by default.",
    ),
    option(
        "--context-model",
        group=CONVERSATION,
        metavar="MODEL",
        help="The model that makes summaries with --context compact or native; the model of the run by default.",
    ),
    option("--json", "json", group=OUTPUT, is_flag=True, help="Write every event as one line of JSON."),
    option("--reasoning", group=OUTPUT, is_flag=True, help="Show the model's reasoning on stderr while it streams."),
    option(
        "--quiet",
        "-q",
        group=OUTPUT,
        is_flag=True,
        help="On a terminal, do not say that a thread is new, or what the run took.",
    ),
    option(
        "--plain",
        group=OUTPUT,
        is_flag=True,
        help="On a terminal, show the answer as it is: nothing is rendered, drawn again or animated.",
    ),
    option("--final", group=OUTPUT, is_flag=True, help="Write only the text of the last step, once it is complete."),
    option(
        "--busy",
        group=CONVERSATION,
        type=click.Choice(["wait", "fail", "fork"]),
        cls=EnvironmentOption,
        envvar="AFK_BUSY",
        help="What to do while another run holds the thread; wait by default.",
    ),
    option(
        "--busy-timeout",
        group=CONVERSATION,
        type=Seconds(),
        callback=_not_negative,
        cls=EnvironmentOption,
        envvar="AFK_BUSY_TIMEOUT",
        metavar="TIME",
        help="How long to wait for the thread: seconds, or 90s, 5m, 1h; 60 seconds by default.",
    ),
    *map(_option_of, (limit for limit in LIMITS if limit.option is not None)),
    option(
        "--plugin",
        "plugins",
        group=TOOLS,
        multiple=True,
        type=click.Path(),
        metavar="FILE",
        help="Use this plugin file too; may be given more than once.",
    ),
    option("--debug", group=TESTING, is_flag=True, help="Show the traceback of an error."),
)


def turn_options(function: F) -> F:
    """Give a command the options of a turn; their values are for `request_of`."""
    for declared in reversed(_OPTIONS):
        function = declared(function)
    return function


def thread_options(function: F) -> F:
    """Give a command the options that say which thread it is about; their values are for `request_of`. Since: 0.2."""
    continued = option(
        "--continue",
        "-c",
        "continue_",
        group=CONVERSATION,
        is_flag=True,
        help="Continue the thread last used in this folder.",
    )
    named = option(
        "--thread",
        "-t",
        group=CONVERSATION,
        once=True,
        metavar="NAME",
        shell_complete=complete_thread,
        help="The thread to continue, or to start.",
    )
    return named(continued(function))


def request_of(options: dict[str, Any], **more: Any) -> TurnRequest:
    """Return what the options of a command say, and `more`, as the request for a turn."""
    from pathlib import Path

    from afkcli.commands.turn_request import TurnRequest

    options["plugins"] = tuple(map(Path, options["plugins"]))
    limits = {limit.field: options.pop(limit.field) for limit in LIMITS if limit.option is not None}
    given = {name: value for name, value in limits.items() if value is not None}
    return TurnRequest(limits=given, **options, **more)
