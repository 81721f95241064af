"""The form of Chat Completions, which more servers and libraries than OpenAI's take and give.

https://developers.openai.com/api/reference/resources/chat/subresources/completions/methods/create

Each kind of server speaks it a little differently; the code that reads a form says which servers use it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from afkcli.core.contract.errors import ErrorKind, ProviderError
from afkcli.core.contract.jsonform import Json, JsonObject, clean_text
from afkcli.core.contract.messages import (
    FilePart,
    FinishReason,
    ImagePart,
    Message,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    ModelWarning,
    Part,
    ProviderData,
    ReasoningDelta,
    ReasoningPart,
    Role,
    TextDelta,
    TextPart,
    ToolResultPart,
    ToolSpec,
)
from afkcli.core.contract.result import Usage
from afkcli.providers.attached import data_url
from afkcli.providers.named_message import NamedMessage, index_in_request
from afkcli.providers.origin import Origin
from afkcli.providers.parts import (
    EMPTY_ANSWER,
    FILE_NAME,
    arguments_text,
    refuse_other_files,
    result_text,
    text_of,
    user_content,
)
from afkcli.providers.think_tags import ThinkTags
from afkcli.providers.tool_call_pieces import ToolCallPieces
from afkcli.providers.tool_names import ToolNames
from afkcli.providers.wire import TextPieces, TokenCounts, index_of
from afkcli.providers.wire_ids import WireIds

OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "stop": "stop",
    "seed": "seed",
    "reasoning_effort": "reasoning_effort",
}
"""The portable options and the fields that they are sent in; the limit of the answer has more than one name."""

_REASONING_FIELDS = ("reasoning_content", "reasoning")
_MESSAGE_FIELDS = frozenset({"role", "content", "name", "tool_calls", "tool_call_id", "refusal", "thinking_blocks"})
_CALL_FIELDS = frozenset({"id", "type", "function"})
_FUNCTION_FIELDS = frozenset({"name", "arguments"})

_WORDS: Mapping[FinishReason, str] = {
    FinishReason.STOP: "stop stop_sequence end_turn eos eos_token complete completed",
    FinishReason.LENGTH: "length max_tokens max_output_tokens model_length model_context_window_exceeded",
    FinishReason.TOOL_CALLS: "tool_calls tool_call tool_use function_call",
    FinishReason.CONTENT_FILTER: """
        content_filter refusal safety recitation blocklist prohibited_content spii sensitive
    """,
}
_FINISH = {word: reason for reason, words in _WORDS.items() for word in words.split()}
_BROKE = frozenset(
    {
        "error",
        "network_error",
        "abort",
        "aborted",
        "cancelled",
        "timeout",
        "overloaded",
        "insufficient_system_resource",
        "malformed_function_call",
    }
)
"""Finish reasons that say that the server failed; the same request may succeed."""


def chat_messages(
    request: ModelRequest, names: ToolNames, origin: Origin, ids: WireIds | None = None
) -> Iterator[JsonObject]:
    """Yield the messages of a request.

    Args:
        request: the request.
        names: its tool names.
        origin: the model and server that are asked: what they alone understand goes back to them.
        ids: the ids of calls, by default of the general form.

    Raises:
        ProviderError: `bad_request`, if one holds a file that is no PDF.
    """
    yield from in_turns(_messages(request, names, origin, ids or wire_ids(origin)))


def in_turns(messages: Iterator[JsonObject]) -> Iterator[JsonObject]:
    """Yield the messages of a request with neighbouring ones of the user joined: chat templates refuse two in a row.

    There are two where the question before was not answered.

    Since: 0.2.
    """
    question: JsonObject | None = None
    for message in messages:
        if question is not None and message["role"] == Role.USER:
            question = {**question, "content": _joined_content(question["content"], message["content"])}
            continue
        if question is not None:
            yield question
        question = message if message["role"] == Role.USER else None
        if question is None:
            yield message
    if question is not None:
        yield question


def _joined_content(first: str | list[JsonObject], second: str | list[JsonObject]) -> str | list[JsonObject]:
    if isinstance(first, str) and isinstance(second, str):
        return "\n\n".join(text for text in (first, second) if text.strip())
    return [*_as_parts(first), *_as_parts(second)]


def _as_parts(content: str | list[JsonObject]) -> list[JsonObject]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _messages(request: ModelRequest, names: ToolNames, origin: Origin, ids: WireIds) -> Iterator[JsonObject]:
    for message in request.messages:
        if message.role is Role.TOOL:
            for part in message.parts:
                if isinstance(part, ToolResultPart):
                    yield {"role": "tool", "tool_call_id": ids.of_result(part.id), "content": result_text(part)}
        elif message.role is Role.ASSISTANT:
            yield _assistant_message(message, names, origin, ids)
        else:
            yield {"role": message.role.value, "content": user_content(request, message, _part)}


def chat_message_at(request: ModelRequest, names: ToolNames, origin: Origin, named: NamedMessage) -> int | None:
    """Return which message of `request` a server named, as `ProviderError.message_index` counts them; None if unsure.

    Google counts in its own form, which has no instructions among its `contents` and the results of a step in one.

    Since: 0.2.
    """
    if "messages" in request.extra:
        return None
    if named.field == "contents":
        sizes = [int(message.role is not Role.SYSTEM) for message in request.messages]
        return index_in_request(request.messages, _joined_sizes(request, sizes), named.position)
    each = [list(chat_messages(replace(request, messages=[message]), names, origin)) for message in request.messages]
    flat = list(chat_messages(request, names, origin))
    if named.field != "messages" or named.position >= len(flat):
        return None
    content = flat[named.position]["content"]
    if named.part is not None and not (isinstance(content, list) and named.part < len(content)):
        return None  # the path is that of another form, into which a gateway made the request
    return index_in_request(request.messages, _joined_sizes(request, map(len, each)), named.position)


def _joined_sizes(request: ModelRequest, sizes: Iterable[int]) -> list[int]:
    """Return how many messages each becomes where questions in a row are one: all but the first become none."""
    roles = [None, *(message.role for message in request.messages)]
    return [0 if roles[n] is roles[n + 1] is Role.USER else size for n, size in enumerate(sizes)]


def without_opaque(body: JsonObject) -> tuple[JsonObject, list[str]]:
    """Return the body of a request without the fields that only some servers know, and the names of these.

    They are what a server sent beside the API's own fields, and gets back.
    """
    left_out: set[str] = set()

    def plain(value: JsonObject, known: frozenset[str]) -> JsonObject:
        left_out.update(value.keys() - known)
        return {name: item for name, item in value.items() if name in known}

    messages = []
    for sent in body.get("messages", ()):
        message = plain(sent, _MESSAGE_FIELDS)
        if "tool_calls" in message:
            calls = [plain(call, _CALL_FIELDS) for call in message["tool_calls"]]
            message["tool_calls"] = [{**call, "function": plain(call["function"], _FUNCTION_FIELDS)} for call in calls]
        messages.append(message)
    return ({**body, "messages": messages} if left_out else body), sorted(left_out)


def wire_ids(origin: Origin) -> WireIds:
    """Return the ids of a request to `origin`: its own go back as they are."""
    return WireIds(is_own=lambda call: origin.own(call.provider_data) is not None)


def _part(request: ModelRequest, part: Part) -> JsonObject:
    """Return the form of a part of a user's message."""
    if isinstance(part, ImagePart):
        return {"type": "image_url", "image_url": {"url": data_url(request, part)}}
    if isinstance(part, FilePart):
        refuse_other_files(part)
        return {"type": "file", "file": {"filename": part.name or FILE_NAME, "file_data": data_url(request, part)}}
    return {"type": "text", "text": part.text if isinstance(part, TextPart) else ""}


