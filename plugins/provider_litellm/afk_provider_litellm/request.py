"""What LiteLLM is asked."""

from __future__ import annotations

from afk_provider_litellm.route import Route
from afk_provider_litellm.settings import Settings
from afkcli.plugin import JsonObject, ModelRequest
from afkcli.providers.base_url import split_base_url
from afkcli.providers.chat import OPTIONS, chat_messages, chat_tool, wire_ids
from afkcli.providers.tool_names import ToolNames
from afkcli.providers.wire_ids import SHORT, WireIds

_ONE_ATTEMPT: JsonObject = {
    "stream": True,
    "num_retries": 0,
    "max_retries": 0,
    "caching": False,
    "_skip_mcp_handler": True,  # LiteLLM would import `mcp` to look for tools that it runs itself
}
# LiteLLM refuses them there, and takes care of them everywhere else.
_WITHOUT_STREAM_OPTIONS = frozenset({"bytez", "oci"})


def arguments(settings: Settings, route: Route, request: ModelRequest, names: ToolNames) -> JsonObject:
    """Return the arguments of `litellm.acompletion`; `extra` is among them, what makes a call one attempt goes last."""
    is_mistral = is_mistral_route(route)
    ids = WireIds(SHORT) if is_mistral else wire_ids(route.origin)
    messages = list(chat_messages(request, names, route.origin, ids, strict_roles=is_mistral))
    asked: JsonObject = {"model": request.model, "messages": messages}
    if route.provider not in _WITHOUT_STREAM_OPTIONS:
        asked["stream_options"] = {"include_usage": True}
    if request.tools:
        asked["tools"] = [chat_tool(tool, names) for tool in request.tools]
    for option, field in OPTIONS.items():
        if option in request.options:
            asked[field] = request.options[option]
    if "max_output_tokens" in request.options:
        asked["max_tokens"] = request.options["max_output_tokens"]
    # A server of one's own may let a model call no tool once it is held to a schema; the core has told it in words.
    if request.output_schema is not None and not (request.tools and settings.base_url):
        schema: JsonObject = {"name": "answer", "schema": request.output_schema}
        asked["response_format"] = {"type": "json_schema", "json_schema": schema}
    if settings.base_url:
        asked["api_base"] = split_base_url(settings.base_url.strip())[0]
    if settings.api_key.strip():
        asked["api_key"] = settings.api_key.strip()
    if settings.headers:
        asked["extra_headers"] = dict(settings.headers)
    return {**asked, **request.extra, **_ONE_ATTEMPT}


def is_mistral_route(route: Route) -> bool:
    """Return whether a model is Mistral's, whose API has rules of its own for ids and for the order of roles."""
    return "mistral" in f"{route.provider}/{route.model}".lower()
