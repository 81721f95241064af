"""What is spent and left of each budget: that of the day, and those of the threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta

from afkcli.core.contract.limits import BUDGETS
from afkcli.core.contract.protocols import Store, ThreadInfo
from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.thread.listing import each_thread
from afkcli.host.invocation import Invocation
from afkcli.wiring.assembly import load_setup

_REASONS = {budget.field: budget.reason for budget in BUDGETS}


class BudgetState(FrozenStruct, kw_only=True):
    """A budget in US dollars: its name in the config, its limit, and what is spent of it.

    `thread` is the thread that it belongs to, None for that of the day; what a run that goes on has reserved counts as
    spent. `resets` is when all of it is left again (RFC 3339), None for never.
    """

    name: str
    limit: float
    spent: float
    thread: ThreadInfo | None = None
    resets: str | None = None

    @property
    def left(self) -> float:
        return max(0.0, round(self.limit - self.spent, 12))


class BudgetStates(FrozenStruct, kw_only=True):
    """All budgets: `states` are that of today and those of the threads that spent of theirs, the least left first.

    `thread_usd` is the limit of each thread, None if the config sets none.
    """

    states: Sequence[BudgetState] = ()
    thread_usd: float | None = None


def budget_states(invocation: Invocation, store: Store) -> BudgetStates:
    """Return the budgets that the config sets, with their states now.

    Raises:
        StoreError: the store failed.
    """
    budgets = load_setup(invocation, project=True).config.budgets()
    states: list[BudgetState] = []
    if budgets.day_usd is not None:
        states.append(_of_the_day(store, budgets.day_usd))
    if budgets.thread_usd is not None:
        states += sorted(_of_threads(store, budgets.thread_usd), key=lambda state: (state.left, state.spent))
    return BudgetStates(states=states, thread_usd=budgets.thread_usd)


def _of_the_day(store: Store, limit: float) -> BudgetState:
    """Return the budget of today; the day is one of UTC, as for runs."""
    today = datetime.now(UTC).date()
    name = f"{_REASONS['day_usd']}.{today}"
    spent = _counters(store, name).get(name, 0.0)
    resets = datetime.combine(today + timedelta(days=1), time(), UTC).isoformat().replace("+00:00", "Z")
    return BudgetState(name="day_usd", limit=limit, spent=round(spent, 12), resets=resets)


def _of_threads(store: Store, limit: float) -> list[BudgetState]:
    prefix = f"{_REASONS['thread_usd']}."
    threads = list(each_thread(store))
    counters = _counters(store, prefix, [f"{prefix}{thread.key}" for thread in threads])
    spent = ((thread, counters.get(f"{prefix}{thread.key}", 0.0)) for thread in threads)
    return [
        BudgetState(name="thread_usd", limit=limit, spent=round(amount, 12), thread=thread)
        for thread, amount in spent
        if amount > 0
    ]


def _counters(store: Store, prefix: str, names: Sequence[str] | None = None) -> Mapping[str, float]:
    """Return the counters that begin with `prefix`; `names` or `prefix` are asked for where a store lists none."""
    listed = getattr(store, "counters", None)
    if listed is not None:
        found: Mapping[str, float] = listed(prefix)
        return found
    return {name: store.add(name, 0.0) for name in ([prefix] if names is None else names)}
