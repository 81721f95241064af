"""`afk batch retry` and `afk batch cancel`: queue prompts again, or take queued ones out."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import click

from afkcli.commands.base import Command
from afkcli.commands.batch_access import batch_meant, complete_batch, engine_option, normal_ids, with_engine
from afkcli.commands.batch_command import run_command
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.core.contract.engine import BatchInfo, Engine, PromptState
from afkcli.core.contract.errors import AfkError, UnknownNameError
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout
from afkcli.wiring.assembly import load_setup

_AT_ONCE = 1000


@click.command(
    "retry",
    cls=Command,
    examples=(
        ("afk batch retry results.jsonl", "those that failed"),
        ("afk batch retry results.jsonl mail-7 mail-9", "two of them"),
        ("afk batch retry results.jsonl --parked", "those that may have been paid"),
    ),
)
@click.argument("batch", shell_complete=complete_batch)
@click.argument("ids", nargs=-1, metavar="[ID]...", callback=normal_ids)
@click.option("--failed", is_flag=True, help="Queue those that failed; this is the default.")
@click.option(
    "--parked", is_flag=True, help="Queue those that may have been paid without an answer: it may cost twice."
)
@click.option("--cancelled", is_flag=True, help="Queue those that were cancelled.")
@click.option("--done", is_flag=True, help="Queue those that were answered, too: their answers are replaced.")
@engine_option
@json_option
def retry(
    batch: str,
    ids: tuple[str, ...],
    failed: bool,
    parked: bool,
    cancelled: bool,
    done: bool,
    engine: str,
    as_json: bool,
) -> None:
    """Queue prompts of a batch again; `afk batch run` then asks them.

    BATCH is its file of results, or the name that it was given with --batch. With IDs, only these prompts are queued.
    """
    chosen = {
        PromptState.FAILED: failed,
        PromptState.PARKED: parked,
        PromptState.CANCELLED: cancelled,
        PromptState.DONE: done,
    }
    states = [state for state, is_chosen in chosen.items() if is_chosen] or [PromptState.FAILED]

    async def queue(kept: Engine) -> tuple[BatchInfo, int]:
        info = await batch_meant(kept, batch)
        await _check_ids(kept, info.name, ids)
        return info, await kept.retry(info.name, states, ids or None)

    info, count = with_engine(engine, queue)
    if as_json:
        Stdout(invocation()).objects([{"v": 1, "type": "queued", "batch": info.name, "prompts": count}])
    again = run_command(info)
    what = f"{count:,} prompt{'' if count == 1 else 's'} queued"
    Messages(invocation()).say(f"{what}; ask them with: {again}" if count and again else what)


@click.command(
    "cancel",
    cls=Command,
    examples=(
        ("afk batch cancel results.jsonl", "all that are not asked yet"),
        ("afk batch cancel results.jsonl mail-7", "one of them"),
    ),
)
@click.argument("batch", shell_complete=complete_batch)
@click.argument("ids", nargs=-1, metavar="[ID]...", callback=normal_ids)
@engine_option
@json_option
def cancel(batch: str, ids: tuple[str, ...], engine: str, as_json: bool) -> None:
    """Cancel the prompts of a batch that are not asked yet. Those in flight go on; Ctrl-C of their process stops them.

    BATCH is its file of results, or the name that it was given with --batch. With IDs, only these prompts are
    cancelled. `afk batch retry --cancelled` queues them again.
    """

    async def stop(kept: Engine) -> tuple[BatchInfo, int]:
        info = await batch_meant(kept, batch)
        await _check_ids(kept, info.name, ids)
        count = await kept.cancel(info.name, ids or None)
        return await kept.batch(info.name) or info, count

    info, count = with_engine(engine, stop)
    if as_json:
        Stdout(invocation()).objects([{"v": 1, "type": "cancelled", "batch": info.name, "prompts": count}])
    running = info.counts.get(PromptState.RUNNING, 0)
    more = f"; {running:,} in flight go on" if running else ""
    Messages(invocation()).say(f"{count:,} prompt{'' if count == 1 else 's'} cancelled{more}")
    if not ids and info.counts.get(PromptState.SENT):
        _cancel_at_provider(info)


def _cancel_at_provider(info: BatchInfo) -> None:
    """Cancel what providers work on for a batch, and say how to get what they have answered.

    Raises:
        AfkError: a batch was not cancelled.
    """
    from afkcli.batch.batching_providers import cancel_chunks

    messages = Messages(invocation())
    setup = load_setup(invocation(), project=True, notify=messages.say)
    done = asyncio.run(cancel_chunks(setup, info))
    sent, count = info.counts[PromptState.SENT], len(done.asked)
    if done.asked:
        batches = f"{count:,} batch{'' if count == 1 else 'es'} with {sent:,} prompts"
        again = run_command(info)
        messages.say(f"{batches} cancelled at the provider; what it had answered comes with: {again}")
    if done.problems:
        raise AfkError("; ".join(done.problems))


async def _check_ids(engine: Engine, name: str, ids: Collection[str]) -> None:
    """Raise `UnknownNameError` if the batch has no prompt of one of these ids."""
    missing, after, known = set(ids), -1, []
    while missing and (page := await engine.prompts(name, after=after, limit=_AT_ONCE)):
        missing -= {info.id for info in page}
        known += [info.id for info in page[:_AT_ONCE]]
        after = page[-1].index
    if missing:
        from afkcli.core.contract.suggestions import near_names

        first = min(missing)
        near = near_names(first, known[:10_000])
        raise UnknownNameError(f"the batch has no prompt {first!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
