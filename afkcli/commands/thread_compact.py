"""`afk threads compact`: a summary is sent in place of the old turns of a thread, which stay."""

from __future__ import annotations

import asyncio

import click

from afkcli.commands.base import Command
from afkcli.commands.completion import complete_model, complete_thread
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.number_types import WholeNumber
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.text import dollars
from afkcli.core.run.thread_compaction import KEPT_TURNS, Compacted
from afkcli.screen.display import shown_activity
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout
from afkcli.wiring.agents import Flags, agent_for
from afkcli.wiring.assembly import load_setup
from afkcli.wiring.runner import Runner


@click.command(
    "compact",
    cls=Command,
    examples=(
        ("afk threads compact", "summarise the thread last used here"),
        ("afk threads compact trip -k 3", "all but the last 3 questions of `trip`"),
    ),
)
@click.argument("name", required=False, shell_complete=complete_thread)
@click.option(
    "--model",
    "-m",
    metavar="MODEL",
    shell_complete=complete_model,
    help="The model that is asked; by default as for a run of the thread.",
)
@click.option(
    "--keep",
    "-k",
    "keep_turns",
    type=WholeNumber(min=0),
    default=KEPT_TURNS,
    show_default=True,
    metavar="N",
    help="Leave the last N questions whole, with their answers.",
)
@json_option
def compact(name: str | None, model: str | None, keep_turns: int, as_json: bool) -> None:
    """Have a model summarise the thread NAME, and write the summary to stdout; without NAME the one last used here.

    From now on the summary is sent in place of the turns. They stay in the thread, and `undo` takes the summary back.
    """
    messages, stdout = Messages(invocation()), Stdout(invocation())
    setup = load_setup(invocation(), project=True, notify=messages.say)
    runner = Runner(setup=setup, sinks=())

    async def work() -> Compacted:
        try:
            return await runner.compact(
                lambda thread: agent_for(setup, Flags(context_model=model), thread),
                thread_id=await _thread(runner, name),
                keep_turns=keep_turns,
            )
        finally:
            await runner.aclose()

    with shown_activity(invocation(), messages, "compacting"):
        compacted = asyncio.run(work())
    messages.say(_line(compacted))
    if as_json:
        stdout.objects([_form(compacted)])
    else:
        stdout.lines([stdout.text(line) for line in compacted.compaction.summary.splitlines()])


async def _thread(runner: Runner, name: str | None) -> str:
    if name is not None:
        return (await runner.thread_meant(name)).name
    last = await runner.last_thread()
    if last is None:
        raise UsageError(f"no thread was used in {invocation().folder} yet; name a thread")
    return last.name


def _line(compacted: Compacted) -> str:
    made, name = compacted.compaction, compacted.thread.name
    where = (
        f"turns {made.covers[0][0]} to {made.through}" if made.through > made.covers[0][0] else f"turn {made.through}"
    )
    tokens = f"{made.usage.input_tokens:,} + {made.usage.output_tokens:,} tokens"
    paid = f", {dollars(made.cost_usd)}" if made.cost_usd is not None else ""
    what = "a summary" if made.summary else "a compaction of the server"
    return f"{what} is sent in place of {where} of {name!r}: {made.model}, {tokens}{paid}"


def _form(compacted: Compacted) -> JsonObject:
    made, thread = compacted.compaction, compacted.thread
    return {
        "v": 1,
        "type": "compacted",
        "thread_id": thread.name,
        "thread_key": thread.key,
        "id": made.id,
        "covers": made.covers,
        "summary": made.summary,
        "by_server": not made.summary,
        "model": made.model,
        "usage": made.usage,
        "total_cost_usd": made.cost_usd,
    }
