"""Lines of the providers' own batch files, read as prompts: OpenAI's (`custom_id`, `body`), Anthropic's (`params`).

What a line says that afk has another way for is translated; what it cannot do is refused, so that no request differs
from what was meant.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from afkcli.batch.rows import RowError
from afkcli.core.contract.jsonform import JsonObject

_CHAT, _RESPONSES = "/v1/chat/completions", "/v1/responses"
_SAME_OPTIONS = ("temperature", "top_p", "seed", "stop", "reasoning_effort")
_WITHOUT_EFFECT: Mapping[str, tuple[Any, ...]] = {
    "stream": (False,),
    "stream_options": (None,),
    "n": (1,),
    "store": (False, True),
    "user": (None,),
    "safety_identifier": (None,),
    "prompt_cache_key": (None,),
    "service_tier": ("auto", "default", "standard_only"),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "truncation": ("disabled",),
    "background": (False,),
    "include": ([],),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "thinking": ({"type": "disabled"},),
}
"""Fields that change nothing with these values (None: with any)."""


def is_provider_line(fields: Mapping[str, Any]) -> bool:
    """Return whether an object is a line of a provider's batch file."""
    return any(isinstance(fields.get(key), dict) for key in ("body", "params", "request")) and not (
        "message" in fields or "messages" in fields
    )


def as_prompt(fields: Mapping[str, Any]) -> JsonObject:
    """Return the fields of a prompt that asks the same as a line of a provider's batch file.

    Raises:
        RowError: the line asks for something that afk does not do.
    """
    if isinstance(fields.get("request"), dict):
        raise RowError(
            "it is a line of Gemini's batch files, which are not read; give 'id' and 'message' or 'messages'"
        )
    _only(fields, ("custom_id", "method", "url", "body", "params"), "a provider's batch line")
    id_ = {"custom_id": fields["custom_id"]} if "custom_id" in fields else {}
    if isinstance(fields.get("params"), dict):
        return {**id_, **_messages_api(fields["params"])}
    url = fields.get("url", _CHAT)
    if str(fields.get("method", "POST")).upper() != "POST" or url not in (_CHAT, _RESPONSES):
        raise RowError(f"the url {url!r} is not known; known: {_CHAT}, {_RESPONSES}, with the method POST")
    body = fields["body"]
    return {**id_, **(_chat(body) if url == _CHAT else _responses(body))}


def _chat(body: Mapping[str, Any]) -> JsonObject:
    taken = ("model", "messages", "max_tokens", "max_completion_tokens", "response_format", "metadata", *_SAME_OPTIONS)
    _only_sendable(body, taken)
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    form = body.get("response_format")
    return _prompt("openai", body, body.get("messages"), most, _schema(form) if form is not None else None)


def _responses(body: Mapping[str, Any]) -> JsonObject:
    taken = ("model", "input", "instructions", "max_output_tokens", "text", "reasoning", "metadata", *_SAME_OPTIONS)
    _only_sendable(body, taken)
    text, reasoning = body.get("text") or {}, body.get("reasoning") or {}
    schema = _schema(text["format"]) if isinstance(text, dict) and text.get("format") is not None else None
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
    prompt = _prompt("openai", body, body.get("input"), body.get("max_output_tokens"), schema)
    if effort is not None:
        prompt.setdefault("options", {})["reasoning_effort"] = effort
    return prompt | ({"instructions": body["instructions"]} if body.get("instructions") else {})


def _messages_api(params: Mapping[str, Any]) -> JsonObject:
    taken = ("model", "messages", "system", "max_tokens", "stop_sequences", "output_config", "metadata", *_SAME_OPTIONS)
    _only_sendable(params, taken)
    config = params.get("output_config") or {}
    form = config.get("format") if isinstance(config, dict) else None
    prompt = _prompt(
        "anthropic",
        {name: value for name, value in params.items() if name != "metadata"},  # a user's id, for the provider alone
        params.get("messages"),
        params.get("max_tokens"),
        _schema(form) if form is not None else None,
    )
    if params.get("stop_sequences"):
        prompt.setdefault("options", {})["stop"] = params["stop_sequences"]
    if isinstance(config, dict) and config.get("effort") is not None:
        prompt.setdefault("options", {})["reasoning_effort"] = config["effort"]
    system = params.get("system")
    if isinstance(system, list):
        blocks = [block.get("text") if isinstance(block, dict) else None for block in system]
        if not all(isinstance(block, str) for block in blocks):
            raise RowError("'params.system' must be a text, or a list of parts with text")
        system = "\n\n".join(map(str, blocks))
    return prompt | ({"instructions": system} if system else {})


def _prompt(provider: str, body: Mapping[str, Any], messages: Any, most: Any, schema: JsonObject | None) -> JsonObject:
    """Return the fields of a prompt that all forms have; its model is one of `provider`, if its name says no other."""
    options = {name: body[name] for name in _SAME_OPTIONS if body.get(name) is not None}
    if most is not None:
        options["max_output_tokens"] = most
    prompt: JsonObject = {"messages": [] if messages is None else messages}
    model = body.get("model")
    if isinstance(model, str) and model:
        prompt["model"] = model
        prompt["provider"] = provider
    if options:
        prompt["options"] = options
    if schema is not None:
        prompt["schema"] = schema
    if body.get("metadata"):
        prompt["metadata"] = body["metadata"]
    return prompt


def _schema(form: Any) -> JsonObject | None:
    """Return the schema of a form of the answer; None for text."""
    kind = form.get("type") if isinstance(form, dict) else None
    if kind == "text":
        return None
    found = form.get("json_schema") or form if kind == "json_schema" else None
    schema = found.get("schema") if isinstance(found, dict) else None
    if not isinstance(schema, dict):
        raise RowError("the form of the answer must be text or a json_schema with a 'schema'; give a 'schema'")
    return schema


def _only_sendable(body: Mapping[str, Any], taken: tuple[str, ...]) -> None:
    for name, value in body.items():
        allowed = _WITHOUT_EFFECT.get(name)
        if name in taken or value is None or (allowed is not None and (None in allowed or value in allowed)):
            continue
        if name in ("tools", "functions", "tool_choice"):
            raise RowError(f"{name!r} of a provider's batch line cannot be sent; name tools of afk with --tool")
        raise RowError(f"{name!r} of a provider's batch line cannot be sent; leave it out")


def _only(fields: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    for name in fields:
        if name not in known:
            raise RowError(f"{name!r} is not a field of {what}; known: {', '.join(known)}")
