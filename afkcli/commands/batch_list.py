"""`afk batch list`: the batches, and how far each has come."""

from __future__ import annotations

from collections.abc import Sequence

import click

from afkcli.batch.progress import batch_form, cost_in_words, left_of, settled_of
from afkcli.commands.base import Command
from afkcli.commands.batch_access import engine_option, shown_name, with_engine
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.core.contract.engine import BatchInfo, PromptState
from afkcli.core.contract.jsonform import JsonObject
from afkcli.screen.columns import Column, Columns
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout
from afkcli.screen.styles import GREEN, YELLOW
from afkcli.screen.times import ago

_COLUMNS = (
    Column("BATCH", least=12),
    Column("CREATED"),
    Column("PROMPTS", right=True),
    Column("FAILED", right=True),
    Column("COST", right=True),
    Column("STATE"),
)


@click.command("list", cls=Command, examples=(("afk batch list --json", "for a program"),))
@engine_option
@json_option
def list_batches(engine: str, as_json: bool) -> None:
    """List the batches, the last created first: prompts that have ended of all, those that failed, cost and state."""
    found = with_engine(engine, lambda kept: kept.batches())
    stdout = Stdout(invocation())
    if as_json:
        stdout.objects(form_of(batch) for batch in found)
        return
    if not found:
        Messages(invocation()).say("there are no batches yet; `afk batch run PROMPTS -o RESULTS` starts one")
        return
    styles = [YELLOW if has_problems(batch) else GREEN if left_of(batch.counts) else "" for batch in found]
    stdout.lines(Columns(stdout, _COLUMNS).lines([_row(batch) for batch in found], styles))


def form_of(batch: BatchInfo) -> JsonObject:
    """Return a batch as JSON."""
    settings = {name: batch.settings.get(name) for name in ("prompts", "results")}
    return {"v": 1, "type": "batch", "batch": batch.name, "created": batch.created, **settings, **batch_form(batch)}


def has_problems(batch: BatchInfo) -> bool:
    """Return whether prompts of a batch have failed, are parked, or wait because it was stopped for a reason."""
    return batch.paused is not None or any(
        batch.counts.get(state) for state in (PromptState.FAILED, PromptState.PARKED)
    )


def state_in_words(batch: BatchInfo) -> str:
    """Return where a batch is, in words."""
    counts = batch.counts
    if batch.paused is not None:
        return f"stopped: {batch.paused}"
    if counts.get(PromptState.RUNNING):
        return f"{counts[PromptState.RUNNING]:,} running"
    if counts.get(PromptState.SENT):
        return f"{counts[PromptState.SENT]:,} at the provider"
    if left_of(counts):
        return f"{left_of(counts):,} queued"
    parked = counts.get(PromptState.PARKED, 0)
    return f"ended, {parked:,} parked" if parked else "ended"


def _row(batch: BatchInfo) -> Sequence[str]:
    counts = batch.counts
    return (
        shown_name(batch, invocation().folder),
        ago(batch.created),
        f"{settled_of(counts):,}/{sum(counts.values()):,}",
        f"{counts.get(PromptState.FAILED, 0):,}",
        "-" if batch.unknown_costs and not batch.cost_usd else cost_in_words(batch).replace("below ", "<"),
        state_in_words(batch),
    )
