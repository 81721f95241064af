"""A prompt of a batch as plain JSON, what the command line says for all of them, and the digest of what is asked.

The request of a prompt holds what its line says and no more; `Defaults` is there once for the whole batch. The request
has these fields, each only where the prompt has it:

- `message`: the text of the user's message, the prompt file filled in.
- `history`: the messages before it, `{"role": "user" | "assistant", "text": ..., "attachments": [...]}`.
- `attachments`: `{"path" | "url" | "data": ..., "name", "media_type", "size", "sha256"}`; `data` is base64, a `path`
  is absolute, with the hash of the contents that were read with the prompt; a `url` has a `name` at most.
- `instructions`, `agent`, `model`, `options`, `schema`, `limits`, `thread`: as `afk run` has them.
- `default_model`: what a prompt without a model is asked if its thread has none, as the config of the submitter says;
  only where workers of other machines ask it.
- `metadata`: what comes back with the result, and `custom_id`: whether its id was called that.

Since: 0.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from afkcli.core.contract.jsonform import JsonObject, canonical, to_plain
from afkcli.core.contract.structs import FrozenStruct, field
from afkcli.core.contract.typed_json import from_json

_NOT_ASKED = frozenset({"metadata", "custom_id", "limits", "default_model"})
"""Fields of a request that change nothing in what a model is asked."""
_NOT_ASKED_BY_ALL = frozenset({"limits", "context", "context_model"})
ID_CHARS = 16
"""The digits of an id that is made from a prompt's content."""


class Prompt(FrozenStruct, kw_only=True):
    """A prompt that was read and checked.

    Args:
        id: its id, which no other prompt of the batch has: 1 to 200 characters.
        index: its place among the prompts, from 0.
        digest: the SHA-256 (hex) of what is asked: a prompt of the same id with another digest was changed.
        request: what is asked, as plain JSON.
        where: its place for a person, as `prompts.jsonl, line 3`.
    """

    id: str
    index: int
    digest: str
    request: JsonObject
    where: str


class Defaults(FrozenStruct, kw_only=True):
    """What the command line says for all prompts, with the meaning that it has for `afk run`; None: it does not say.

    What a prompt says itself goes before it, and the config comes after it.
    """

    model: str | None = None
    agent: str | None = None
    instructions: str | None = None
    tools: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    schema: JsonObject | None = None
    context: str | None = None
    context_model: str | None = None

    def to_json(self) -> JsonObject:
        """Return the JSON form, which `defaults_from_json` reads."""
        form: JsonObject = to_plain(self)
        return form


def defaults_from_json(form: JsonObject) -> Defaults:
    """Return the defaults in their JSON form; `JsonError` if it is not one."""
    return from_json(Defaults, form)


def request_size(request: Mapping[str, Any]) -> int:
    """Return about how many characters a request has: those of its texts and of what is attached as data."""
    size = len(request.get("message", request.get("text", "")))
    size += sum(len(form.get("data", "")) for form in request.get("attachments", ()))
    return size + sum(map(request_size, request.get("history", ())))


class Digests:
    """Makes the digests of the prompts of one batch.

    A digest covers the request (the message with the prompt file and its variables, the contents of files by their
    hashes, a URL by itself) and the defaults, but no limit, that of the answer included, and nothing that the config
    says.
    """

    def __init__(self, defaults: Defaults) -> None:
        form = _without_limit(defaults.to_json())
        form = {name: value for name, value in form.items() if name not in _NOT_ASKED_BY_ALL and value}
        self._base = hashlib.sha256(canonical(form).encode())

    def of(self, request: Mapping[str, Any]) -> str:
        """Return the digest of a request, 64 hexadecimal digits."""
        digest = self._base.copy()
        asked = _without_limit({name: value for name, value in request.items() if name not in _NOT_ASKED})
        if "attachments" in asked or "history" in asked:
            asked = _without_paths(asked)
        digest.update(canonical(asked).encode())
        return digest.hexdigest()


def _without_limit(form: JsonObject) -> JsonObject:
    options = form.get("options")
    if not options or "max_output_tokens" not in options:
        return form
    left = {name: value for name, value in options.items() if name != "max_output_tokens"}
    others = {name: value for name, value in form.items() if name != "options"}
    return {**others, "options": left} if left else others


def _without_paths(value: Any) -> Any:
    """Return a request with the hashes of files alone: where they are changes nothing in what is asked."""
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    if isinstance(value, dict):
        hashed = "sha256" in value
        return {name: _without_paths(item) for name, item in value.items() if not (hashed and name in ("path", "data"))}
    return value


def id_of(content: object) -> str:
    """Return the id of a prompt that has none, made from what its line says."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()[:ID_CHARS]


def numbered_id(id_: str, count: int) -> str:
    """Return the id of the prompt number `count` (from 1) among those of the same content: `1f2e...`, `1f2e....2`."""
    return id_ if count == 1 else f"{id_}.{count}"
