"""The form of a recording: one JSON object a line, version 1. docs/reference/files.md describes the lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from afkcli.core.contract.errors import ErrorKind, ProviderError
from afkcli.core.contract.events import message_to_json
from afkcli.core.contract.jsonform import Json, JsonError, JsonObject, dumps, to_plain
from afkcli.core.contract.messages import (
    Message,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    ModelWarning,
    OpaqueDelta,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from afkcli.core.contract.protocols import Capabilities, Price
from afkcli.core.contract.result import usage_from_json
from afkcli.core.contract.structs import replace
from afkcli.core.contract.typed_json import from_json

VERSION = 1
"""The version of the form. Types of lines and fields are added within it, never changed or removed."""

HEADER = "recording"

_DELTAS: Mapping[str, type[ModelEvent]] = {
    "text": TextDelta,
    "reasoning": ReasoningDelta,
    "tool_call": ToolCallDelta,
    "opaque": OpaqueDelta,
    "warning": ModelWarning,
    "response": ModelResponse,
}
_NAMES = {kind: name for name, kind in _DELTAS.items()}


_FIELDS: Mapping[str, Mapping[str, type]] = {
    "run": {"run_id": str, "thread_id": str, "thread_key": str, "started": str, "model": str, "capabilities": dict},
    "record": {"index": int, "kind": str, "turn": int, "body": dict},
    "question": {"text": str},
    "tools": {"tools": list},
    "tools_left_out": {"problems": list},
    "content": {"sha256": str, "base64": str},
    "request": {"call": int, "kept": int, "model": str, "messages": list, "options": dict, "extra": dict},
    "event": {"kind": str},
    "error": {"error": str},
    "tool": {"event": str, "values": dict},
    "result": {"position": int, "result": dict},
    "end": {"state": str},
}
"""The fields that a reader needs of the lines of a type, each with the type of its value."""


def wrong_field(line: JsonObject) -> str | None:
    """Return the name of a field that is missing in a line, or that is of a wrong type; None if there is none."""
    if type(line.get("run")) is not int and line.get("type") != "content":
        return "run"
    wanted = _FIELDS.get(str(line.get("type")), {})
    return next((name for name, kind in wanted.items() if type(line.get(name)) is not kind), None)


def each_text(value: Json, change: Callable[[str], str]) -> Json:
    """Return a JSON value with each of its texts, keys included, as `change` returns it."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [each_text(item, change) for item in value]
    if isinstance(value, dict):
        return {change(key): each_text(item, change) for key, item in value.items()}
    return value


def request_form(full_name: str, request: ModelRequest) -> JsonObject:
    """Return the whole of a request but for the contents of its attachments, which it names by their hashes."""
    return {
        "model": full_name,
        "messages": [message_to_json(message) for message in request.messages],
        "tools": to_plain(list(request.tools)),
        "options": to_plain(dict(request.options)),
        "extra": to_plain(dict(request.extra)),
        "output_schema": to_plain(request.output_schema),
        "native_context_from": request.native_context_from,
    }


BYTES_PER_TOKEN = 4


def estimated_tokens(request: ModelRequest) -> int:
    """Return an estimate of the tokens of a request, which asks no server."""
    sent = [*map(message_to_json, request.messages), *request.tools]
    return -(-len(dumps(sent).encode()) // BYTES_PER_TOKEN)


def common_messages(messages: Sequence[Message], before: Sequence[Message]) -> int:
    """Return how many messages two requests have in common at their beginnings."""
    count = 0
    for one, other in zip(messages, before, strict=False):
        if one is not other and one != other:
            break
        count += 1
    return count


def event_form(event: ModelEvent) -> JsonObject:
    """Return what a provider yielded as JSON: its kind, and its fields."""
    form: JsonObject = {"kind": _NAMES[type(event)]}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        form[name] = message_to_json(value) if isinstance(value, Message) else to_plain(value)
    return form


def event_of(form: JsonObject) -> ModelEvent:
    """Return what a provider yielded; `JsonError` if `form` is not the form of it."""
    kind = _DELTAS.get(str(form.get("kind")))
    if kind is None:
        raise JsonError(f"{form.get('kind')!r} is not a kind of event")
    event: ModelEvent = from_json(kind, form)
    if isinstance(event, ModelResponse) and form.get("usage") is not None:
        return replace(event, usage=usage_from_json(form["usage"]))
    return event


def error_form(error: Exception) -> JsonObject:
    """Return an error of a provider as JSON; that of a plugin's own fault has no `kind`."""
    if not isinstance(error, ProviderError):
        return {"error": str(error), "class": type(error).__name__}
    return {
        "error": str(error),
        "kind": error.kind.value,
        "retry_after": error.retry_after,
        "status": error.status,
        "said": error.said,
        "message_index": error.message_index,
    }


def error_of(form: JsonObject) -> Exception:
    """Return the error that `error_form` wrote; `JsonError` if its kind is not known."""
    said = str(form.get("error"))
    if "kind" not in form:
        kind: type[Exception] = type(str(form.get("class") or "Exception"), (Exception,), {})
        return kind(said)
    try:
        known = ErrorKind(str(form["kind"]))
    except ValueError:
        raise JsonError(f"{form['kind']!r} is not a kind of error") from None
    return ProviderError(
        said,
        kind=known,
        retry_after=form.get("retry_after"),
        status=form.get("status"),
        said=str(form.get("said") or ""),
        message_index=form.get("message_index"),
    )


def capabilities_form(known: Capabilities) -> JsonObject:
    """Return what is known of a model, without what is unknown."""
    form: JsonObject = {name: getattr(known, name) for name in _PLAIN if getattr(known, name) is not None}
    if known.options is not None:
        form["options"] = sorted(known.options)
    if known.option_ranges:
        form["option_ranges"] = {name: list(ends) for name, ends in known.option_ranges.items()}
    if known.price is not None:
        form["price"] = to_plain(known.price)
    return form


def capabilities_of(form: Any) -> Capabilities:
    """Return what `capabilities_form` wrote; `JsonError` if `form` is something else."""
    if not isinstance(form, dict):
        raise JsonError("the capabilities of a model are not an object")
    values: dict[str, Any] = {name: form[name] for name in _PLAIN if name in form}
    if isinstance(form.get("options"), list):
        values["options"] = frozenset(map(str, form["options"]))
    if isinstance(form.get("option_ranges"), dict):
        values["option_ranges"] = {str(name): (ends[0], ends[1]) for name, ends in form["option_ranges"].items()}
    if form.get("price") is not None:
        values["price"] = from_json(Price, form["price"])
    return Capabilities(**values)


_PLAIN = tuple(name for name in Capabilities.__struct_fields__ if name not in ("options", "option_ranges", "price"))
