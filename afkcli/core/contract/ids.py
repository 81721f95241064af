"""Run ids and time stamps."""

from __future__ import annotations

import os
import re
import threading
import time

_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_lock = threading.Lock()
_last = 0


def uuid7() -> str:
    """Return a new UUIDv7 (RFC 9562, section 5.7) as text.

    Ids of one process are strictly increasing, also within a millisecond and when the clock steps back; ids of
    different machines, and of a process and its forks, differ by random bits.
    """
    global _last
    with _lock:
        value = (time.time_ns() // 1_000_000) << 74 | int.from_bytes(os.urandom(10), "big") >> 6
        if value <= _last:
            value = _last + 1 + int.from_bytes(os.urandom(4), "big")  # random, or forks would count alike
        _last = value
    milliseconds, random_a, random_b = value >> 74, (value >> 62) & 0xFFF, value & ((1 << 62) - 1)
    number = milliseconds << 80 | 0x7 << 76 | random_a << 64 | 0b10 << 62 | random_b
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_uuid7(value: object) -> bool:
    """Return whether `value` is a UUIDv7 in the form that `uuid7` returns: text, lower case, with hyphens."""
    return isinstance(value, str) and _UUID7.fullmatch(value) is not None


def rfc3339(seconds: float) -> str:
    """Return `seconds` since the epoch as UTC, RFC 3339, with milliseconds and `Z`."""
    milliseconds = int(seconds * 1000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{whole}.{milliseconds % 1000:03d}Z"


def _elapsed() -> float:
    """Return the seconds of a monotonic clock; on Linux it also counts while the machine sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Clock:
    """Wall time that never runs backwards: the wall clock is read once, then a monotonic clock is added."""

    def __init__(self) -> None:
        self._offset = time.time() - _elapsed()
        self._second = -1
        self._prefix = ""

    def now(self) -> float:
        """Return seconds since the epoch."""
        return self._offset + _elapsed()

    def timestamp(self) -> str:
        """Return the time now as RFC 3339 with milliseconds; the part up to the second is kept between calls."""
        milliseconds = int(self.now() * 1000)
        second = milliseconds // 1000
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{milliseconds % 1000:03d}Z"
