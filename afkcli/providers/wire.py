"""JSON that comes from a model server: an event, the arguments of a tool call, a token count."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from afkcli.core.contract.jsonform import Json, JsonError, JsonObject, clean_text, loads_object
from afkcli.core.contract.messages import ToolCallPart

INVALID_ARGUMENTS = "invalid_arguments"
"""The field under which arguments that were no JSON object go back to the model."""


def tool_call(id: str, name: str, arguments: str, **fields: Any) -> ToolCallPart:  # noqa: A002  (the part's own name)
    """Return the call for a model's argument text, which may be empty or no JSON object at all."""
    try:
        return ToolCallPart(id=id, name=name, arguments=loads_object(arguments or "{}"), **fields)
    except JsonError:
        return ToolCallPart(id=id, name=name, arguments={}, invalid_arguments=arguments, **fields)


def sent_arguments(call: ToolCallPart) -> JsonObject:
    """Return the arguments of a call as they go back; what was no JSON object is wrapped, because servers parse it."""
    if call.invalid_arguments is not None:
        return {INVALID_ARGUMENTS: call.invalid_arguments}
    return call.arguments


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def decode_event(data: str) -> JsonObject:
    """Return the JSON object of one event; `ValueError` if it is none.

    This is on the path of every delta, so it does without the checks of `loads` in `afkcli.core.contract.jsonform`: the
    texts taken out of an event are cleaned one by one.
    """
    try:
        value = _decode(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def count(usage: Mapping[str, Json], *path: str) -> int:
    """Return the token count at `path` in a usage object; 0 where a server leaves it out."""
    value: Json = usage
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, int) else 0


class TextPieces:
    """Makes text that can be encoded of pieces that may cut a surrogate pair in two, as some gateways do."""

    def __init__(self) -> None:
        self._half = ""

    def take(self, piece: str) -> str:
        """Return `piece` with the half that was held back before it; a half at its end waits for the next piece."""
        text, self._half = self._half + piece, ""
        if "\ud800" <= text[-1:] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return clean_text(text)
