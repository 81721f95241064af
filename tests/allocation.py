"""Counts work by the memory that it allocates: a copy of everything that came before shows, on a busy machine too."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def allocated(take: Callable[[T], object], pieces: Iterable[T]) -> int:
    """Return how many bytes `take` allocated at most for each piece, added up.

    A reader that copies all earlier pieces for each new one allocates the square of the size.
    """
    total = 0
    tracemalloc.start()
    try:
        for piece in pieces:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            take(piece)
            total += max(0, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    return total
