"""The window of a model: what is reserved of it for the answer, and what servers say of it when they refuse."""

from __future__ import annotations

import re

from afkcli.core.contract.context import SMALLEST_WINDOW

LISTED_FROM_TOKENS = 6_000
"""A conversation of fewer tokens fits into nearly every model that a price list names, so the list is not imported for
it; the refusal of a smaller one is read."""
ANSWER_TOKENS = 4_096
"""What is reserved for an answer whose length no option limits; never more than a quarter of the window."""
REFUSED_PART = 0.7
"""The part of a refused request that a window is taken to have if the server does not name its size."""
MORE = 1.05
"""What a window is taken to be passed by where a server refuses what is smaller by the estimate."""

_WINDOWS = (
    re.compile(r"[\d,]+(?: tokens)? > ([\d,]+)"),  # Anthropic's API
    re.compile(r"\blimit(?: is| of|:)? ([\d,]{3,})"),
    re.compile(r"maximum number of (?:input )?tokens(?: allowed)?\D{0,20}([\d,]+)"),  # Google's API
    re.compile(r"(?:maximum context length|context (?:window|length|size|limit)|n_ctx)\D{0,40}?([\d,]{3,})"),
)  # the last one: OpenAI's API, vLLM, llama.cpp's server


def window_said(text: str) -> int | None:
    """Return the size of the window that the refusal of a server names, or None."""
    for pattern in _WINDOWS:
        found = pattern.search(text.lower())
        if found is not None:
            window = int(found[1].replace(",", "") or 0)
            return window if window >= SMALLEST_WINDOW else None
    return None
