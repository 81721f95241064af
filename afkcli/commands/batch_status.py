"""`afk batch status`: how far one batch has come, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator

import click

from afkcli.batch.progress import Meter, left_of
from afkcli.commands.base import Command
from afkcli.commands.batch_access import batch_meant, complete_batch, engine_option, shown_name, with_engine
from afkcli.commands.batch_command import retry_command, run_command
from afkcli.commands.batch_list import form_of, state_in_words
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.core.contract.engine import BatchInfo, Engine, PromptState
from afkcli.core.contract.text import dollars
from afkcli.screen.display import shown_activity
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout
from afkcli.screen.times import local_time

_WAIT_S = 1.0


@click.command(
    "status",
    cls=Command,
    examples=(
        ("afk batch status", "the batch that was created last"),
        ("afk batch status results.jsonl --watch", "until it has ended"),
    ),
)
@click.argument("batch", required=False, shell_complete=complete_batch, metavar="[BATCH]")
@click.option("--watch", "-w", is_flag=True, help="Show how far it comes until all of its prompts have ended.")
@engine_option
@json_option
def status(batch: str | None, watch: bool, engine: str, as_json: bool) -> None:
    """Show how far a batch has come, what it has cost, and what to do next.

    BATCH is its file of results, or the name that it was given with --batch; the batch that was created last by
    default.
    """
    stdout = Stdout(invocation())

    async def look(kept: Engine) -> BatchInfo:
        info = await batch_meant(kept, batch)
        return await _watched(kept, info) if watch else info

    info = with_engine(engine, look)
    if as_json:
        stdout.objects([form_of(info)])
        return
    stdout.lines(f"{name:<10}{text}" for name, text in _lines(info))


async def _watched(engine: Engine, info: BatchInfo) -> BatchInfo:
    """Show how far a batch comes until it has ended or was stopped, and return it as it is then."""
    meter = Meter()
    with shown_activity(invocation(), Messages(invocation()), "starting") as activity:
        if activity is not None:
            activity.show_measured(lambda columns, is_ascii: meter.line(columns, is_ascii=is_ascii))
        after = 0
        while left_of(info.counts) and info.paused is None:
            news = await engine.watch(info.name, after=after, wait_s=_WAIT_S)
            after = news.outcomes[-1].sequence if news.outcomes else after
            info = news.batch
            meter.take(news)
    return info


def _lines(batch: BatchInfo) -> Iterator[tuple[str, str]]:
    counts = batch.counts
    said = ", ".join(f"{counts[state]:,} {state.value}" for state in PromptState if counts.get(state))
    yield "batch", shown_name(batch, invocation().folder)
    yield "prompts", f"{sum(counts.values()):,}{f': {said}' if said else ''}"
    yield "state", state_in_words(batch)
    yield "cost", _cost(batch)
    yield "tokens", f"{batch.tokens:,} in {batch.requests:,} requests"
    yield "created", local_time(batch.created)
    for key in ("prompts", "results"):
        if batch.settings.get(key):
            yield {"prompts": "from", "results": "to"}[key], str(batch.settings[key])
    step = next_step(batch)
    if step is not None:
        yield "next", step


def _cost(batch: BatchInfo) -> str:
    """Return what is known of the cost, and what is not."""
    many = "" if batch.unknown_costs == 1 else "s"
    unknown = f"unknown for {batch.unknown_costs:,} prompt{many}" if batch.unknown_costs else ""
    known = dollars(batch.cost_usd) if batch.cost_usd or not unknown else ""
    held = f"up to {dollars(batch.reserved_usd)} in flight or parked" if batch.reserved_usd else ""
    return "; ".join(filter(None, (known, held, unknown)))


def next_step(batch: BatchInfo) -> str | None:
    """Return the command that continues a batch; None if it has ended or is running."""
    counts = batch.counts
    again = run_command(batch)
    if counts.get(PromptState.RUNNING) and batch.paused is None:
        return None
    if left_of(counts):
        return again
    if counts.get(PromptState.PARKED):
        return f"{again} --retry-parked" if again else None
    if counts.get(PromptState.FAILED):
        return retry_command(batch)
    return None
