"""How the chat reads what is typed: the ends of reading, and what a reader is.

Since: 0.2.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from afkcli.core.contract.errors import UsageError


class Left(Exception):  # noqa: N818 - it is no error
    """The person leaves the chat, or the input has ended."""


class Stopped(Exception):  # noqa: N818
    """A stop signal came while the chat read; `number` is the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class UnreadableError(UsageError):
    """A line of the input is not text; the next one may be."""


class Reader(Protocol):
    """Reads what is typed.

    `keeps_text` says whether a text that could not be sent can be put back for the person to change.
    `is_attended` says whether a person types, and not a file or a program.
    """

    keeps_text: bool
    is_attended: bool

    async def read(self, text: str = "") -> str:
        """Return the next text that is sent; `text` is there to be changed at first.

        Raises:
            Left: the person leaves, or the input has ended.
            Stopped: a stop signal came.
            UnreadableError: the next line is not text.
        """

    def close(self) -> None:
        """Give back the terminal as it was."""


@contextlib.contextmanager
def signals_taken(numbers: Sequence[int], take: Callable[[int], object]) -> Iterator[None]:
    """Have the running event loop call `take` with each of these signals; afterwards they have their default action."""
    loop = asyncio.get_running_loop()
    taken = []
    for number in numbers:
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, take, number)
            taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)


def continues(text: str) -> bool:
    """Return whether a line ends with a backslash of its own, so that the next line belongs to it.

    Two backslashes at the end are one, which ends nothing.
    """
    return (len(text) - len(text.rstrip("\\"))) % 2 == 1
