"""A sample of the prompts of a batch: the same ones each time, wherever they are in the file.

Since: 0.2.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable

from afkcli.batch.prompt import Prompt


def sampled(prompts: Iterable[Prompt], count: int, seed: int = 0) -> list[Prompt]:
    """Return `count` prompts in their order, or all if there are fewer.

    All prompts are read, and so checked; no more than `count` are kept. Which ones depends on their ids and on the seed
    alone, so that a larger sample has all prompts of a smaller one.
    """

    def rank(prompt: Prompt) -> bytes:
        return hashlib.blake2b(f"{seed}:{prompt.id}".encode(), digest_size=16).digest()

    return sorted(heapq.nsmallest(count, prompts, key=rank), key=lambda prompt: prompt.index)
