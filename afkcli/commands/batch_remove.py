"""`afk batch rm`: deletes batches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import click

from afkcli.batch.engines import batches_folder
from afkcli.batch.local_engine import LocalEngine
from afkcli.commands.base import Command
from afkcli.commands.batch_access import batch_meant, complete_batch, engine_option, with_engine
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.core.contract.engine import BatchInfo, Engine, PromptState
from afkcli.core.contract.errors import UsageError
from afkcli.screen.messages import Messages
from afkcli.screen.questions import confirmed
from afkcli.screen.streams import Stdout


@click.command(
    "rm",
    cls=Command,
    examples=(("afk batch rm results.jsonl --yes", "without asking"),),
)
@click.argument("batches", nargs=-1, required=True, shell_complete=complete_batch, metavar="BATCH...")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@engine_option
@json_option
def remove(batches: tuple[str, ...], yes: bool, engine: str, as_json: bool) -> None:
    """Delete batches with their prompts, and what afk keeps of their results. The files of results stay.

    A batch that is deleted cannot go on: the same command would ask all of its prompts again. It asks first; without a
    terminal it needs --yes.
    """

    async def find(kept: Engine) -> list[BatchInfo]:
        found = [await batch_meant(kept, name) for name in batches]
        return list({info.name: info for info in found}.values())

    found = with_engine(engine, find)
    for info in found:
        if sent := info.counts.get(PromptState.SENT):
            raise UsageError(
                f"{sent:,} prompts of {info.name} are at a provider, which may charge for them; cancel them with "
                "`afk batch cancel`, and take what was answered with `afk batch run --via provider`"
            )
    names = " and ".join(info.name for info in found)
    messages = Messages(invocation())
    if not confirmed(invocation(), f"Delete the batch {names}? What it knows of paid prompts is lost.", yes=yes):
        messages.say("nothing was deleted")
        return

    for info in found:
        with _unused(info.name):
            with_engine(engine, partial(_remove, info.name))
        place = info.settings.get("results")
        messages.say(f"deleted {info.name!r}" + (f"; its results are still in {place}" if place else ""))
    if as_json:
        Stdout(invocation()).objects({"v": 1, "type": "deleted", "batch": info.name} for info in found)


async def _remove(name: str, engine: Engine) -> None:
    await engine.remove(name)


@contextmanager
def _unused(name: str) -> Iterator[None]:
    """Keep other processes of this machine from running a batch; `BatchBusyError` if one does."""
    from afkcli.batch.batch_lock import lock_batch

    file = LocalEngine(batches_folder(invocation())).file_of(name).with_suffix(".lock")
    lock = lock_batch(file, name, wait_s=0.0, say=Messages(invocation()).say)
    try:
        yield
    finally:
        os.close(lock)
