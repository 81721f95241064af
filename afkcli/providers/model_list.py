"""The list of models that a server gives, in the forms in which servers really give it.

OpenAI's is `{"data": [{"id": ...}]}`. Others answer with a bare array, with the key `models`, with names instead of
objects, with the name under `name`, `model` or `key`, with numbers as ids, or with a model twice.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from afkcli.core.contract.protocols import ModelInfo
from afkcli.core.contract.text import one_line

MAX_MODELS = 20_000
_MAX_ID_CHARS = 300
_MAX_DESCRIPTION_CHARS = 300
_LISTS = ("data", "models", "result", "results", "items")
_NAMES = ("id", "name", "model", "key")
_WINDOWS = ("context_length", "context_window", "max_context_length", "max_model_len", "max_input_tokens", "n_ctx")


def listed_models(answer: Any) -> list[ModelInfo]:
    """Return the models of an answer, each once, by name.

    Raises:
        ValueError: the answer is no list of models; the message says what it is.
    """
    found: dict[str, ModelInfo] = {}
    for entry in _entries(answer):
        info = _model(entry)
        if info is not None:
            found.setdefault(info.id, info)
        if len(found) >= MAX_MODELS:
            break
    return sorted(found.values(), key=lambda info: info.id)


def _entries(answer: Any) -> Iterator[Any]:
    if isinstance(answer, list):
        yield from answer
        return
    if isinstance(answer, dict):
        lists = [answer[key] for key in _LISTS if key in answer]
        # llama.cpp gives `data` and `models`; a list of null is an empty one.
        for value in lists:
            yield from _of(value)
        if lists:
            return
    raise ValueError("is not a list of models")


def _of(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        yield from value
    elif isinstance(value, dict):
        yield from ({"id": name, **entry} if isinstance(entry, dict) else name for name, entry in value.items())
    elif value is not None:
        raise ValueError("is not a list of models")


def _model(entry: Any) -> ModelInfo | None:
    """Return a model, or None for an entry without a usable name."""
    if isinstance(entry, str):
        entry = {"id": entry}
    if not isinstance(entry, dict):
        return None
    name = next((entry[key] for key in _NAMES if isinstance(entry.get(key), str) and entry[key].strip()), None)
    if name is None or len(name) > _MAX_ID_CHARS or not name.isprintable() or name != name.strip():
        return None
    described = next((entry[key] for key in ("display_name", "description") if isinstance(entry.get(key), str)), "")
    return ModelInfo(id=name, description=one_line(described)[:_MAX_DESCRIPTION_CHARS], context_tokens=_window(entry))


def _window(entry: Mapping[str, Any]) -> int | None:
    meta = entry.get("meta")
    for table in (entry, meta if isinstance(meta, dict) else {}):
        for key in _WINDOWS:
            value = table.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None
