"""What is sent to the Messages API: https://platform.claude.com/docs/en/api/messages/create

The body of a turn is the beginning of the next turn's, byte for byte but for the cache marks. Prompt caching needs
that, and newer models refuse thinking whose prefix has changed
(https://platform.claude.com/docs/en/build-with-claude/preserved-thinking).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from urllib.parse import urlsplit

from afk_provider_anthropic.blocks import COMPACTION
from afk_provider_anthropic.models import Claude, claude
from afk_provider_anthropic.native import context_edits
from afk_provider_anthropic.settings import ANTHROPIC_URL, Server
from afkcli.plugin import (
    PDF,
    FilePart,
    FrozenStruct,
    ImagePart,
    JsonObject,
    Message,
    ModelRequest,
    Part,
    ProviderData,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    dumps,
)
from afkcli.providers.attached import base64_content, cannot_send
from afkcli.providers.named_message import NamedMessage
from afkcli.providers.origin import Origin
from afkcli.providers.parts import EMPTY_ANSWER, EMPTY_RESULT
from afkcli.providers.tool_names import ToolNames
from afkcli.providers.wire import sent_arguments
from afkcli.providers.wire_ids import WireIds

PATH = "/v1/messages"
PROVIDER = "anthropic"
API = "messages"

BLOCK = "block"
PREFIX = "prefix"

CACHE_MARKS = {"5m": {"type": "ephemeral"}, "1h": {"type": "ephemeral", "ttl": "1h"}}
"""By how long the cache lasts; five minutes are what a mark without a time means, also to servers that know no time."""
MARKED_MESSAGES = 2

API_VERSION = "2026-10-21"
SAMPLING_API_VERSION = "2023-06-01"
"""The last version that takes `temperature` and `top_p`, for models that do: https://platform.claude.com/docs/en/api/versioning"""

_SAMPLING = ("temperature", "top_p")
_CHOICES = ("oneOf", "anyOf", "allOf")
_NEVER_LAST = ("thinking", "redacted_thinking")

LEGAL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""The form of a call's id: the characters that the API names, and the length that Amazon Bedrock allows for Claude."""


def request_body(server: Server, request: ModelRequest, names: ToolNames) -> JsonObject:
    """Return the body of the request, `extra` last.

    Raises:
        ProviderError: `bad_request`, for a file that the API does not take.
    """
    model = claude(request.model)
    tools = _tools(request, names)
    system = _system(request.messages)
    own = OwnBlocks(origin(server, request.model), prefix_digest(system, tools))
    messages = _merged(_messages(request, names, own))
    if server.settings.cache:
        _mark(tools, system, messages, server.settings.cache_ttl)
    body: JsonObject = {
        "model": request.model,
        "max_tokens": request.options.get("max_output_tokens") or _max_tokens(server, model),
        "messages": messages,
        "stream": True,
    }
    if system:
        body["system"] = system
    if tools:
        body["tools"] = tools
    body |= {name: request.options[name] for name in _SAMPLING if name in request.options}
    if "stop" in request.options:
        stop = request.options["stop"]
        body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    body |= _thinking(server, request, model)
    config = _output_config(request)
    if config:
        body["output_config"] = config
    if request.native_context_from is not None:
        body["context_management"] = {"edits": context_edits(request, model)}
    return {**body, **{name: value for name, value in request.extra.items() if name != "output_config"}, "stream": True}


def counted_body(body: JsonObject) -> JsonObject:
    """Return what of a request's body the token count takes: https://platform.claude.com/docs/en/api/messages/count_tokens"""
    taken = ("model", "messages", "system", "tools", "tool_choice", "thinking", "output_config")
    return {name: body[name] for name in taken if name in body}


def api_version(body: JsonObject) -> str:
    """Return the version of the API that takes this body."""
    return SAMPLING_API_VERSION if any(name in body for name in (*_SAMPLING, "top_k")) else API_VERSION


def request_prefix(request: ModelRequest, names: ToolNames) -> str:
    """Return the digest of all that comes before the messages of a request."""
    return prefix_digest(_system(request.messages), _tools(request, names))


def prefix_digest(system: Sequence[JsonObject], tools: Sequence[JsonObject]) -> str:
    """Return a digest of all that comes before the messages: signed thinking is valid only after the same one."""
    return hashlib.sha256(dumps([system, tools]).encode()).hexdigest()[:16]


def _max_tokens(server: Server, model: Claude | None) -> int:
    wanted = server.settings.max_output_tokens
    return wanted if model is None else min(wanted, model.max_output_tokens)


def _thinking(server: Server, request: ModelRequest, model: Claude | None) -> JsonObject:
    """Return the fields that ask for thinking: the models up to 4.8 do not think unless they are asked to."""
    fields: JsonObject = {}
    display = server.settings.thinking_display
    effort = request.options.get("reasoning_effort")
    if model is not None and model.thinks_adaptively and (display or effort is not None):
        fields["thinking"] = {"type": "adaptive", "display": display} if display else {"type": "adaptive"}
    return fields


