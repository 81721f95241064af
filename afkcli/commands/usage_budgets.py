"""How `afk usage` shows budgets: as lines, as rows with bars, as JSON and as comma-separated values."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from afkcli.commands.usage_chart import Column, write_chart
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.text import dollars
from afkcli.screen.messages import Messages
from afkcli.screen.spreadsheets import csv_line
from afkcli.screen.streams import Stdout
from afkcli.wiring.budget_state import BudgetState, BudgetStates

_MOST_LINES = 3  # for threads, below another table


def budget_form(budget: BudgetState) -> JsonObject:
    """Return the JSON form of a budget; `thread_id` and `thread_key` are null for that of the day."""
    return {
        "v": 1,
        "type": "budget",
        "budget": budget.name,
        "limit_usd": budget.limit,
        "spent_usd": budget.spent,
        "left_usd": budget.left,
        "thread_id": budget.thread.name if budget.thread is not None else None,
        "thread_key": budget.thread.key if budget.thread is not None else None,
        "resets": budget.resets,
    }


def budgets_csv(budgets: BudgetStates) -> Iterable[str]:
    """Yield a head, and a line for each budget."""
    yield csv_line("budget", "thread", "limit_usd", "spent_usd", "left_usd", "resets")
    for budget in budgets.states:
        thread = budget.thread.name if budget.thread is not None else ""
        yield csv_line(budget.name, thread, budget.limit, budget.spent, budget.left, budget.resets or "")


def write_budgets(stdout: Stdout, messages: Messages, budgets: BudgetStates) -> None:
    """Write a row for each budget; the bar shows what is spent of it."""
    states = budgets.states
    if states:
        columns = [
            Column(head="BUDGET", cells=[_name(budget) for budget in states]),
            Column(head="LIMIT", cells=[dollars(budget.limit) for budget in states], rank=1),
            Column(head="SPENT", cells=[dollars(budget.spent) for budget in states]),
            Column(head="LEFT", cells=[dollars(budget.left) for budget in states]),
            Column(head="RESETS", cells=[_clock(budget.resets) for budget in states], rank=2),
        ]
        used = [budget.spent / budget.limit if budget.limit else 1.0 for budget in states]
        write_chart(stdout, columns, used, 1.0)
    _say_limit_of_threads(messages, budgets)
    if not states and budgets.thread_usd is None:
        messages.say("no budget is set; set one in the config under [budgets]")


def say_budgets(messages: Messages, budgets: BudgetStates) -> None:
    """Say a line for each budget; of those of threads, for the ones of which the least is left."""
    of_threads = [budget for budget in budgets.states if budget.thread is not None]
    for budget in budgets.states:
        if budget.thread is None or budget in of_threads[:_MOST_LINES]:
            messages.say(_line(budget))
    if len(of_threads) > _MOST_LINES:
        more = len(of_threads) - _MOST_LINES
        messages.say(f"{more} more threads have spent some of their budgets; `afk usage --by budget` shows all")
    _say_limit_of_threads(messages, budgets)


def _say_limit_of_threads(messages: Messages, budgets: BudgetStates) -> None:
    if budgets.thread_usd is not None and all(budget.thread is None for budget in budgets.states):
        messages.say(f"budget thread_usd: {dollars(budgets.thread_usd)} for each thread; no thread has spent any yet")


def _line(budget: BudgetState) -> str:
    resets = "" if budget.resets is None else f"; it resets at {_clock(budget.resets)}"
    spent = f"{dollars(budget.spent)} of {dollars(budget.limit)} spent"
    return f"budget {_name(budget)}: {spent}, {dollars(budget.left)} left{resets}"


def _name(budget: BudgetState) -> str:
    return budget.name if budget.thread is None else f"{budget.name} of {budget.thread.name}"


def _clock(moment: str | None) -> str:
    """Return when a budget resets, as a time where the user is."""
    if moment is None:
        return "never"
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M")
