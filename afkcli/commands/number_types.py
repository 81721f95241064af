"""Numbers as values of options; a wrong one is refused in words.

Since: 0.2.
"""

from __future__ import annotations

from typing import Any

import click

_SHOWN_CHARS = 40


class WholeNumber(click.IntRange):
    """A whole number of at least `min`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"must be a whole number of at least {self.min} (got {_shown(value)})", param, ctx)


class Number(click.types.FloatParamType):
    """A number; `bound` says in words which ones are valid, such as `greater than 0`. Another check enforces it."""

    def __init__(self, bound: str) -> None:
        self._bound = bound

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"must be a number {self._bound} (got {_shown(value)})", param, ctx)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
