"""`afk usage`: what the turns of all threads took, by day, model, agent, thread or tag, and what is left of budgets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import click

from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.moments import since_option, until_option
from afkcli.commands.thread_access import opened_store
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.result import Usage
from afkcli.core.contract.text import dollars
from afkcli.core.thread.usage import TurnUsage, each_usage
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout
from afkcli.screen.tables import write_table
from afkcli.wiring.budget_state import BudgetState, budget_states

KINDS = ("day", "model", "agent", "thread", "tag")
_BAR = 24  # columns of the longest bar
_EIGHTHS = " ▏▎▍▌▋▊▉"


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
        self.usage += turn.usage
        self.cost = round(self.cost + (turn.cost_usd or 0.0), 12)
        self.unknown += turn.cost_usd is None


@click.command("usage")
@click.option("--by", type=click.Choice(KINDS), default="day", show_default=True, help="What each row shows.")
@since_option("turns")
@until_option("turns")
@click.option("--csv", "as_csv", is_flag=True, help="Write comma-separated values with a head.")
@json_option
def command(by: str, since: str | None, until: str | None, as_csv: bool, as_json: bool) -> None:
    """Show what all turns took: tokens and cost, by day, model, agent, thread or tag; and what is left of budgets.

    The turns of threads that were deleted are gone. What was undone still counts. A day is one where you are.
    """
    if as_csv and as_json:
        raise UsageError("--csv and --json are different output formats; use one of them")
    stdout, messages = Stdout(invocation()), Messages(invocation())
    with opened_store() as store:
        sums = _summed(by, each_usage(store, messages.warn, since=since or "", until=until or "~"))
        budgets = budget_states(invocation(), store)
    rows = sorted(sums.values(), key=lambda row: row.name if by == "day" else (-row.cost, -row.usage.total_tokens))
    if as_json:
        stdout.objects([*(_form(by, row) for row in rows), *map(_budget_form, budgets)])
        return
    if as_csv:
        stdout.lines(_csv(by, rows))
        return
    if rows:
        _write(stdout, by, rows)
    else:
        messages.say("no turn matches" if since or until else "there are no turns yet")
    for budget in budgets:
        spent = f"{dollars(budget.spent)} of {dollars(budget.limit)} spent"
        messages.say(f"budget {budget.name}: {spent}, {dollars(budget.left)} left")


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


def _write(stdout: Stdout, by: str, rows: Sequence[_Sum]) -> None:
    by_cost = any(row.cost for row in rows)
    most = max((row.cost if by_cost else row.usage.total_tokens) for row in rows)
    table = [
        (
            row.name,
            f"{row.turns:,}",
            f"{row.usage.input_tokens:,}",
            f"{row.usage.cache_read_input_tokens:,}",
            f"{row.usage.output_tokens:,}",
            _cost(row),
            *((_bar((row.cost if by_cost else row.usage.total_tokens), most),) if stdout.is_terminal else ()),
        )
        for row in rows
    ]
    head = (by.upper(), "TURNS", "INPUT", "CACHED", "OUTPUT", "COST", *(("",) if stdout.is_terminal else ()))
    write_table(stdout, head, table)


def _bar(amount: float, most: float) -> str:
    """Return a bar of eighths of a column; something is always seen of what is more than nothing."""
    if not amount or not most:
        return " "
    eighths = max(1, round(amount / most * _BAR * 8))
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def _cost(row: _Sum) -> str:
    if row.unknown == row.parts:
        return "unknown"
    return dollars(row.cost) + (f" + {row.unknown} unknown" if row.unknown else "")


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


def _budget_form(budget: BudgetState) -> JsonObject:
    return {
        "v": 1,
        "type": "budget",
        "budget": budget.name,
        "limit_usd": budget.limit,
        "spent_usd": budget.spent,
        "left_usd": budget.left,
    }


def _csv(by: str, rows: Sequence[_Sum]) -> Iterable[str]:
    import csv
    import io

    head = (
        by,
        "turns",
        "input_tokens",
        "cache_read_input_tokens",
        "output_tokens",
        "cost_usd",
        "turns_of_unknown_cost",
    )
    yield ",".join(head)
    for row in rows:
        usage, line = row.usage, io.StringIO()
        numbers = (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens, row.cost, row.unknown)
        csv.writer(line, lineterminator="").writerow((_plain(row.name), row.turns, *numbers))
        yield line.getvalue()


def _plain(name: str) -> str:
    """Return a name that no spreadsheet takes for a formula (https://owasp.org/www-community/attacks/CSV_Injection)."""
    return f"'{name}" if name[:1] in ("=", "+", "-", "@") else name
