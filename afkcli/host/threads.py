"""The threads of this process, as the system knows them.

Since: 0.2.
"""

from __future__ import annotations

import os
import threading
import time

_LOOK_SECONDS = 0.005


def other_threads_end(within: float) -> bool:
    """Wait until this thread is the only one of the process, and return whether it is.

    A thread that Python has joined is still there for a moment, longer on a busy machine: a signal may be delivered to
    it, and a fork must not meet it. Where the system does not say which threads there are, Python's own count is taken.

    Args:
        within: seconds to wait at most.
    """
    end = time.monotonic() + within
    while _count() > 1:
        if time.monotonic() >= end:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def _count() -> int:
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208
    except OSError:
        return threading.active_count()
