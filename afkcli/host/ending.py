"""How a command ended, as a value: a command returns it, and the start of the process acts on it."""

from __future__ import annotations


class Ending:
    """How a command ended.

    Args:
        code: the exit code.
        signal: the number of the signal that ended it, which the process then dies of; None for none.
        at_once: whether the process ends without waiting for anything: code of a plugin or tool is still running that
            does not end, or there is nothing left to do.

    Since: 0.2.
    """

    __slots__ = ("at_once", "code", "signal")  # a named tuple takes longer to make than `afk --version` to print

    def __init__(self, code: int = 0, signal: int | None = None, at_once: bool = False) -> None:
        self.code = code
        self.signal = signal
        self.at_once = at_once

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ending):
            return NotImplemented
        return (self.code, self.signal, self.at_once) == (other.code, other.signal, other.at_once)

    def __hash__(self) -> int:
        return hash((self.code, self.signal, self.at_once))

    def __repr__(self) -> str:
        return f"Ending({self.code!r}, {self.signal!r}, {self.at_once!r})"


class EndedError(BaseException):
    """Ends a command from within; `ending` says how.

    It is a BaseException, so that libraries in between do not catch it.

    Since: 0.2.
    """

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending
