"""What `afk run` and `afk threads resume` share: the options of a turn, and the way from them to the process's end."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from afkcli.commands.schema_option import read_schema
from afkcli.commands.turn import RunOptions, Turn
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import JsonError, loads
from afkcli.core.contract.limits import LIMITS, Limit
from afkcli.host.signals import die_of
from afkcli.screen.messages import Messages

if TYPE_CHECKING:
    from afkcli.core.thread.attachments import Attachment

F = TypeVar("F", bound=Callable[..., Any])


def _not_negative(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise click.BadParameter("must be 0 or greater", ctx, param)
    return value


def _options_of_the_model(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, Any]:
    """Return the options by name: a JSON scalar as what it is, anything else as text."""
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


def _option_of(limit: Limit) -> Callable[[F], F]:
    """Return the option of a limit; its value is passed by the name of the limit's field."""

    def check(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
        wrong = limit.wrong(value) if value is not None else None
        if wrong is not None:
            raise click.BadParameter(wrong, ctx, param)
        return value

    return click.option(
        str(limit.option),
        limit.field,
        type=click.IntRange(min=0 if limit.may_be_zero else 1) if limit.kind is int else float,
        callback=check,
        envvar=limit.variable,
        metavar=limit.metavar,
        help=limit.help,
    )


_OPTIONS = (
    click.option("--model", "-m", metavar="MODEL", help="The model, as provider/model or a name that a plugin knows."),
    click.option("--agent", "-a", metavar="NAME", help="The agent, by its name in the config."),
    click.option("--instructions", "-s", metavar="TEXT", help="Instructions (the system message) for this run."),
    click.option(
        "--schema",
        metavar="FILE|JSON",
        help="The answer has to be JSON that fits this JSON Schema; nothing else is written to stdout.",
    ),
    click.option(
        "--tool",
        "tools",
        multiple=True,
        metavar="NAME",
        help="Give the agent this tool of a plugin too, or namespace.* for all of one; may be given more than once.",
    ),
    click.option(
        "--approvals",
        type=click.Choice(["ask", "deny", "stdin"]),
        envvar="AFK_APPROVALS",
        help="Who decides on tool calls without a rule: ask on the terminal, deny, or read decisions from stdin.",
    ),
    click.option("--fail-on-denied", is_flag=True, help="Exit with 6 where a tool call was denied."),
    click.option(
        "--option",
        "-o",
        "model_options",
        multiple=True,
        callback=_options_of_the_model,
        metavar="NAME=VALUE",
        help="An option of the model, such as temperature=0; may be given more than once.",
    ),
    click.option("--json", "json_", is_flag=True, help="Write every event as one line of JSON."),
    click.option("--reasoning", is_flag=True, help="Show the model's reasoning on stderr while it streams."),
    click.option("--final", is_flag=True, help="Write only the text of the last step, when it is there."),
    click.option(
        "--busy",
        type=click.Choice(["wait", "fail", "fork"]),
        envvar="AFK_BUSY",
        help="What to do while another run holds the thread; wait by default.",
    ),
    click.option(
        "--busy-timeout",
        type=float,
        callback=_not_negative,
        envvar="AFK_BUSY_TIMEOUT",
        metavar="SECONDS",
        help="How long to wait for the thread; 60 by default.",
    ),
    *map(_option_of, (limit for limit in LIMITS if limit.option is not None)),
    click.option(
        "--plugin",
        "plugins",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Use this plugin file too; may be given more than once.",
    ),
    click.option("--debug", is_flag=True, help="Show the traceback of an error."),
)


def turn_options(function: F) -> F:
    """Give a command the options of a turn; their values are for `run_turn`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def run_turn(
    text: str | None,
    messages: Messages,
    *,
    model: str | None,
    agent: str | None,
    instructions: str | None,
    model_options: Mapping[str, Any],
    plugins: tuple[Path, ...],
    tools: tuple[str, ...],
    schema: str | None,
    json_: bool,
    thread: str | None,
    continue_: bool = False,
    memory: bool = True,
    attachments: Sequence[Attachment] = (),
    **options: Any,
) -> NoReturn:
    """Run one turn and end the process as it ended.

    Args:
        text: the message; without one the thread's last turn is gone on with.
        messages: stderr.
        model, agent, instructions, model_options, plugins, tools, schema, json_, options: those of a turn, the limits
            by the names of their fields included.
        thread, continue_, memory: as in `RunOptions`.
        attachments: what goes with the message.
    """
    from afkcli.wiring.setup import Flags, load_setup

    if json_ and options["final"]:
        raise UsageError("--json and --final are two forms of the output; use one of them")
    if options["approvals"] == "stdin" and not json_:
        raise UsageError("--approvals stdin needs --json, which shows what is asked; add it")
    given = {limit.field: options.pop(limit.field) for limit in LIMITS if limit.option is not None}
    run_options = RunOptions(
        memory=memory, json=json_, structured=schema is not None, thread=thread, continue_=continue_, **options
    )
    flags = Flags(
        model=model,
        agent=agent,
        instructions=instructions,
        tools=tools,
        limits={name: value for name, value in given.items() if value is not None},
        options=model_options,
        schema=read_schema(schema) if schema is not None else None,
    )
    setup = load_setup(project=True, plugin_files=plugins, notify=messages.say)
    ending = asyncio.run(Turn(run_options, setup, flags, text, messages, attachments).run())
    if ending.signal is not None:
        die_of(ending.signal)
    sys.exit(ending.code)
