"""Work that continues while a call to a store waits: the journal of the turns that are open in the same process."""

from __future__ import annotations

import threading
from collections.abc import Callable

_thread = threading.local()


def on_waiting(call: Callable[[], None]) -> None:
    """Have `call` called whenever a store waits on this thread."""
    _thread.call = call


def while_waiting() -> None:
    """For a store whose call has to wait, for a lock for instance: call it at least every 50 ms, outside transactions.

    It may call other methods of the same store.
    """
    call: Callable[[], None] | None = getattr(_thread, "call", None)
    if call is not None:
        call()
