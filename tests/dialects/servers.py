"""How each server writes the same six situations, taken from its public documentation.

A dialect is what it puts on the wire; a further one is one entry in `DIALECTS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from afkcli.testing.model_server import Step

TEXT, THOUGHT, CUT = "Hello there", "Let me think", "Hel"
USAGE = {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}
Chunk = dict[str, Any]


def stream(*chunks: Chunk, done: bool = True, named: bool = False) -> Step:
    """Return a step that streams chunks as events, with their type where `named`."""
    lines = [(f"event: {chunk['type']}\n" if named else "") + f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return Step(
        body="".join([*lines, "data: [DONE]\n\n" if done else ""]), headers={"Content-Type": "text/event-stream"}
    )


def refused(status: int, body: Any, **headers: str) -> Step:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    text = body if isinstance(body, str) else json.dumps(body)
    return Step(status=status, body=text, headers={"Content-Type": "application/json", **sent})


def openai_error(message: str, kind: str, code: Any = None) -> Any:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What one server sends.

    Attributes:
        source: the page that its form is taken from.
        provider, model, settings: how afk is told to speak to it.
        thought: the field of a delta that has reasoning; "" where reasoning is in the text.
        calls: makes the deltas of two parallel calls.
        usage: makes the chunk that has the usage.
        refused, limited: the answers to a wrong key and to too many requests.
        finish: the words for an end, an end for tools and one by length.
        goes_back: the field in which the reasoning of a step with calls has to come back.
    """

    name: str
    source: str
    refused: Step
    limited: Step
    model: str = "m"
    provider: str = "openai"
    suffix: str = ""
    settings: Mapping[str, Any] = field(default_factory=lambda: {"api": "chat"})
    thought: str = "reasoning_content"
    calls: Callable[[], list[Chunk]] = lambda: openai_calls()
    usage: Callable[[], list[Chunk]] = lambda: [{"choices": [], "usage": USAGE}]
    first: tuple[Chunk, ...] = ()
    signature: Mapping[str, Any] = field(default_factory=dict)

    def plain(self) -> Step:
        return stream(*self.first, delta(content="Hello"), delta(content=" there"), delta("stop"), *self.usage())

    def reasoning(self) -> Step:
        return stream(*self.first, *self._thoughts(), delta(content=TEXT), delta("stop"), *self.usage())

    def tools(self) -> Step:
        return stream(*self.first, *self._thoughts(), *self.calls(), delta("tool_calls"), *self.usage())

    def cut(self) -> Step:
        return stream(*self.first, delta(content=CUT), done=False)

    def _thoughts(self) -> list[Chunk]:
        if not self.thought:
            return [delta(content="<think>Let me "), delta(content="think</think>\n\n")]
        if self.thought == "parts":
            part = {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}
            return [delta(content=[part])]
        return [delta(**{self.thought: "Let me "}), delta(**{self.thought: "think"})]


def delta(finish: str | None = None, **fields: Any) -> Chunk:
    frame = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**frame, "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def _call(index: int | None, id_: str, name: str, arguments: str, **extra: Any) -> Chunk:
    function = {**({"name": name} if name else {}), "arguments": arguments}
    place = {} if index is None else {"index": index}
    return {**place, **({"id": id_, "type": "function"} if id_ else {}), "function": function, **extra}


def openai_calls() -> list[Chunk]:
    """Two calls, each begun with id and name, their arguments in pieces."""
    found = []
    for index, (name, value) in enumerate((("first", 1), ("second", 2))):
        found.append(delta(tool_calls=[_call(index, f"call_{name}", name, "")]))
        found += [delta(tool_calls=[_call(index, "", "", piece)]) for piece in ('{"n"', f": {value}}}")]
    return found


def whole_calls(*ids: str, index: int | None = None, **extra: Any) -> Callable[[], list[Chunk]]:
    """Return two calls that come whole in one delta, with these ids, all with one index or none."""
    made = [
        _call(index, id_, name, f'{{"n": {n}}}', **extra)
        for id_, name, n in zip(ids, ("first", "second"), (1, 2), strict=True)
    ]
    return lambda: [delta(tool_calls=made)]


def _openai(key: str, limit: str = "Rate limit reached") -> dict[str, Step]:
    return {
        "refused": refused(401, openai_error(key, "invalid_request_error", "invalid_api_key")),
        "limited": refused(429, openai_error(limit, "rate_limit_error", "rate_limit_exceeded"), Retry_After="0"),
    }


SIGNATURE = {"extra_content": {"google": {"thought_signature": "c2lnbmF0dXJl"}}}
AZURE_FIRST = {"id": "", "object": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}

