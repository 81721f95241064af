"""What is spent and left of the budgets that do not belong to one thread."""

from __future__ import annotations

import time

from afkcli.core.contract.limits import BUDGETS
from afkcli.core.contract.protocols import Store
from afkcli.core.contract.structs import FrozenStruct
from afkcli.host.invocation import Invocation
from afkcli.wiring.assembly import load_setup


class BudgetState(FrozenStruct, kw_only=True):
    """A budget in US dollars: its name in the config, its limit, and what is spent of it."""

    name: str
    limit: float
    spent: float

    @property
    def left(self) -> float:
        return max(0.0, round(self.limit - self.spent, 12))


def budget_states(invocation: Invocation, store: Store) -> list[BudgetState]:
    """Return the state of today's budget, if the config sets one; the day is one of UTC, as for runs.

    Raises:
        StoreError: the store failed.
    """
    limit = load_setup(invocation, project=True).config.budgets().day_usd
    if limit is None:
        return []
    row = next(budget for budget in BUDGETS if budget.field == "day_usd")
    spent = store.add(f"{row.reason}.{time.strftime('%Y-%m-%d', time.gmtime())}", 0.0)
    return [BudgetState(name=row.field, limit=limit, spent=round(spent, 12))]
