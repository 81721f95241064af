"""Ids of tool calls on the wire: unique in a request, of the form that an API allows, equal for a call and its result.

Servers give ids of any form, and some give the same one in every step; another API refuses such a thread for good.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict, deque
from collections.abc import Callable

from afkcli.core.contract.messages import ToolCallPart

GENERAL = re.compile(r"[a-zA-Z0-9_-]{1,40}")
"""The form that every API of OpenAI's kind allows; 40 is the limit of OpenAI's Chat Completions."""

SHORT = re.compile(r"[a-zA-Z0-9]{9}")
"""The form that Mistral's models demand."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LENGTH = 9


class WireIds:
    """The ids of one request, given out in the order of its messages, so that they stay the same in the next one.

    Args:
        legal: the form that the API allows.
        is_own: whether a call came from the server that is asked; its id goes back as it is.

    Since: 0.2.
    """

    def __init__(
        self, legal: re.Pattern[str] = GENERAL, is_own: Callable[[ToolCallPart], bool] = lambda call: False
    ) -> None:
        self._legal = legal
        self._is_own = is_own
        self._used: set[str] = set()
        self._open: defaultdict[str, deque[str]] = defaultdict(deque)

    def of_call(self, call: ToolCallPart) -> str:
        """Return the id of a call."""
        wire, n = call.id, 0
        while wire in self._used or not (self._legal.fullmatch(wire) or (n == 0 and wire and self._is_own(call))):
            wire = _made(call.id, n)
            n += 1
        self._used.add(wire)
        self._open[call.id].append(wire)
        return wire

    def of_result(self, id: str) -> str:  # noqa: A002  (the part's own name)
        """Return the id of the result for the call `id`: that of the first such call that has no result yet."""
        waiting = self._open.get(id)
        return waiting.popleft() if waiting else _made(id, 0)


def _made(id: str, n: int) -> str:  # noqa: A002
    """Return an id that every API allows."""
    number = int.from_bytes(hashlib.sha256(f"{id}\0{n}".encode("utf-8", "replace")).digest()[:8], "big")
    digits = []
    for _ in range(_LENGTH):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(digits)