def _assistant_message(message: Message, names: ToolNames, origin: Origin, ids: WireIds) -> JsonObject:
    text = text_of(message)
    calls = []
    for call in message.tool_calls:
        own = (origin.own(call.provider_data) or {}).get("extra")
        extra = dict(own) if isinstance(own, dict) else {}
        signed = extra.pop("function", None)
        function = {"name": names.to_wire(call.name), "arguments": arguments_text(call)}
        function |= signed if isinstance(signed, dict) else {}
        calls.append({**extra, "id": ids.of_call(call), "type": "function", "function": function})
    if not calls:
        return {"role": "assistant", "content": text if text.strip() else EMPTY_ANSWER}
    thought = _thought(message, origin)
    return {"role": "assistant", "content": text or None, **thought, "tool_calls": calls}


def _thought(message: Message, origin: Origin) -> JsonObject:
    """Return the reasoning of a step that called tools, which DeepSeek, Moonshot and OpenRouter want to have back."""
    fields: JsonObject = {}
    for part in message.parts:
        own = origin.own(part.provider_data) if isinstance(part, ReasoningPart) else None
        if own is not None and isinstance(part, ReasoningPart):
            if isinstance(own.get("field"), str):
                fields[own["field"]] = fields.get(own["field"], "") + part.text
            if isinstance(own.get("details"), list):
                fields["reasoning_details"] = [*fields.get("reasoning_details", ()), *own["details"]]
    return fields


