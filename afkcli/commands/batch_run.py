"""`afk batch run`: a file of prompts to a file of results."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from afkcli.commands.base import CONVERSATION, MESSAGE, MODEL, OUTPUT, RUN_LIMITS, TESTING, TOOLS, Command, option
from afkcli.commands.batch_input import input_options
from afkcli.commands.completion import complete_agent, complete_file, complete_model, complete_tool
from afkcli.commands.context import invocation
from afkcli.commands.number_types import Number, Seconds, WholeNumber
from afkcli.host.ending import Ending

if TYPE_CHECKING:
    from afkcli.batch.batch_request import BatchRequest


def _positive(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise click.BadParameter(f"must be greater than 0 (got {value:g})", ctx, param)
    return value


def _seconds(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise click.BadParameter(f"must be 0 or greater (got {value:g})", ctx, param)
    return value


@click.command(
    "run",
    cls=Command,
    examples=(
        ("afk batch run prompts.jsonl -o results.jsonl", "ask all prompts of a file"),
        ("afk batch run prompts.csv -o results.jsonl --rpm 500", "500 a minute"),
        ("afk batch run prompts.txt -o results.jsonl --max-cost 5", "for $5 at most"),
    ),
)
@click.argument("prompts", type=click.Path(allow_dash=True), shell_complete=complete_file)
@option(
    "--output",
    "-o",
    "results",
    group=OUTPUT,
    required=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    shell_complete=complete_file,
    help="The file of results, one line of JSON for each prompt. The same file goes on where it was.",
)
@option("--ordered", group=OUTPUT, is_flag=True, help="Write the results in the order of the prompts.")
@input_options
@option("--model", "-m", group=MODEL, metavar="MODEL", shell_complete=complete_model, help="The model of the prompts.")
@option("--agent", "-a", group=MODEL, metavar="NAME", shell_complete=complete_agent, help="The agent of the prompts.")
@option(
    "--tool",
    "tools",
    group=TOOLS,
    multiple=True,
    shell_complete=complete_tool,
    metavar="NAME",
    help="Give the agent this tool of a plugin too; the approval rules of the config alone decide on its calls.",
)
@option(
    "--plugin",
    "plugins",
    group=TOOLS,
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Use this plugin file too; may be given more than once.",
)
@option(
    "--concurrency",
    group=RUN_LIMITS,
    type=WholeNumber(min=1),
    metavar="N",
    default=32,
    show_default=True,
    help="How many prompts are in flight at once.",
)
@option("--rpm", group=RUN_LIMITS, type=WholeNumber(min=1), metavar="N", help="The most requests in any minute.")
@option(
    "--tpm",
    group=RUN_LIMITS,
    type=WholeNumber(min=1),
    metavar="N",
    help="The most tokens in any minute, input and output.",
)
@option(
    "--max-cost",
    group=RUN_LIMITS,
    type=Number("greater than 0"),
    callback=_positive,
    metavar="USD",
    help="The most that the whole batch may cost, in US dollars.",
)
@option(
    "--max-errors",
    group=RUN_LIMITS,
    type=WholeNumber(min=1),
    metavar="N",
    help="Stop when so many prompts have failed.",
)
@option(
    "--timeout",
    group=RUN_LIMITS,
    type=Seconds(),
    callback=_positive,
    metavar="TIME",
    help="The longest time for each prompt: seconds, or 90s, 5m, 1h.",
)
@option(
    "--batch", "name", group=CONVERSATION, metavar="NAME", help="The name of the batch; by default its file of results."
)
@option("--rerun-changed", group=MESSAGE, is_flag=True, help="Ask prompts anew that have changed under their id.")
@option(
    "--retry-parked", group=MESSAGE, is_flag=True, help="Ask prompts again that may have been paid without an answer."
)
@option("--threads", "keeps_threads", group=CONVERSATION, is_flag=True, help="Keep a thread for each prompt.")
@option(
    "--busy",
    group=CONVERSATION,
    type=click.Choice(["wait", "fail"]),
    help="What to do while another process runs the batch; wait by default.",
)
@option(
    "--busy-timeout",
    group=CONVERSATION,
    type=Seconds(),
    callback=_seconds,
    metavar="TIME",
    help="How long to wait for it: seconds, or 90s, 5m, 1h; 60 seconds by default.",
)
@option("--json", "json", group=OUTPUT, is_flag=True, help="Write every event as one line of JSON.")
@option(
    "--plain", group=OUTPUT, is_flag=True, help="On a terminal, append lines in place of one line that is drawn again."
)
@option(
    "--dry-run",
    group=TESTING,
    is_flag=True,
    help="Write how many prompts, tokens and dollars it will take, as far as that is known, and ask nothing.",
)
@option("--engine", default="local", show_default=True, metavar="NAME", help="The engine that keeps the batch.")
@option(
    "--workers",
    type=WholeNumber(min=1),
    metavar="N",
    help="How many processes run prompts here; one a core at most by default, and none for an engine of many machines.",
)
@option(
    "--via",
    type=click.Choice(["provider"]),
    help="Have batches of the provider answer the prompts: within a day, at about half the price.",
)
@option(
    "--poll",
    type=Seconds(),
    callback=_positive,
    metavar="TIME",
    help="The longest time between two questions about such a batch: seconds, or 90s, 5m; 60 seconds by default.",
)
@option(
    "--no-wait",
    is_flag=True,
    help="With --via provider: take what is ready, send the rest, and end; the same command goes on later.",
)
@option("--debug", group=TESTING, is_flag=True, help="Show the traceback of an error.")
def run(**options: Any) -> Ending:
    """Ask all PROMPTS of a file, and write their results to another.

    A line is a message, or an object with an id and a message. What was asked and answered is kept, so the same command
    goes on where it was stopped, and nothing is paid twice. Ctrl-C waits for what is in flight.
    """
    from afkcli.batch.batch_request import BatchRequest
    from afkcli.commands.batch_turn import run_batch

    debug = options.pop("debug")
    request: BatchRequest = BatchRequest(**options)
    return run_batch(invocation(), request, debug=debug)
