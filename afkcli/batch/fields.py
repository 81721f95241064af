"""The simple fields of a prompt: ids, texts, options, limits, variables and metadata.

Since: 0.2.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from afkcli.batch.rows import RowError, unknown_field
from afkcli.config.checking import OPTION_KEYS
from afkcli.core.contract.durations import IN_WORDS, seconds_of
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import Json, JsonError, JsonObject, loads
from afkcli.core.contract.limits import LIMITS, Limit
from afkcli.core.contract.options import wanted_value
from afkcli.core.contract.text import collapsed, in_mb
from afkcli.core.thread.attachments import MAX_TEXT_BYTES
from afkcli.core.thread.names import check_name

MAX_ID_CHARS = 200
_LIMITS: Mapping[str, Limit] = {limit.field: limit for limit in LIMITS if limit.option is not None}
_LIMIT_MEANT = {
    **{str(limit.option).lstrip("-").replace("-", "_"): limit.field for limit in _LIMITS.values()},
    "max_cost_usd": "max_total_cost_usd",
    "timeout_s": "max_wall_time_s",
}
_OPTION_MEANT = dict.fromkeys(("max_tokens", "max_completion_tokens", "max_new_tokens"), "max_output_tokens")


def prompt_id(value: Any) -> str:
    """Return an id: a text, or a whole number as one; `RowError` for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise RowError(f"'id' must be a text that is not empty, or a whole number (got {_brief(value)})")
    id_ = unicodedata.normalize("NFC", value)
    if len(id_) > MAX_ID_CHARS or not id_.isprintable():
        raise RowError(f"'id' must be at most {MAX_ID_CHARS} printable characters (got {_brief(value)})")
    return id_


def message_text(value: Any) -> str:
    """Return the text of a message, which may be empty; `RowError` if it is not a text, or too long."""
    if isinstance(value, list):
        raise RowError("'message' must be a text; give a list of messages as 'messages', and files as 'attachments'")
    if not isinstance(value, str):
        raise RowError(f"'message' must be a text (got {_brief(value)})")
    if len(value) > MAX_TEXT_BYTES:
        raise RowError(f"the message is {in_mb(len(value))}, more than any model takes; shorten it")
    if "\0" in value:
        raise RowError("the message has NUL characters, so it is not text")
    return value


def text_of(name: str, value: Any) -> str:
    """Return a field that is a text which is not empty; `RowError` if it is not."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise RowError(f"{name!r} must be a text that is not empty (got {_brief(value)})")
    return value


def thread_name(value: Any) -> str:
    """Return the name of a thread; `RowError` if it is not one."""
    try:
        return check_name(text_of("thread", value))
    except UsageError as error:
        raise RowError(str(error)) from None


def object_of(name: str, value: Any) -> JsonObject:
    """Return a field that is an object with text keys, or a text in JSON of one; `RowError` if it is not."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = from_cell(value)
    if not isinstance(value, dict):
        raise RowError(f"{name!r} must be an object (got {_brief(value)})")
    return value


def options_of(value: Any) -> JsonObject:
    """Return the options of the model by name; `RowError` if one is unknown or has a wrong value."""
    found: JsonObject = {}
    for name, item in object_of("options", value).items():
        if name not in OPTION_KEYS:
            raise _unknown(name, OPTION_KEYS, _OPTION_MEANT, "option")
        item = from_cell(item) if isinstance(item, str) and name != "reasoning_effort" else item
        wanted = None if item is None else wanted_value(name, item)
        if wanted is not None:
            raise RowError(f"'options.{name}' must be {wanted} (got {_brief(item)})")
        found[name] = item
    return found


def limits_of(value: Any) -> dict[str, float]:
    """Return the limits of a run by name; `RowError` if one is unknown or has a wrong value."""
    found: dict[str, float] = {}
    for name, item in object_of("limits", value).items():
        limit = _LIMITS.get(name)
        if limit is None:
            raise _unknown(name, _LIMITS, _LIMIT_MEANT, "limit")
        if item is not None:
            found[name] = _limit(limit, item)
    return found


def _limit(limit: Limit, value: Any) -> float:
    number = value
    if isinstance(value, str):
        number = seconds_of(value) if limit.is_time else from_cell(value)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise RowError(
            f"'limits.{limit.field}' must be {IN_WORDS if limit.is_time else 'a number'} (got {_brief(value)})"
        )
    if limit.kind is int and number != int(number):
        raise RowError(f"'limits.{limit.field}' must be a whole number (got {_brief(value)})")
    wrong = limit.wrong(number)
    if wrong is not None:
        raise RowError(f"'limits.{limit.field}' {wrong} (got {_brief(value)})")
    return int(number) if limit.kind is int else number


def variables_of(value: Any) -> dict[str, str]:
    """Return the variables of the prompt file; numbers, true and false become text. `RowError` for other values."""
    found: dict[str, str] = {}
    for name, item in object_of("variables", value).items():
        text = variable_text(item)
        if text is None and item is not None:
            raise RowError(f"'variables.{name}' must be a text or a number (got {_brief(item)})")
        if text is not None:
            found[name] = text
    return found


def variable_text(value: Any) -> str | None:
    """Return the text of a variable's value; None if it has none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return value if isinstance(value, str) else None


def from_cell(text: str) -> Json:
    """Return the JSON value in a text, or the text if it is not JSON."""
    try:
        return loads(text)
    except JsonError:
        return text


def _unknown(name: str, known: Mapping[str, Any], meant: Mapping[str, str], what: str) -> RowError:
    if name in meant:
        return RowError(f"unknown {what} {name!r}; did you mean {meant[name]!r}?")
    return unknown_field(name, known, what)


def _brief(value: object) -> str:
    text = collapsed(repr(value), 60)
    return text if len(text) < 60 else f"{text[:57]}..."