def chat_tool(tool: ToolSpec, names: ToolNames) -> JsonObject:
    """Return a tool as it is offered."""
    function = {"name": names.to_wire(tool.name), "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


_ABOUT_TEXT = frozenset({"id", "object", "created", "model", "choices", "system_fingerprint", "service_tier"})
_CHOICE_OF_TEXT = frozenset({"index", "delta", "finish_reason", "logprobs"})


class _Choice:
    """One choice of an answer while it comes in."""

    def __init__(self, calls: ToolCallPieces, *, think_tags: bool) -> None:
        self.calls = calls
        self.tags = ThinkTags(active=think_tags)
        self.said: list[str] = []
        self.pieces = TextPieces()
        self.reasoning_pieces = TextPieces()
        self.later: list[str] = []
        self.reason = ""


class ChatAnswer:
    """One answer, made of its chunks.

    `finished` says that the model's finish reason was seen, which is the end of the answer. `close` has to be called
    once nothing more comes, then `response`.

    Args:
        names: the request's tool names.
        server: how messages call the server.
        origin: where the answer comes from.
        taken: ids of calls that the conversation has already.
        think_tags: whether reasoning is looked for at the start of the text.
    """

    def __init__(
        self,
        names: ToolNames,
        server: str,
        origin: Origin | None = None,
        *,
        taken: Collection[str] = (),
        think_tags: bool = True,
    ) -> None:
        self._names = names
        self._server = server
        self._origin = origin
        self._taken = taken
        self._think_tags = think_tags
        self._answered_by: str | None = None
        self._choices: dict[int, _Choice] = {}
        self._speaker: _Choice | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._field: str | None = None
        self._blank_field: str | None = None
        self._details: list[JsonObject] = []
        self._usage: Usage | None = None

    @property
    def finished(self) -> bool:
        return any(choice.reason for choice in self._choices.values())

    @property
    def is_whole(self) -> bool:
        """Whether it ended as a success, so that what comes after it changes nothing."""
        return any(_finish(choice.reason) is not None for choice in self._choices.values())

    def chunk(self, chunk: JsonObject) -> Iterator[ModelEvent]:
        """Yield the model events of a chunk, or of a whole answer in the form of the API without streaming."""
        plain = self._plain_text(chunk)
        if plain is not None:
            if plain:
                yield TextDelta(plain)
            return
        choices = chunk.get("choices")
        for n, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                yield from self._take(choice, n)
        for usage in _usages(chunk):
            self._usage = usage_from(usage)
        if self._answered_by is None and isinstance(chunk.get("model"), str):
            self._answered_by = chunk["model"]

    def _plain_text(self, chunk: JsonObject) -> str | None:
        """Return the text of a chunk that continues the text and has nothing else; None for any other chunk.

        Nearly all chunks of a long answer are of this kind. The search for everything else in each of them made the
        stream a quarter slower (`python -m benchmarks versions`).
        """
        state, choices = self._speaker, chunk.get("choices")
        if state is None or not isinstance(choices, list) or len(choices) != 1 or not state.tags.is_idle:
            return None
        if not _ABOUT_TEXT.issuperset(chunk) and not all(chunk[name] is None for name in chunk.keys() - _ABOUT_TEXT):
            return None
        choice = choices[0]
        if self._answered_by is None or not isinstance(choice, dict) or not _CHOICE_OF_TEXT.issuperset(choice):
            return None
        delta, index = choice.get("delta"), choice.get("index")
        if choice.get("finish_reason") or type(index) is not int or self._choices.get(index) is not state:
            return None
        if not isinstance(delta, dict) or len(delta) != 1 or not isinstance(delta.get("content"), str):
            return None
        text = state.pieces.take(delta["content"])
        if text:
            state.said.append(text)
            self._text.append(text)
        return text

    def close(self) -> Iterator[ModelEvent]:
        """Yield what was held back until now.

        Raises:
            ProviderError: the answer ended as one that failed: `truncated`, or `overloaded` where nothing came.
        """
        for choice in self._choices.values():
            yield from self._shown(choice.tags.stop(), choice)
            yield from self._show(choice.pieces.rest(), choice)
            yield from self._unclosed(choice)
        for choice in self._choices.values():
            if choice.later:
                choice.later.insert(0, "\n\n")
                yield from self._shown("".join(choice.later), choice)
        self._check_reasons()

    def _unclosed(self, choice: _Choice) -> Iterator[ModelEvent]:
        """Yield as text what began with the tag of reasoning and never ended it: it was the answer."""
        if choice.tags.is_open and not self._text and _finish(choice.reason) is FinishReason.STOP:
            text = "".join(choice.said)
            self._reasoning = []
            self._text.append(text)
            yield TextDelta(text)

    def response(self) -> ModelResponse:
        """Return the whole answer; to be called once `finished`, after `close`."""
        parts: list[Part] = []
        calls = [call for choice in self._choices.values() for call in choice.calls.parts()]
        if self._reasoning or self._details or (calls and self._blank_field):
            parts.append(ReasoningPart(text="".join(self._reasoning), provider_data=self._kept() if calls else None))
        if self._text:
            parts.append(TextPart(text="".join(self._text)))
        return ModelResponse(
            message=Message(role=Role.ASSISTANT, parts=(*parts, *calls)),
            finish_reason=self._finish_reason(has_calls=bool(calls)),
            usage=self._usage,
            model=self._answered_by,
        )

    def _kept(self) -> ProviderData | None:
        """Return what the reasoning of a step with calls is stored with, so that it can go back."""
        field = self._field or self._blank_field
        if self._origin is None or not (field or self._details):
            return None
        details: JsonObject = {"details": self._details} if self._details else {}
        return self._origin.data(**({"field": field} if field else {}), **details)

    def _finish_reason(self, *, has_calls: bool) -> FinishReason:
        reasons = [_finish(choice.reason) for choice in self._choices.values() if choice.reason]
        for reason in (FinishReason.CONTENT_FILTER, FinishReason.LENGTH):
            if reason in reasons:
                return reason
        return FinishReason.TOOL_CALLS if has_calls else FinishReason.STOP  # some servers say `stop` after calls, too

    def _check_reasons(self) -> None:
        """Raise `ProviderError` for an end that is not known to be a success."""
        has_calls = any(len(choice.calls) for choice in self._choices.values())
        answered = bool(self._text or has_calls)
        for reason in [choice.reason for choice in self._choices.values() if choice.reason]:
            known = _finish(reason)
            if known is None or (known is FinishReason.TOOL_CALLS and not has_calls):
                what = f"the answer of {self._server} ended with the finish reason {reason!r}"
                what += " and no tool call" if known is not None else ""
                transient = reason.lower() in _BROKE and not answered
                kind = ErrorKind.OVERLOADED if transient else ErrorKind.TRUNCATED
                step = "try again later" if transient else "ask it to go on"
                raise ProviderError(f"{what}; {step}", kind=kind)

    def _take(self, choice: JsonObject, n: int) -> Iterator[ModelEvent]:
        number = index_of(choice.get("index"))
        state = self._choice(n if number is None else number)
        delta, message = choice.get("delta"), choice.get("message")
        if isinstance(delta, dict) and delta:
            yield from self._delta(delta, state)
        if isinstance(message, dict):
            yield from self._message(message, state)
        elif isinstance(choice.get("text"), str):
            yield from self._show(state.pieces.take(choice["text"]), state)
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            state.reason = clean_text(reason)

    def _choice(self, number: int) -> _Choice:
        if number not in self._choices:
            calls = ToolCallPieces(self._names, self._taken, self._origin)
            self._choices[number] = _Choice(calls, think_tags=self._think_tags)
        return self._choices[number]

    def _message(self, message: JsonObject, state: _Choice) -> Iterator[ModelEvent]:
        """Yield what a whole message has that its deltas had not."""
        said, has_calls = "".join(state.said), len(state.calls) > 0
        text = clean_text(_joined(message.get("content") or message.get("refusal")))
        if not said:
            yield from self._delta({name: value for name, value in message.items() if name != "tool_calls"}, state)
        elif text.startswith(said):
            yield from self._show(text[len(said) :], state)
        elif text:
            yield ModelWarning(
                "answer_differs", f"the last message of {self._server} differs from what it streamed, which is kept"
            )
        if not has_calls and message.get("tool_calls"):
            yield from state.calls.take(message["tool_calls"])

    def _delta(self, delta: JsonObject, state: _Choice) -> Iterator[ModelEvent]:
        plain = delta.get("content")
        if isinstance(plain, str) and len(delta) == 1 + ("role" in delta):  # most deltas have nothing else to look for
            if plain:
                yield from self._show(state.pieces.take(plain), state)
            return
        yield from self._think(delta, state)
        content = _joined(delta.get("content")) or _joined(delta.get("refusal"))
        if content:
            yield from self._show(state.pieces.take(content), state)
        calls = delta.get("tool_calls")
        if calls:
            yield from state.calls.take(calls)
        elif isinstance(delta.get("function_call"), dict):  # the API's older form, of one call
            yield from state.calls.take([{"index": 0, "function": delta["function_call"]}])

    def _think(self, delta: JsonObject, state: _Choice) -> Iterator[ModelEvent]:
        name = next((name for name in _REASONING_FIELDS if _is_text(delta.get(name))), None)
        thought = delta[name] if name is not None else _thinking_in(delta.get("content"))
        if name is not None:
            self._field = self._field or name
        elif self._blank_field is None:  # DeepSeek wants it back with calls even where the model did not think
            self._blank_field = next((name for name in _REASONING_FIELDS if delta.get(name) == ""), None)
        details = delta.get("reasoning_details")
        for piece in details if isinstance(details, list) else ():
            if isinstance(piece, dict):
                _add_detail(self._details, piece)
                thought = thought or _is_text(piece.get("text")) or _is_text(piece.get("summary"))
        if thought:
            yield from self._shown(state.tags.stop(), state)
            thought = state.reasoning_pieces.take(thought)
            self._reasoning.append(thought)
            yield ReasoningDelta(thought)

    def _show(self, text: str, state: _Choice) -> Iterator[ModelEvent]:
        """Yield text as what it is; that of a second choice waits until the first one has ended."""
        if not text:
            return
        state.said.append(text)
        self._speaker = self._speaker or state
        if self._speaker is state:
            yield from self._shown(text, state)
        else:
            state.later.append(text)

    def _shown(self, text: str, state: _Choice) -> Iterator[ModelEvent]:
        for event in state.tags.take(text):
            (self._text if isinstance(event, TextDelta) else self._reasoning).append(event.text)
            yield event


def _finish(reason: str) -> FinishReason | None:
    return _FINISH.get(reason.lower())


def _is_text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _add_detail(details: list[JsonObject], piece: JsonObject) -> None:
    """Add a piece of OpenRouter's `reasoning_details`: text of the same block is joined, other things come whole."""
    last = details[-1] if details else None
    joined = ("text", "summary", "data")
    if last is None or any(last.get(name) != piece.get(name) for name in ("type", "index")):
        details.append(dict(piece))
        return
    for name, value in piece.items():
        if name in joined and isinstance(value, str) and isinstance(last.get(name), str):
            last[name] += value
        elif value is not None:
            last[name] = value


def usage_from(usage: Mapping[str, Json]) -> Usage:
    """Return the usage of Chat Completions, whose `prompt_tokens` include the cached ones.

    DeepSeek and Moonshot tell the cached ones elsewhere. xAI's `completion_tokens` leave out those of the reasoning,
    which its total has.
    """
    counts = TokenCounts(usage)
    sent = counts.read("input_tokens", "prompt_tokens", "input_tokens")
    said = counts.read("output_tokens", "completion_tokens", "output_tokens")
    total = counts.read("total_tokens", "total_tokens")
    cached = counts.read("cache_read_input_tokens", *_CACHED)
    written = counts.read(
        "cache_creation_input_tokens", "prompt_tokens_details.cache_write_tokens", "cache_creation_input_tokens"
    )
    reasoning = counts.read("reasoning_output_tokens", "completion_tokens_details.reasoning_tokens", "reasoning_tokens")
    if sent is None and (missed := counts.read("input_tokens", "prompt_cache_miss_tokens")) is not None:
        sent = missed + (cached or 0)
    if reasoning and None not in (sent, said, total) and total == (sent or 0) + (said or 0) + reasoning:
        said = (said or 0) + reasoning
    return counts.usage(
        sent=sent, said=said, total=total, cache_read=cached, cache_written=written, reasoning=reasoning
    )


_CACHED = (
    "prompt_tokens_details.cached_tokens",
    "prompt_cache_hit_tokens",
    "cached_tokens",
    "input_tokens_details.cached_tokens",
    "cache_read_input_tokens",
)


def _usages(chunk: JsonObject) -> Iterator[Mapping[str, Json]]:
    """Yield the usage objects of a chunk: its own, those of its choices (Moonshot) and that of `x_groq`."""
    choices = chunk.get("choices")
    for place in (chunk, chunk.get("x_groq"), *(choices if isinstance(choices, list) else ())):
        usage = place.get("usage") if isinstance(place, dict) else None
        if isinstance(usage, dict) and any(value is not None for value in usage.values()):
            yield usage


def _joined(content: Json) -> str:
    """Return the text of a content, which some servers send as a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        return "" if content.get("type") in _THINKING else _joined(content.get("text") or content.get("value"))
    return "".join(map(_joined, content)) if isinstance(content, list) else ""


_THINKING = ("thinking", "reasoning")


def _thinking_in(content: Json) -> str:
    """Return the reasoning in a content that comes as a list of parts, as Mistral's does."""
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    thoughts = (part.get("thinking") or part.get("text") for part in parts if part.get("type") in _THINKING)
    return "".join(map(_joined, thoughts))