DIALECTS = (
    Dialect(
        name="Azure OpenAI",
        source="https://learn.microsoft.com/azure/ai-foundry/openai/reference",
        suffix="/openai/deployments/d?api-version=2024-10-21",
        first=(AZURE_FIRST,),
        refused=refused(401, {"error": {"code": "401", "message": "Access denied due to invalid subscription key."}}),
        limited=refused(429, {"error": {"code": "429", "message": "Please retry after 0 seconds."}}, Retry_After="0"),
    ),
    Dialect(
        name="Google (compatible API)",
        source="https://ai.google.dev/gemini-api/docs/openai",
        calls=whole_calls("function-call-1", "function-call-2", index=0, **SIGNATURE),
        signature=SIGNATURE,
        refused=refused(400, [{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}]),
        limited=refused(
            429,
            [{"error": {"code": 429, "message": "Quota exceeded", "details": [{"retryDelay": "0s"}]}}],
        ),
    ),
    Dialect(
        name="Groq",
        source="https://console.groq.com/docs/api-reference",
        thought="reasoning",
        usage=lambda: [{"choices": [], "x_groq": {"id": "r", "usage": USAGE}}],
        **_openai("Invalid API Key"),
    ),
    Dialect(
        name="OpenRouter",
        source="https://openrouter.ai/docs/api-reference/streaming",
        thought="reasoning",
        refused=refused(401, {"error": {"code": 401, "message": "No auth credentials found"}}),
        limited=refused(429, {"error": {"code": 429, "message": "Rate limited", "metadata": {}}}, Retry_After="0"),
    ),
    Dialect(
        name="DeepSeek",
        source="https://api-docs.deepseek.com/guides/thinking_mode",
        usage=lambda: [
            {"choices": [], "usage": {**USAGE, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 8}}
        ],
        refused=refused(401, openai_error("Authentication Fails", "authentication_error", "invalid_request_error")),
        limited=refused(429, openai_error("Rate limit reached", "rate_limit_error"), Retry_After="0"),
    ),
    Dialect(
        name="Kimi",
        source="https://platform.moonshot.ai/docs/api/chat",
        calls=whole_calls("first:0", "second:1", index=0),
        usage=lambda: [{"choices": [{"index": 0, "delta": {}, "finish_reason": None, "usage": USAGE}]}],
        refused=refused(401, openai_error("Invalid Authentication", "invalid_authentication_error")),
        limited=refused(429, openai_error("too many", "rate_limit_reached_error"), Retry_After="0"),
    ),
    Dialect(
        name="Mistral",
        source="https://docs.mistral.ai/api",
        model="mistral-large-latest",
        thought="parts",
        calls=whole_calls("D681PevKs", "a8Xk2LpQz", index=0),
        refused=refused(401, {"message": "Unauthorized", "request_id": "r"}),
        limited=refused(
            429, {"object": "error", "message": "Requests rate limit exceeded", "code": "1300"}, Retry_After="0"
        ),
    ),
    Dialect(
        name="vLLM",
        source="https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
        refused=refused(401, {"error": "Unauthorized"}),
        limited=refused(429, {"object": "error", "message": "busy", "type": "x", "code": 429}, Retry_After="0"),
    ),
    Dialect(
        name="llama.cpp",
        source="https://github.com/ggml-org/llama.cpp/tree/master/tools/server",
        refused=refused(401, {"error": {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}}),
        limited=refused(
            503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, Retry_After="0"
        ),
    ),
    Dialect(
        name="LM Studio",
        source="https://lmstudio.ai/docs/app/api/endpoints/openai",
        thought="",
        calls=whole_calls("365174485", "365174486", index=0),
        refused=refused(401, {"error": "Invalid API token"}),
        limited=refused(429, {"error": "busy"}, Retry_After="0"),
    ),
    Dialect(
        name="Ollama",
        source="https://docs.ollama.com/api/openai-compatibility",
        thought="reasoning",
        calls=whole_calls("call_a1", "call_b2", index=0),
        refused=refused(401, openai_error("unauthorized", "authentication_error")),
        limited=refused(503, openai_error("server busy, please try again", "api_error"), Retry_After="0"),
    ),
    Dialect(
        name="LiteLLM's proxy",
        source="https://docs.litellm.ai/docs/proxy/user_keys",
        refused=refused(400, openai_error("Authentication Error, LiteLLM Virtual Key expected.", "auth_error", "400")),
        limited=refused(429, openai_error("No deployments available", "None", "429"), Retry_After="0"),
    ),
    Dialect(
        name="OpenAI (Chat Completions)",
        source="https://developers.openai.com/api/reference",
        **_openai("Incorrect API key"),
    ),
)
