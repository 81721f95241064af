"""Budgets: what runs may cost together, for a thread and for a day, kept in the store's counters.

Before a call its cost is reserved, as far as it can be told; while the answer streams more is reserved, piece by piece;
at the end the reservation is settled by what the call did cost. So runs in parallel, of any process, cannot pass a
budget together. A run that dies without settling leaves its reservation behind, as spent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from afkcli.core.contract.errors import CounterLimitError, LimitReachedError, StoreError
from afkcli.core.contract.limits import BUDGETS
from afkcli.core.contract.protocols import Store
from afkcli.core.thread.store_worker import StoreCalls

ROUNDING = 1e-9
"""The part of an amount that counts as nothing: sums of dollars are not exact."""

_TRIES = 8  # to take what is left of a counter, while others take of it too


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """US dollars that runs may cost together; None is no budget.

    Args:
        thread_usd: all runs of one thread.
        day_usd: all runs of one day, by UTC.
        kept: whether the store of these runs keeps what is counted; without it a day's budget cannot hold.
    """

    thread_usd: float | None = None
    day_usd: float | None = None
    kept: bool = True


NO_BUDGETS = Budgets()


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One budget: the `limit` of a counter, and the `reason` with which it ends a run."""

    counter: str
    limit: float
    reason: str


@dataclass(frozen=True, slots=True)
class Reservations:
    """Opens the reservations of the calls of one run.

    Args:
        budgets: what counts for it.
        thread_key: its thread.
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
        """Whether what is counted is kept for the other runs that it concerns."""
        return self.budgets.kept or self.budgets.day_usd is None

    def open(self) -> Reservation:
        """Return the reservation of a call that begins now: it stays with the day on which it began."""
        day = time.strftime("%Y-%m-%d", time.gmtime())
        counted_for = {"thread_usd": self.thread_key, "day_usd": day}
        accounts = [
            Account(counter=f"{row.reason}.{counted_for[row.field]}", limit=limit, reason=row.reason)
            for row in BUDGETS
            if (limit := getattr(self.budgets, row.field)) is not None
        ]
        return Reservation(accounts, self.store, self.calls)


class Reservation:
    """What one call has reserved of its budgets, `usd`; it counts as spent for every other run until it is settled.

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
        """Reserve `wanted` dollars more, or what is left; what was reserved stays so also where it was too little.

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
        """Have `usd` stand for what was reserved, without waiting for it."""
        self._calls.submit(self._settle, usd)

    def _grow(self, wanted: float, at_least: float) -> Account | None:
        """Reserve in all accounts, the same amount in each; return the one that has less than `at_least` left."""
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
    """Add `wanted`, or what is left to the limit, to an account's counter; return how much it was."""
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
