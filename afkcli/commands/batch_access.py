"""What the commands of `afk batch` share: the engine, and the batch that is named.

Since: 0.2.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from afkcli.batch.engines import LOCAL, engine_maker
from afkcli.commands.base import option
from afkcli.commands.context import invocation
from afkcli.core.contract.engine import BatchInfo, Engine
from afkcli.core.contract.errors import AfkError, UnknownNameError
from afkcli.host.invocation import Invocation
from afkcli.screen.messages import Messages
from afkcli.wiring.assembly import load_setup

T = TypeVar("T")

engine_option = option(
    "--engine", default=LOCAL, show_default=True, metavar="NAME", help="The engine that keeps the batch."
)


def with_engine(name: str, work: Callable[[Engine], Coroutine[Any, Any, T]]) -> T:
    """Return what `work` returns for the engine of a name, which is closed then.

    Raises:
        UnknownNameError: there is no such engine.
    """
    setup = load_setup(invocation(), project=True, notify=Messages(invocation()).say)

    async def run() -> T:
        engine = engine_maker(setup, name)()
        try:
            return await work(engine)
        finally:
            await engine.aclose()

    return asyncio.run(run())


def normal_ids(ctx: click.Context, param: click.Parameter, ids: tuple[str, ...]) -> tuple[str, ...]:
    """Return typed ids in the Unicode form in which a batch has them: file systems and keyboards may have another."""
    from unicodedata import normalize

    return tuple(normalize("NFC", id_) for id_ in ids)


async def batch_meant(engine: Engine, typed: str | None) -> BatchInfo:
    """Return the batch that is named: by its name, by its file of results, or by the last part of either.

    Args:
        engine: where it is kept.
        typed: what was typed; None for the batch that was created last.

    Raises:
        UnknownNameError: there is no such batch, or several may be meant.
    """
    return meant_among(await engine.batches(), typed)


def meant_among(batches: Sequence[BatchInfo], typed: str | None) -> BatchInfo:
    """Return the batch that is named, of those that there are; as `batch_meant`."""
    if not batches:
        raise UnknownNameError("there are no batches yet; `afk batch run PROMPTS -o RESULTS` starts one")
    if typed is None:
        return batches[0]
    place = os.path.realpath(typed)
    for is_meant in (
        lambda batch: batch.name == typed,
        lambda batch: place in (batch.name, batch.settings.get("results")),
        lambda batch: typed in names_of(batch),
    ):
        found = [batch for batch in batches if is_meant(batch)]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(batch.name for batch in found)
            raise UnknownNameError(f"{typed!r} may be {len(found)} batches: {names}; name one as it is here")
    raise UnknownNameError(_unknown(typed, batches))


def names_of(batch: BatchInfo) -> tuple[str, ...]:
    """Return by what else a batch can be named: the file of its results without its folder, and without its ending."""
    path = Path(batch.name)
    return (path.name, path.stem) if path.is_absolute() else ()


def shown_name(batch: BatchInfo, folder: str | None) -> str:
    """Return the name of a batch for a person: a path in the folder of the invocation is relative to it."""
    name = batch.name
    return name[len(folder) + 1 :] if folder and name.startswith(f"{folder}{os.sep}") else name


def _unknown(typed: str, batches: Sequence[BatchInfo]) -> str:
    from afkcli.core.contract.suggestions import near_names

    known = [name for batch in batches for name in (batch.name, *names_of(batch))]
    near = near_names(typed, known)
    return f"there is no batch {typed!r}; " + (f"did you mean {near[0]!r}?" if near else "`afk batch list` shows them")


def complete_batch(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the batches whose name begins so: as they are listed in the folder, or their whole names.

    They are those of the engine that the line names before.
    """
    start = ctx.find_object(Invocation) or Invocation.of_process()

    async def batches() -> Sequence[BatchInfo]:
        engine = engine_maker(load_setup(start), ctx.params.get("engine") or LOCAL)()
        try:
            return await engine.batches()
        finally:
            await engine.aclose()

    try:
        found = asyncio.run(batches())
    except AfkError:
        return []
    named = {name: batch for batch in found for name in (shown_name(batch, start.folder), batch.name)}
    names = [name for name in named if name.startswith(incomplete)]
    shortest = {named[name].name: name for name in reversed(names)}
    return [CompletionItem(name, help=f"{sum(named[name].counts.values()):,} prompts") for name in shortest.values()]
