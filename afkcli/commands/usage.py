"""`afk usage`: what the turns of all threads took, by day, model, agent, thread or tag, and what is left of budgets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import click

from afkcli.commands.base import Command
from afkcli.commands.completion import complete_thread
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.moments import since_option, until_option
from afkcli.commands.thread_access import opened_store
from afkcli.commands.usage_budgets import budget_form, budgets_csv, say_budgets, write_budgets
from afkcli.commands.usage_chart import Column, write_chart
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.protocols import Store
from afkcli.core.contract.result import Usage
from afkcli.core.contract.text import dollars
from afkcli.core.thread.listing import short_names
from afkcli.core.thread.lookup import thread_meant
from afkcli.core.thread.usage import TurnUsage, each_usage
from afkcli.screen.messages import Messages
from afkcli.screen.spreadsheets import csv_line
from afkcli.screen.streams import Stdout
from afkcli.wiring.budget_state import budget_states

_NOT_REPORTED = Usage(unknown=("input_tokens", "cache_read_input_tokens", "output_tokens"))
_LEAST_SHOWN = 0.0001  # US dollars: "at least below $0.0001" says nothing
_AT_LEAST, _UNKNOWN = "≥", "?"
KINDS = ("day", "model", "agent", "thread", "tag", "budget")


class _Sum:
    """What the turns of one row took together."""

    __slots__ = ("cost", "name", "parts", "turns", "unknown", "usage")

    def __init__(self, name: str) -> None:
        self.name = name
        self.turns = 0
        self.parts = 0  # the turns, and what was paid for beside them
        self.usage = Usage()
        self.cost = 0.0
        self.unknown = 0

    def add(self, turn: TurnUsage) -> None:
        self.turns += turn.turns
        self.parts += 1
        # A model call that costs something has tokens: of a turn without any, the server did not report them.
        self.usage += turn.usage if turn.usage.total_tokens or turn.cost_usd is not None else _NOT_REPORTED
        self.cost = round(self.cost + (turn.cost_usd or 0.0), 12)
        self.unknown += turn.cost_usd is None


@click.command(
    "usage",
    cls=Command,
    examples=(
        ("afk usage", "by day"),
        ("afk usage --by model --since 30d", "of the last 30 days, by model"),
        ("afk usage --by budget", "what is left of the budgets"),
    ),
)
@click.option("--by", type=click.Choice(KINDS), default="day", show_default=True, help="What each row shows.")
@click.option("--thread", "-t", metavar="NAME", shell_complete=complete_thread, help="Only turns of this thread.")
@since_option("turns")
@until_option("turns")
@click.option("--csv", "as_csv", is_flag=True, help="Write comma-separated values with a head.")
@json_option
def command(by: str, thread: str | None, since: str | None, until: str | None, as_csv: bool, as_json: bool) -> None:
    """Show what all turns took: tokens and cost, by day, model, agent, thread or tag; and what is left of budgets.

    The turns of threads that were deleted are gone. What was undone still counts. Days are those of
    your time zone, but days of budgets are those of UTC.
    """
    if as_csv and as_json:
        raise UsageError("--csv and --json are different output formats; use one of them")
    if by == "budget" and (since or until or thread):
        raise UsageError("--by budget shows what is left now; leave out --since, --until and --thread")
    stdout, messages = Stdout(invocation()), Messages(invocation())
    with opened_store() as store:
        sums = _summed(by, _turns(store, messages, thread, since, until)) if by != "budget" else {}
        budgets = budget_states(invocation(), store)
        short = short_names(store, list(sums)) if by == "thread" and stdout.is_terminal else {}
    rows = sorted(sums.values(), key=lambda row: row.name if by == "day" else (-row.cost, -row.usage.total_tokens))
    if as_json:
        stdout.objects([*(_form(by, row) for row in rows), *map(budget_form, budgets.states)])
    elif as_csv:
        stdout.lines(budgets_csv(budgets) if by == "budget" else _csv(by, rows))
    elif by == "budget":
        write_budgets(stdout, messages, budgets)
    else:
        names = [short.get(row.name, row.name) for row in rows]
        _write(
            stdout,
            messages,
            by,
            names,
            rows,
            "no turn matches" if since or until or thread else "there are no turns yet",
        )
        say_budgets(messages, budgets)


def _turns(
    store: Store, messages: Messages, thread: str | None, since: str | None, until: str | None
) -> Iterable[TurnUsage]:
    named = thread_meant(store, thread) if thread is not None else None
    return each_usage(store, messages.warn, thread=named, since=since or "", until=until or "~")


def _summed(by: str, turns: Iterable[TurnUsage]) -> dict[str, _Sum]:
    sums: dict[str, _Sum] = {}
    for turn in turns:
        for name in _names(by, turn):
            sums.setdefault(name, _Sum(name)).add(turn)
    return sums


def _names(by: str, turn: TurnUsage) -> Sequence[str]:
    if by == "day":
        return (_local_day(turn.started),)
    if by == "tag":
        return turn.thread.tags or ("",)
    return ({"model": turn.model, "agent": turn.agent, "thread": turn.thread.name}[by],)


def _local_day(started: str) -> str:
    try:
        return datetime.fromisoformat(started).astimezone().strftime("%Y-%m-%d")
    except ValueError:
        return started[:10]


def _write(
    stdout: Stdout, messages: Messages, by: str, names: Sequence[str], rows: Sequence[_Sum], without: str
) -> None:
    if not rows:
        messages.say(without)
        return
    by_cost = any(row.cost for row in rows)
    amounts = [row.cost if by_cost else float(row.usage.total_tokens) for row in rows]
    columns = [
        Column(head=by.upper(), cells=names),
        Column(head="TURNS", cells=[f"{row.turns:,}" for row in rows], rank=2),
        Column(head="INPUT", cells=[_tokens(row, "input_tokens") for row in rows], rank=1),
        Column(head="CACHED", cells=[_tokens(row, "cache_read_input_tokens") for row in rows], rank=3),
        Column(head="OUTPUT", cells=[_tokens(row, "output_tokens") for row in rows], rank=1),
        Column(head="COST", cells=[_cost(row) for row in rows]),
    ]
    write_chart(stdout, columns, amounts, max(amounts))
    if any(cell.startswith((_AT_LEAST, _UNKNOWN)) for column in columns[1:] for cell in column.cells):
        messages.say(f"{_AT_LEAST} and {_UNKNOWN}: of some turns a count of tokens or a price is not known")


def _tokens(row: _Sum, field: str) -> str:
    """Return a sum of tokens, marked where a server did not report all of them."""
    count: int = getattr(row.usage, field)
    if field not in row.usage.unknown:
        return f"{count:,}"
    return f"{_AT_LEAST}{count:,}" if count else _UNKNOWN


def _cost(row: _Sum) -> str:
    if row.unknown == row.parts:
        return _UNKNOWN
    if not row.unknown:
        return dollars(row.cost)
    return f"{_AT_LEAST}{dollars(row.cost if row.cost >= _LEAST_SHOWN else 0.0)}"


def _form(by: str, row: _Sum) -> JsonObject:
    return {
        "v": 1,
        "type": "usage",
        "by": by,
        by: row.name,
        "turns": row.turns,
        "usage": row.usage,
        "total_cost_usd": row.cost,
        "turns_of_unknown_cost": row.unknown,
    }


def _csv(by: str, rows: Sequence[_Sum]) -> Iterable[str]:
    yield csv_line(
        by,
        "turns",
        "input_tokens",
        "cache_read_input_tokens",
        "output_tokens",
        "cost_usd",
        "turns_of_unknown_cost",
        "unknown_counts",
    )
    for row in rows:
        usage = row.usage
        counts = (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens)
        yield csv_line(row.name, row.turns, *counts, row.cost, row.unknown, " ".join(usage.unknown))
