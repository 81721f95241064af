"""Which message of a request a server's error names.

OpenAI says `messages.[3].content` or `input[5]`, Anthropic `messages.3.content.1.thinking`, Google `contents[2].parts`,
FastAPI and vLLM `["body", "messages", 3, "content"]`, Groq `'messages.3.content'`, Moonshot `the message at
position 3`. All of them count from 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from afkcli.core.contract.lazy_pattern import LazyPattern
from afkcli.core.contract.messages import Message, Role

_TO_INDEX = r"(?:\.?\[|\.|/|\s*->\s*|['\"],\s*|['\"]\]\[)"
_FURTHER = r"[\]\[.,/'\"\s>-]{1,6}"
_PATH = LazyPattern(
    rf"(?<![\w-])(messages|input|contents){_TO_INDEX}(\d{{1,5}})(?!\w)"
    rf"(?:{_FURTHER}(?:content|parts){_FURTHER}(\d{{1,5}})(?!\w))?"
)
_IN_WORDS = LazyPattern(r"\bmessages?(?: at)? (?:index|position) (\d{1,5})\b", re.IGNORECASE)


class NamedMessage(NamedTuple):
    """A message as the wire has it.

    Attributes:
        field: the list that it is in: `messages`, `input` or `contents`.
        position: its index there, from 0.
        part: the index of the part of its content that is named, if one is.

    Since: 0.2.
    """

    field: str
    position: int
    part: int | None = None


def named_message(texts: Iterable[str]) -> NamedMessage | None:
    """Return the message that the first of `texts` with a message names; None if there is no such text.

    Args:
        texts: what an error says: the parameter that it names, its path, its words.

    Since: 0.2.
    """
    for text in texts:
        path = _PATH.compiled.search(text)
        if path is not None:
            return NamedMessage(path[1], int(path[2]), None if path[3] is None else int(path[3]))
        words = _IN_WORDS.compiled.search(text)
        if words is not None:
            return NamedMessage("messages", int(words[1]))
    return None


def index_in_request(messages: Sequence[Message], sizes: Iterable[int], index: int) -> int | None:
    """Return which message became item `index` of the wire, counted as `ProviderError.message_index`.

    Args:
        messages: those of the request.
        sizes: how many items of the wire each of them became.
        index: the index on the wire.

    Returns:
        None if it is the instructions, or no message of the request.

    Since: 0.2.
    """
    passed = 0
    for message, size in zip(messages, sizes, strict=True):
        if index < size:
            return None if message.role is Role.SYSTEM else passed
        index -= size
        passed += message.role is not Role.SYSTEM
    return None
