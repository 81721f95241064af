"""Work that continues while a call to a store waits: the journal of the turns that are open in the same process."""

from __future__ import annotations

import threading
from typing import Protocol

_thread = threading.local()


class Waiting(Protocol):
    """What is done on an operating-system thread while a store waits on it."""

    def while_waiting(self) -> bool:
        """Do what is due, and return whether the store should not ask for its lock yet."""
        ...

    def say_waiting(self, line: str) -> None:
        """Tell a person, or the reader of a run, that the call waits."""
        ...


def on_waiting(waiting: Waiting) -> None:
    """Use `waiting` whenever a store waits on this thread."""
    _thread.waiting = waiting


def while_waiting() -> bool:
    """For a store whose call has to wait, for a lock for instance: call it at least every 50 ms, outside transactions.

    It may call other methods of the same store.

    Returns:
        Whether the store should not take its lock yet, because this process imports a large module: every statement of
        a transaction would wait for the import. (Since 0.2; it returned nothing before.)

    Raises:
        StoreError: the caller has given up, so the store should do so too. Since 0.2.
    """
    waiting: Waiting | None = getattr(_thread, "waiting", None)
    return waiting.while_waiting() if waiting is not None else False


def say_waiting(line: str) -> None:
    """For a store whose call has waited for a second: say so, once. Since 0.2.

    Args:
        line: what is waited for, and for how long, in one line for a person.
    """
    waiting: Waiting | None = getattr(_thread, "waiting", None)
    if waiting is not None:
        waiting.say_waiting(line)
    else:
        import logging  # not at the start of every run

        logging.getLogger("afkcli").warning("afk: %s", line)
