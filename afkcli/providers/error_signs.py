"""By what an error is known, before its words are read: a status, or the shape of an event."""

from __future__ import annotations

from afkcli.core.contract.jsonform import Json

RETRIED_STATUSES = frozenset({408, 409, 425, 429})
"""The statuses below 500 after which the same request may succeed."""


def is_error(value: Json) -> bool:
    """Return whether a JSON value that came as an event, or as the whole answer, tells of an error. Since: 0.2."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, dict) and item.get("error") for item in value)
    if not isinstance(value, dict):
        return False
    if value.get("error") or value.get("errors") or value.get("type") == "error" or value.get("object") == "error":
        return True
    if any(value.get(name) for name in ("choices", "output", "content", "candidates", "usage")):
        return False
    told = value.get("detail") or any(isinstance(value.get(name), str) and value[name] for name in ("message", "msg"))
    return bool(told) and not value.get("id")
