"""Numbers as values of options; a wrong one is refused in words.

Since: 0.2.
"""

from __future__ import annotations

from typing import Any

import click

_SHOWN_CHARS = 40


class WholeNumber(click.ParamType):  # type: ignore[type-arg]  # it takes no argument in the lowest click
    """A whole number of at least `min`."""

    name = "N"

    def __init__(self, min: int = 0) -> None:  # noqa: A002
        self.min = min

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(value)
        except ValueError:
            number = self.min - 1
        if number < self.min:
            self.fail(f"must be a whole number of at least {self.min} (got {_shown(value)})", param, ctx)
        return number


class Number(click.ParamType):  # type: ignore[type-arg]
    """A number; `bound` says in words which ones are valid, such as `greater than 0`. Another check enforces it."""

    name = "NUMBER"

    def __init__(self, bound: str) -> None:
        self._bound = bound

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return float(value)
        except ValueError:
            self.fail(f"must be a number {self._bound} (got {_shown(value)})", param, ctx)


class Seconds(click.ParamType):  # type: ignore[type-arg]
    """A length of time: seconds, or `90s`, `5m`, `1h`. Another check enforces its range."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from afkcli.core.contract.durations import IN_WORDS, seconds_of

        seconds = seconds_of(str(value))
        if seconds is None:
            self.fail(f"must be {IN_WORDS} (got {_shown(value)})", param, ctx)
        return seconds


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
