"""The schema of an answer for llama.cpp, which makes a grammar of it: then the model can generate nothing else."""

from __future__ import annotations

import re

from afkcli.plugin import JsonObject
from afkcli.providers.schemas import rewritten

MAX_REPETITIONS = 1000
"""llama.cpp refuses a grammar that repeats a thing more than 2,000 times."""

_BOUNDS = ("minLength", "maxLength", "minItems", "maxItems")
# llama.cpp supports a part of regular expressions, and complains about the rest on stderr, not through Python.
_PATTERN = re.compile(r"\^[^\\^$]*\$")


def response_format(schema: JsonObject) -> JsonObject:
    """Return the `response_format` for `schema`, without keywords that have no grammar: afk checks those itself."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": rewritten(schema, _grammatical)}}


def _grammatical(schema: JsonObject) -> JsonObject:
    """Return a schema that accepts at least what `schema` accepts."""
    new = {name: value for name, value in schema.items() if not _is_out_of_reach(name, value)}
    for name in ("properties", "$defs", "definitions"):
        if isinstance(new.get(name), dict):
            new[name] = {key: {} if inner is True else inner for key, inner in new[name].items()}
    return {**new, "items": {}} if new.get("items") is True else new


def _is_out_of_reach(name: str, value: object) -> bool:
    if name == "pattern":
        return "(?" in str(value) or not _PATTERN.fullmatch(str(value))
    return name in _BOUNDS and isinstance(value, (int, float)) and value > MAX_REPETITIONS
