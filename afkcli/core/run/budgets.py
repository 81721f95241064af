"""Budgets: what the runs of a thread, and of a day, may cost together. They are kept in the counters of the store.

The cost of a call is reserved before it, as far as it is known. While the answer streams, more is reserved piece by
piece. At the end the reservation is replaced by the cost of the call. So parallel runs, of any process, cannot exceed a
budget together. The reservation of a run that dies stays in the budget as spent.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from afkcli.core.contract.errors import CounterLimitError, LimitReachedError, StoreError
from afkcli.core.contract.limits import BUDGETS
from afkcli.core.contract.protocols import Store
from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.thread.store_worker import StoreCalls

ROUNDING = 1e-9
"""Differences below this part of an amount are ignored, because sums of floats are not exact."""

_TRIES = 8  # to take the rest of a counter while other runs take from it too


class Budgets(FrozenStruct, kw_only=True):
    """US dollars that runs may cost together; None means no budget.

    Args:
        thread_usd: all runs of one thread.
        day_usd: all runs of one day, by UTC.
        kept: whether the store keeps the counters after the process; without it a day's budget cannot be enforced.
    """

    thread_usd: float | None = None
    day_usd: float | None = None
    kept: bool = True


NO_BUDGETS = Budgets()


class Account(FrozenStruct, kw_only=True):
    """One budget: the `limit` of a counter, and the `reason` of a run that it ends."""

    counter: str
    limit: float
    reason: str


class Reservations(FrozenStruct):
    """Opens the reservations of the calls of one run.

    Args:
        budgets: the budgets of the run.
        thread_key: the key of its thread.
        store: opens or returns the store; only its worker may call it.
        calls: the calls for the run's thread.
    """

    budgets: Budgets
    thread_key: str
    store: Callable[[], Store]
    calls: StoreCalls

    def __bool__(self) -> bool:
        """Whether there is a budget."""
        return self.budgets.thread_usd is not None or self.budgets.day_usd is not None

    @property
    def can_hold(self) -> bool:
        """Whether the counters are kept for the other runs that share the budgets."""
        return self.budgets.kept or self.budgets.day_usd is None

    def open(self) -> Reservation:
        """Return the reservation of a call that starts now; it counts for the day on which it starts."""
        day = time.strftime("%Y-%m-%d", time.gmtime())
        counted_for = {"thread_usd": self.thread_key, "day_usd": day}
        accounts = [
            Account(counter=f"{row.reason}.{counted_for[row.field]}", limit=limit, reason=row.reason)
            for row in BUDGETS
            if (limit := getattr(self.budgets, row.field)) is not None
        ]
        return Reservation(accounts, self.store, self.calls)


class Reservation:
    """The dollars that one call has reserved in its budgets, `usd`; for other runs they are spent until it is settled.

    Args:
        accounts: the budgets.
        store: opens or returns the store; only its worker may call it.
        calls: the calls for the run's thread. Only the worker changes `usd`.
    """

    def __init__(self, accounts: list[Account], store: Callable[[], Store], calls: StoreCalls) -> None:
        self._accounts = accounts
        self._store = store
        self._calls = calls
        self.usd = 0.0

    async def grow(self, wanted: float, *, at_least: float) -> None:
        """Reserve `wanted` dollars more, or what is left. What was reserved stays reserved, also if it was too little.

        Raises:
            LimitReachedError: less than `at_least` is left of a budget.
            StoreError: the counters cannot be read and written.
        """
        try:
            short = await self._calls.call(self._grow, wanted, at_least)
        except StoreError as error:
            raise StoreError(f"could not read the budgets: {error}") from error
        if short is not None:
            raise LimitReachedError(f"{short.reason} is used up: {short.limit:g} US dollars", limit=short.reason)

    def settle(self, usd: float) -> None:
        """Replace the reservation by `usd`, without waiting for the store."""
        self._calls.submit(self._settle, usd)

    def _grow(self, wanted: float, at_least: float) -> Account | None:
        """Reserve the same amount in all accounts; return the account that has less than `at_least` left, if any."""
        store = self._store()
        granted, short, taken = wanted, None, []
        for account in self._accounts:
            amount = _take(store, account, granted)
            taken.append((account, amount))
            if amount < granted:
                granted, short = amount, account
        for account, amount in taken:
            if amount > granted:
                store.add(account.counter, granted - amount)
        self.usd += granted
        return short if granted < at_least * (1 - 2 * ROUNDING) else None

    def _settle(self, usd: float) -> None:
        difference, self.usd = usd - self.usd, usd
        for account in self._accounts if difference else ():
            self._store().add(account.counter, difference)


def _take(store: Store, account: Account, wanted: float) -> float:
    """Add `wanted`, or what is left up to the limit, to the counter of an account; return the amount."""
    for _ in range(_TRIES):
        try:
            store.add(account.counter, wanted, account.limit)
            return wanted
        except CounterLimitError:
            left = account.limit - store.add(account.counter, 0.0)
            if left <= account.limit * ROUNDING:
                return 0.0
            wanted = min(wanted, left * (1 - ROUNDING))
    return 0.0
