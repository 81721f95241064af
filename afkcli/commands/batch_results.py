"""`afk batch results`: the results of a batch, as JSON Lines or as a table."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import TYPE_CHECKING

import click

from afkcli.commands.base import Command
from afkcli.commands.batch_access import batch_meant, complete_batch, engine_option, normal_ids, with_engine
from afkcli.commands.context import invocation
from afkcli.core.contract.engine import SETTLED_STATES, Engine, PromptInfo, PromptState
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import dumps
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout

if TYPE_CHECKING:
    from afkcli.core.contract.jsonform import JsonObject

_AT_ONCE = 200


@click.command(
    "results",
    cls=Command,
    examples=(
        ("afk batch results results.jsonl --csv > results.csv", "for a spreadsheet"),
        ("afk batch results results.jsonl --state failed", "those that failed"),
        ("afk batch results --schema", "the JSON Schema of a line"),
    ),
)
@click.argument("batch", required=False, shell_complete=complete_batch, metavar="[BATCH]")
@click.argument("ids", nargs=-1, metavar="[ID]...", callback=normal_ids)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(sorted(state.value for state in SETTLED_STATES)),
    help="Only prompts in this state; may be given more than once.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Write a table of comma-separated values, with a header.")
@click.option("--schema", is_flag=True, help="Write the JSON Schema of a line instead.")
@engine_option
def results(
    batch: str | None, ids: tuple[str, ...], states: tuple[str, ...], as_csv: bool, schema: bool, engine: str
) -> None:
    """Write the results of a batch in the order of its prompts, one line of JSON each, as far as they are there.

    BATCH is the file of results, or the name that it was given with --batch; the batch that was created last by
    default. With IDs only these prompts are written.
    """
    stdout = Stdout(invocation())
    if schema:
        from afkcli.batch.result_schema import results_schema

        stdout.lines([dumps(results_schema())])
        return
    wanted = frozenset(map(PromptState, states)) or SETTLED_STATES
    missing = with_engine(engine, lambda kept: _write(kept, batch, frozenset(ids), wanted, stdout, as_csv=as_csv))
    if missing:
        raise UsageError(f"there is no prompt {min(missing)!r} in the batch, or it has no result in these states")


async def _write(
    engine: Engine,
    typed: str | None,
    ids: Collection[str],
    wanted: frozenset[PromptState],
    stdout: Stdout,
    *,
    as_csv: bool,
) -> set[str]:
    """Write the results, and return those of `ids` that have none."""
    from afkcli.batch.result_table import header_line, table_line

    batch = await batch_meant(engine, typed)
    missing, count = set(ids), 0
    if as_csv:
        stdout.lines([header_line()])
    async for row in _rows(engine, batch.name, ids, wanted):
        count += 1
        missing.discard(row["id"])
        stdout.lines([table_line(row) if as_csv else dumps(row)])
    if not count and not ids:
        Messages(invocation()).say(
            "no prompt of the batch has a result" + ("" if wanted == SETTLED_STATES else " in these states")
        )
    return missing


async def _rows(
    engine: Engine, name: str, ids: Collection[str], wanted: frozenset[PromptState]
) -> AsyncIterator[JsonObject]:
    """Yield the rows of settled prompts in the order of the input, a few prompts at a time."""
    from afkcli.batch.results import row_of

    after = -1
    while page := await engine.prompts(name, after=after, limit=_AT_ONCE):
        found = [info.id for info in page if _is_wanted(info, ids, wanted)]
        for settled in await engine.outcomes(name, found) if found else ():
            if settled.state in wanted:  # it may have been asked again meanwhile
                yield row_of(settled)
        after = page[-1].index


def _is_wanted(info: PromptInfo, ids: Collection[str], wanted: frozenset[PromptState]) -> bool:
    return info.state in wanted and (not ids or info.id in ids)
