"""Ending this process as a signal would."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

SIGPIPE: int = getattr(signal, "SIGPIPE", signal.SIGTERM)
"""The signal that ends a process whose stdout has no reader; SIGTERM on Windows, which has no SIGPIPE."""


def die_of(number: int) -> NoReturn:
    """End this process by the signal itself, so that shell loops and `make` stop."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)
