"""How far a batch has come: counts, rate, cost and the time that is left, as a line for a person and as JSON.

Since: 0.2.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from afkcli.core.contract.engine import SETTLED_STATES, BatchInfo, News, PromptState
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.text import dollars
from afkcli.screen.bars import bar
from afkcli.screen.text import shortened, width_of

RATE_SECONDS = 30.0
"""Over how many of the last seconds the rate is taken."""
_SAMPLE_SECONDS = 0.5
_BAR_COLUMNS = 20
_BETWEEN = " · "


class _Piece(NamedTuple):
    """A part of the line; of those that do not fit, the one with the greatest `rank` is left out first."""

    text: str
    rank: float


class Meter:
    """Follows a batch.

    Args:
        clock: seconds that never run backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()
        self._batch: BatchInfo | None = None

    def take(self, news: News) -> None:
        """Take note of what happened."""
        self._batch = news.batch
        now, settled = self._clock(), settled_of(news.batch.counts)
        if not self._samples or now - self._samples[-1][0] >= _SAMPLE_SECONDS:
            self._samples.append((now, settled))
        while len(self._samples) > 2 and now - self._samples[0][0] > RATE_SECONDS:
            self._samples.popleft()

    @property
    def per_second(self) -> float | None:
        """How many prompts a second have ended of late; None where too little is known."""
        if self._batch is None or not self._samples:
            return None
        (since, before), now = self._samples[0], self._clock()
        settled = settled_of(self._batch.counts)
        return (settled - before) / (now - since) if now - since >= 1 and settled > before else None

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at this rate; None where that is not known."""
        rate = self.per_second
        return None if rate is None or self._batch is None else left_of(self._batch.counts) / rate

    def line(self, columns: int, *, is_ascii: bool = False) -> str:
        """Return how far the batch has come as one line of at most so many columns: the most important parts of it."""
        pieces = list(self._pieces(is_ascii))
        between = _BETWEEN if not is_ascii else ", "
        while len(pieces) > 1 and width_of(between.join(piece.text for piece in pieces)) > columns:
            pieces.remove(max(pieces, key=lambda piece: piece.rank))
        return shortened(between.join(piece.text for piece in pieces), max(columns, 1))

    def form(self) -> JsonObject:
        """Return the same as JSON; what is not known is null."""
        if self._batch is None:
            return {}
        rate, left = self.per_second, self.seconds_left
        return {
            **batch_form(self._batch),
            "per_second": None if rate is None else round(rate, 3),
            "seconds_left": None if left is None else round(left, 1),
        }

    def _pieces(self, is_ascii: bool) -> Iterator[_Piece]:
        if self._batch is None:
            yield _Piece("starting", 0)
            return
        batch, counts = self._batch, self._batch.counts
        settled, total = settled_of(counts), sum(counts.values())
        yield _Piece(f"{settled:,} of {total:,}", 0)
        drawn = "#" * (settled * _BAR_COLUMNS // max(total, 1)) if is_ascii else bar(settled, total, _BAR_COLUMNS)
        yield _Piece(f"[{drawn.ljust(_BAR_COLUMNS)}]", 8)
        if counts.get(PromptState.FAILED):
            yield _Piece(f"{counts[PromptState.FAILED]:,} failed", 1)
        if counts.get(PromptState.PARKED):
            yield _Piece(f"{counts[PromptState.PARKED]:,} parked", 2)
        if self.per_second is not None:
            yield _Piece(f"{rate_in_words(self.per_second)}", 5)
        if batch.tokens:
            yield _Piece(f"{short_number(batch.tokens)} tokens", 6)
        if batch.cost_usd or batch.unknown_costs:
            yield _Piece(cost_in_words(batch), 4 if batch.cost_usd else 6.5)
        left = self.seconds_left
        if left is not None and left_of(counts):
            yield _Piece(f"{duration(left)} left", 3)
        elif counts.get(PromptState.RUNNING):
            yield _Piece(f"{counts[PromptState.RUNNING]:,} running", 7)


def batch_form(batch: BatchInfo) -> JsonObject:
    """Return what is known of a batch as JSON, without its prompts and its settings."""
    return {
        "counts": {state.value: batch.counts.get(state, 0) for state in PromptState},
        "cost_usd": batch.cost_usd,
        "reserved_usd": batch.reserved_usd,
        "unknown_costs": batch.unknown_costs,
        "tokens": batch.tokens,
        "requests": batch.requests,
        "paused": batch.paused,
    }


def cost_in_words(batch: BatchInfo) -> str:
    """Return what is known of the cost of a batch; a `+` where a part of it is not known."""
    if not batch.unknown_costs:
        return dollars(batch.cost_usd)
    return f"{dollars(batch.cost_usd)}+" if batch.cost_usd else "cost unknown"


def settled_of(counts: Mapping[PromptState, int]) -> int:
    """Return how many prompts have ended."""
    return sum(count for state, count in counts.items() if state in SETTLED_STATES)


def left_of(counts: Mapping[PromptState, int]) -> int:
    """Return how many prompts have not ended."""
    return sum(count for state, count in counts.items() if state not in SETTLED_STATES)


def rate_in_words(per_second: float) -> str:
    """Return a rate, by the minute where it is slow."""
    return (
        f"{per_second:.0f}/s" if per_second >= 10 else f"{per_second:.1f}/s" if per_second >= 1 else _slow(per_second)
    )


def _slow(per_second: float) -> str:
    return f"{per_second * 60:.1f}/min"


def short_number(number: int) -> str:
    """Return a number in at most five characters: `950`, `12.3k`, `1.23M`."""
    for size, unit in ((1_000, "k"), (1_000_000, "M"), (1_000_000_000, "G")):
        if size <= number < 999.5 * size or (number >= size and unit == "G"):
            return f"{number / size:.3g}{unit}" if number < 1000 * size else f"{number / size:,.0f}{unit}"
    return str(number) if number < 1_000 else f"{number / 1_000_000:.3g}M"


def duration(seconds: float) -> str:
    """Return a length of time for a person: `45s`, `3m 12s`, `2h 5m`, `3d 4h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    for big, small, name, other in ((60, 1, "m", "s"), (3600, 60, "h", "m"), (86400, 3600, "d", "h")):
        if whole < big * (60 if big == 60 else 24) or big == 86400:
            rest = whole % big // small
            return f"{whole // big}{name} {rest}{other}" if rest else f"{whole // big}{name}"
    return f"{whole}s"
