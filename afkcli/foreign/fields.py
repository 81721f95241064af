"""Reads fields of JSON objects and rows that another program wrote; an error names the field and what it is."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping

from afkcli.core.contract.jsonform import Json, JsonObject
from afkcli.core.contract.result import Usage, whole_count
from afkcli.foreign.conversation import ForeignError

_KINDS = {str: "text", dict: "object", list: "list", bytes: "blob", bool: "boolean", int: "number", float: "number"}


def text_in(form: Mapping[str, object], name: str) -> str:
    """Return the text of a field; "" where it is missing or null.

    Raises:
        ForeignError: it is anything else.
    """
    value = form.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong(name, value, "text")
    return value


def object_in(form: Mapping[str, Json], name: str) -> JsonObject:
    """Return the object in a field, an empty one where it is missing or null; raises as `text_in`."""
    value = form.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(name, value, "an object")
    return value


def objects_in(form: Mapping[str, Json], name: str) -> list[JsonObject]:
    """Return the objects in the list of a field, no object where it is missing or null; raises as `text_in`."""
    value = form.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise _wrong(name, value, "a list of objects")
    return value


def usage_of(counts: Mapping[str, object]) -> Usage:
    """Return the usage of counts by the names of afk's fields; those that are missing or no counts are unknown."""
    read = {name: whole_count(value) for name, value in counts.items()}
    known = {name: count for name, count in read.items() if count is not None}
    known.setdefault("total_tokens", known.get("input_tokens", 0) + known.get("output_tokens", 0))
    return Usage(**known, unknown=tuple(name for name in ("input_tokens", "output_tokens") if name not in known))


def added(before: Usage | None, usage: Usage) -> Usage:
    """Return the sum of two usages; `before` is None where none was reported yet."""
    return usage if before is None else before + usage


def from_data_url(url: str) -> bytes | None:
    """Return the bytes of a `data:` URL in base64; None for any other URL and for damaged data."""
    head, comma, data = url.partition(",")
    if not (comma and head[:5].lower() == "data:" and head.lower().endswith(";base64")):
        return None
    return from_base64(data)


def from_base64(data: str) -> bytes | None:
    """Return the bytes; None if it is not base64."""
    try:
        return b64decode(data, validate=True)
    except ValueError:
        return None


def _wrong(name: str, value: object, wanted: str) -> ForeignError:
    return ForeignError(f"{name} is not {wanted} but {_KINDS.get(type(value), type(value).__name__)}")
