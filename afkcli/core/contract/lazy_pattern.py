"""Regular expressions that are compiled when they are first used.

Compiling one takes up to 2 ms, as long as ten imports, and most are used only where something went wrong.
"""

from __future__ import annotations

import re
from functools import cached_property


class LazyPattern:
    """A regular expression.

    Args:
        text: the expression.
        flags: those of `re.compile`.

    Since: 0.2.
    """

    def __init__(self, text: str, flags: int = 0) -> None:
        self._text = text
        self._flags = flags

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        """The compiled expression."""
        return re.compile(self._text, self._flags)