def _output_config(request: ModelRequest) -> JsonObject:
    """Return how hard the model tries and which schema its answer has to fit; what `extra` says of it goes before."""
    config: JsonObject = {}
    if request.options.get("reasoning_effort") is not None:
        config["effort"] = request.options["reasoning_effort"]
    if request.output_schema is not None:
        config["format"] = {"type": "json_schema", "schema": request.output_schema}
    return {**config, **(request.extra.get("output_config") or {})}


def _tools(request: ModelRequest, names: ToolNames) -> list[JsonObject]:
    return [
        {
            "name": names.to_wire(tool.name),
            "description": tool.description,
            "input_schema": _input_schema(tool.parameters),
        }
        for tool in request.tools
    ]


def _input_schema(schema: JsonObject) -> JsonObject:
    """Return the schema of a tool as the API takes it: an object's, without choices at its top.

    The API refuses the whole request for `oneOf`, `anyOf` and `allOf` there. What the choices name is kept; that they
    are choices, the tool says itself when it is called.
    """
    if not any(name in schema for name in _CHOICES) and schema.get("type") == "object":
        return schema
    plain = {name: value for name, value in schema.items() if name not in _CHOICES}
    properties, required = dict(plain.get("properties") or {}), list(plain.get("required") or ())
    for name in _CHOICES:
        for inner in schema.get(name) or ():
            if isinstance(inner, dict):
                properties = {**(inner.get("properties") or {}), **properties}
                required += (inner.get("required") or ()) if name == "allOf" else ()
    plain |= {"type": "object", "properties": properties}
    return {**plain, "required": list(dict.fromkeys(required))} if required else plain


def _system(messages: Sequence[Message]) -> list[JsonObject]:
    return [block for message in messages if message.role is Role.SYSTEM for block in _texts(message.parts)]


def origin(server: Server, model: str) -> Origin:
    """Return where a model's answers come from: its signed and encrypted blocks go back there and nowhere else."""
    parts = urlsplit(server.url)
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    return Origin(provider=PROVIDER, api=API, model=model, server=place)


def _messages(request: ModelRequest, names: ToolNames, own: OwnBlocks) -> Iterator[JsonObject]:
    ids = WireIds(LEGAL_ID, lambda call: own.origin.own(call.provider_data) is not None)
    user, assistant, tool = Role.USER, Role.ASSISTANT, Role.TOOL
    for message in request.messages:
        role, parts = message.role, message.parts
        if role is user:
            yield {"role": "user", "content": _text_block(parts) or list(_blocks(request, parts))}
        elif role is assistant:
            yield {"role": "assistant", "content": _text_block(parts) or list(_answer(parts, names, own, ids))}
        elif role is tool:
            results = [_result(request, part, ids) for part in parts if isinstance(part, ToolResultPart)]
            yield {"role": "user", "content": results}


def _text_block(parts: Sequence[Part]) -> list[JsonObject] | None:
    """Return the block of a message that is one text, as nearly every message of a long thread is; None for others."""
    if len(parts) == 1:
        part = parts[0]
        if type(part) is TextPart and part.provider_data is None and part.text and not part.text.isspace():
            return [{"type": "text", "text": part.text}]
    return None


def message_at(request: ModelRequest, names: ToolNames, own: OwnBlocks, named: NamedMessage) -> int | None:
    """Return which message of `request` the API named, as `ProviderError.message_index` counts them.

    A message of the API may be several of the request; None where it does not say which.
    """
    if named.field != "messages" or "messages" in request.extra:
        return None
    sent = list(_messages(request, names, own))
    by_message = {id(message): n for n, message in enumerate(sent)}
    by_block = {id(block): n for n, message in enumerate(sent) for block in message["content"]}
    merged = _merged(sent)
    if named.position >= len(merged):
        return None
    message = merged[named.position]
    blocks = message["content"] if named.part is None else message["content"][named.part : named.part + 1]
    found = {by_block[id(block)] for block in blocks if id(block) in by_block} or {by_message[id(message)]}
    return found.pop() if len(found) == 1 else None


def _merged(messages: Iterable[JsonObject]) -> list[JsonObject]:
    """Return messages of alternating roles that begin with a user's: neighbours of one role are joined.

    An answer without anything to send keeps its place by a mark, so that the messages before it are those of the last
    request; so does one that ends with thinking, which the API refuses. Results of tools come first in their message;
    the API refuses text before them (https://platform.claude.com/docs/en/agents-and-tools/tool-use/handle-tool-calls).
    """
    merged = _alternating(messages)
    if merged and merged[-1] == {"role": "assistant", "content": []}:
        merged.pop()
    for message in merged:
        content = message["content"]
        if len(content) == 1 and content[0]["type"] == "text":  # nearly every message
            continue
        if message["role"] == "user":
            content.sort(key=lambda block: block["type"] != "tool_result")
        elif not content or content[-1]["type"] in _NEVER_LAST:
            content.append({"type": "text", "text": EMPTY_ANSWER})
    return merged


