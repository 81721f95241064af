"""The stream of events that a provider yields."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from afkcli.core.contract.messages import ModelEvent


async def close_stream(events: AsyncIterator[ModelEvent]) -> None:
    """Close the request. An error in it is ignored: the answer is there by then, or another error ended it."""
    close = getattr(events, "aclose", None)
    if close is not None:
        with contextlib.suppress(Exception):
            await close()
