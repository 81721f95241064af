"""What two lists of messages have in common."""

from __future__ import annotations

import operator
from collections.abc import Sequence

from afkcli.core.contract.messages import Message


def begins_with(messages: Sequence[Message], before: Sequence[Message]) -> bool:
    """Return whether `messages` are those of `before`, the very same objects, and perhaps more.

    A message does not change, so what was made of it before is still right. Comparing thousands takes microseconds.
    """
    return len(before) <= len(messages) and all(map(operator.is_, before, messages))
