"""Answers that must fit a JSON Schema: the check of the schema, and the words with which a model gets it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import Json, JsonError, JsonObject, dumps, loads
from afkcli.core.contract.lazy_pattern import LazyPattern
from afkcli.core.contract.messages import Message, Role, TextPart, text_message
from afkcli.core.contract.structs import replace

MAX_SCHEMA_BYTES = 256 * 1024
"""The longest schema; about 65,000 tokens if a model gets it in words."""

_WORDS = (
    "Your answer is read by a program. It must be one JSON value that fits the JSON Schema below, and nothing else: no"
    " words before or after it, no code fence."
)
MISFIT = "does not fit the schema: "
_FENCE = LazyPattern(r"\A```[\w-]*[ \t]*\r?\n(.*?)\r?\n?[ \t]*```\Z", re.DOTALL)


def correction(line: str) -> Message:
    """Return the message that tells a model why its answer does not fit, made from the line for the user."""
    problem = line.partition(MISFIT)[2] or line
    return text_message(
        Role.USER,
        f"[That answer does not fit the JSON Schema: {problem}. Answer again, with one JSON value that fits it and"
        " nothing else.]",
    )


def told(messages: Sequence[Message], schema: JsonObject) -> list[Message]:
    """Return `messages` with instructions that give the schema of the answer in words."""
    words = f"{_WORDS}\n\n{dumps(schema)}"
    if messages and messages[0].role is Role.SYSTEM:
        first = messages[0]
        return [replace(first, parts=(*first.parts, TextPart(text=f"\n\n{words}"))), *messages[1:]]
    return [text_message(Role.SYSTEM, words), *messages]


def unfenced(text: str) -> str:
    """Return `text` without surrounding white space and without a code fence around it, which many models add."""
    text = text.strip()
    found = _FENCE.compiled.match(text)
    return found[1] if found else text


def usable_schema(schema: Json, name: str = "the output type") -> JsonObject:
    """Return a copy of `schema` in plain JSON.

    Raises:
        UsageError: it is too long, or not a JSON Schema that can be applied; the message calls it `name`.
    """
    try:
        text = dumps(schema)
    except JsonError as error:
        raise UsageError(f"{name} is not JSON: {error}") from None
    if len(text.encode()) > MAX_SCHEMA_BYTES:
        raise UsageError(f"{name} is longer than {MAX_SCHEMA_BYTES // 1024} KiB; use a smaller schema")
    from afkcli.core.contract.schemas import unusable  # not at the top: providers import this module for `told`

    plain: JsonObject = loads(text)
    problem = unusable(plain)
    if problem:
        raise UsageError(f"{name} is not a usable JSON Schema: {problem}")
    return plain