def _alternating(messages: Iterable[JsonObject]) -> list[JsonObject]:
    """Return the messages with neighbours of one role joined; the first is a user's, or stands for those before it."""
    merged: list[JsonObject] = []
    last = None
    for message in messages:
        role, content = message["role"], message["content"]
        if role == last:
            merged[-1]["content"] += content
            continue
        if role == "user":
            if not content:
                continue
        elif not merged and not any(block["type"] == COMPACTION for block in content):
            continue
        merged.append(message)
        last = role
    return merged


def _texts(parts: Iterable[Part]) -> Iterator[JsonObject]:
    """Yield the text blocks of some parts; the API refuses blank ones.

    Raises:
        ProviderError: `bad_request`, for an image or a file.
    """
    for part in parts:
        if isinstance(part, (ImagePart, FilePart)):
            raise cannot_send(part)
        if isinstance(part, TextPart) and part.text.strip():
            yield {"type": "text", "text": part.text}


def _blocks(request: ModelRequest, parts: Iterable[Part]) -> Iterator[JsonObject]:
    """Yield the blocks of a user's message or of a tool's result: texts, images and PDF.

    Raises:
        ProviderError: `bad_request`, for a file of another kind.
    """
    for part in parts:
        if isinstance(part, ImagePart) or (isinstance(part, FilePart) and part.media_type == PDF):
            source = {"type": "base64", "media_type": part.media_type, "data": base64_content(request, part)}
            named = {"title": part.name} if isinstance(part, FilePart) and part.name else {}
            yield {"type": "image" if isinstance(part, ImagePart) else "document", "source": source, **named}
        else:
            yield from _texts([part])


def _answer(parts: Sequence[Part], names: ToolNames, own: OwnBlocks, ids: WireIds) -> Iterator[JsonObject]:
    """Yield the blocks of an answer in the order in which they came, with what only this API understands unchanged."""
    for part in parts:
        block = own.of(part.provider_data) if part.provider_data is not None else None
        if block is not None:
            yield block
        elif isinstance(part, ToolCallPart):
            call = {"id": ids.of_call(part), "name": names.to_wire(part.name), "input": sent_arguments(part)}
            yield {"type": "tool_use", **call}
        else:
            yield from _texts([part])


def _result(request: ModelRequest, part: ToolResultPart, ids: WireIds) -> JsonObject:
    content = list(_blocks(request, part.parts)) or [{"type": "text", "text": EMPTY_RESULT}]
    result: JsonObject = {"type": "tool_result", "tool_use_id": ids.of_result(part.id), "content": content}
    if part.is_error:
        result["is_error"] = True
    return result


class OwnBlocks(FrozenStruct):
    """Gives back the blocks that this API is to have back: thinking, and whatever else has no neutral form.

    They go to the server and model that made them alone: no other can read what is signed or encrypted. Behind another
    system prompt or other tools they stay here, because newer models refuse the whole request for them; a compaction
    does not depend on these.
    """

    origin: Origin
    prefix: str

    def of(self, data: ProviderData | None) -> JsonObject | None:
        """Return the block that was stored with a part, None where there is none that goes back."""
        payload = self.origin.own(data) or self._of_the_first_version(data) or {}
        block = payload.get(BLOCK)
        if not isinstance(block, dict):
            return None
        is_valid = payload.get(PREFIX) == self.prefix or block.get("type") == COMPACTION
        return dict(block) if is_valid else None

    def _of_the_first_version(self, data: ProviderData | None) -> JsonObject | None:
        """Return what version 0.1 stored, which named no server: taken to be of Anthropic's own."""
        if data is None or self.origin.server != ANTHROPIC_URL or not isinstance(data.payload, dict):
            return None
        here = (self.origin.provider, self.origin.api, self.origin.model)
        return data.payload if "server" not in data.payload and (data.provider, data.api, data.model) == here else None


def _mark(tools: list[JsonObject], system: list[JsonObject], messages: list[JsonObject], ttl: str) -> None:
    """Mark where the prompt is cached: behind the tools and the system prompt, and behind the last two user messages.

    The last mark writes what the next turn reads. The one before it is where the last request wrote, so that it is
    found also where more than 20 blocks came since; further back the API does not look
    (https://platform.claude.com/docs/en/build-with-claude/prompt-caching). That is three marks of the four allowed.
    """
    mark, stable = CACHE_MARKS[ttl], system or tools
    if stable:
        stable[-1]["cache_control"] = mark
    asked = (message for message in reversed(messages) if message["role"] == "user")
    for message in islice(asked, MARKED_MESSAGES):
        message["content"][-1]["cache_control"] = mark
