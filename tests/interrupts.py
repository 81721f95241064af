"""Ctrl-C in tests, also where they were started in the background."""

from __future__ import annotations

import signal


def allow_interrupts() -> None:
    """Undo what a shell does to what it starts in the background: SIGINT ignored, also by all that is started then."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
