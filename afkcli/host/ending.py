"""How a command ended, as a value: a command returns it, and the start of the process acts on it."""

from __future__ import annotations

from typing import NamedTuple


class Ending(NamedTuple):
    """How a command ended.

    Args:
        code: the exit code.
        signal: the number of the signal that ended it, which the process then dies of; None for none.
        at_once: whether the process ends without waiting for anything: code of a plugin or tool is still running that
            does not end, or there is nothing left to do.

    Since: 0.2.
    """

    code: int = 0
    signal: int | None = None
    at_once: bool = False


class EndedError(BaseException):
    """Ends a command from within; `ending` says how.

    It is a BaseException, so that libraries in between do not catch it.

    Since: 0.2.
    """

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending
