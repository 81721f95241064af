"""The answer of Chat Completions, made of its chunks: text, reasoning, tool calls, usage.

Each kind of server speaks it a little differently; the code that reads a form says which servers use it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from afkcli.core.contract.errors import ErrorKind, ProviderError
from afkcli.core.contract.jsonform import Json, JsonObject, clean_text
from afkcli.core.contract.messages import (
    FinishReason,
    Message,
    ModelEvent,
    ModelResponse,
    ModelWarning,
    OpaqueDelta,
    Part,
    ReasoningDelta,
    ReasoningPart,
    Role,
    TextDelta,
    TextPart,
)
from afkcli.core.contract.result import Usage
from afkcli.providers.chat_reasoning import ReasoningPieces, is_thought, joined_content
from afkcli.providers.chat_usage import usage_from, usages_of
from afkcli.providers.error_signs import is_error
from afkcli.providers.origin import Origin
from afkcli.providers.think_tags import ThinkTags, has_lone_end
from afkcli.providers.tool_call_pieces import ToolCallPieces
from afkcli.providers.tool_names import ToolNames
from afkcli.providers.wire import TextPieces, index_of, word_of

MAX_CHOICES = 128
"""Of one answer, which is as many as the API gives."""

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

_NO_REASON = frozenset({"null", "none"})
"""What some servers write as text in the chunks before the last one, where the API has null."""

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

    `finished` says that the model's finish reason was seen, which is the end of the answer, unless `goes_on` says that
    a piece of the answer came behind it. `close` has to be called once nothing more comes, then `response`. `unshown`
    counts the pieces that no event shows.

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
        self._kept = ReasoningPieces()
        self._later = 0
        self._counted = 0
        self._usage: Usage | None = None
        self.finished = False
        self.goes_on = False

    @property
    def unshown(self) -> int:
        return self._kept.unshown + self._later + sum(choice.calls.unshown for choice in self._choices.values())

    @property
    def is_whole(self) -> bool:
        """Whether it ended as a success, so that what comes after it changes nothing."""
        return any(_finish(choice.reason) is not None for choice in self._choices.values())

    def chunk(self, chunk: JsonObject) -> Iterator[ModelEvent]:
        """Yield the model events of a chunk, or of a whole answer in the form of the API without streaming."""
        plain = self.plain_text(chunk)
        if plain is not None:
            if plain:
                yield TextDelta(plain)
            return
        choices = chunk.get("choices")
        for n, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                yield from self._take(choice, n)
        for usage in usages_of(chunk):
            self._usage = usage_from(usage)
        if self._answered_by is None and isinstance(chunk.get("model"), str):
            self._answered_by = chunk["model"]

    def plain_text(self, chunk: JsonObject) -> str | None:
        """Take a chunk that continues the text and has nothing else, and return the text; None for any other chunk.

        Nearly all chunks of a long answer are of this kind. The search for everything else in each of them made the
        stream a quarter slower (`python -m benchmarks versions`).
        """
        state, choices = self._speaker, chunk.get("choices")
        if state is None or not isinstance(choices, list) or len(choices) != 1 or not state.tags.is_idle:
            return None
        for name in chunk:
            if name not in _ABOUT_TEXT and chunk[name] is not None:
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
            if self.finished:
                self._note(text)
        return text

    def close(self) -> Iterator[ModelEvent]:
        """Yield what was held back until now.

        Raises:
            ProviderError: the answer ended as one that failed: `truncated`, or `overloaded` where nothing came.
        """
        for choice in self._choices.values():
            yield from self._sorted(choice.tags.stop())
            yield from self._show(choice.pieces.rest(), choice)
            yield from self._unclosed(choice)
        for choice in self._choices.values():
            if choice.later:
                choice.later.insert(0, "\n\n")
                yield from self._sorted(choice.tags.take("".join(choice.later)))
        self._check_reasons()
        text = "".join(self._text)
        self._text = [text] if text else []
        if self._think_tags and not self._reasoning and has_lone_end(text):
            yield ModelWarning(
                "reasoning_in_text",
                f"the answer of {self._server} has reasoning in its text: a tag ends it, and no tag begins it; let the "
                "server separate it (by its chat template, or a parser of reasoning)",
            )

    def _unclosed(self, choice: _Choice) -> Iterator[ModelEvent]:
        """Yield as text what began with the tag of reasoning and never ended it: it was the answer."""
        if choice.tags.is_unclosed and not self._text and _finish(choice.reason) is FinishReason.STOP:
            text = "".join(choice.said)
            self._reasoning = []
            self._text.append(text)
            yield TextDelta(text)

    def response(self) -> ModelResponse:
        """Return the whole answer; to be called once `finished`, after `close`."""
        parts: list[Part] = []
        calls = [call for choice in self._choices.values() for call in choice.calls.parts()]
        kept = self._kept.data(self._origin) if calls and self._origin is not None else None
        if self._reasoning or kept is not None:
            parts.append(ReasoningPart(text="".join(self._reasoning), provider_data=kept))
        if self._text:
            parts.append(TextPart(text="".join(self._text)))
        return ModelResponse(
            message=Message(role=Role.ASSISTANT, parts=(*parts, *calls)),
            finish_reason=self._finish_reason(has_calls=bool(calls)),
            usage=self._usage,
            model=self._answered_by,
        )

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
        yield from self._opaque()
        reason = word_of(choice.get("finish_reason"))
        if reason and reason.lower() not in _NO_REASON:
            state.reason, self.finished = reason, True

    def _choice(self, number: int) -> _Choice:
        if number not in self._choices:
            if len(self._choices) >= MAX_CHOICES:
                raise ValueError(f"more than {MAX_CHOICES} choices")
            calls = ToolCallPieces(self._names, self._taken, self._origin)
            self._choices[number] = _Choice(calls, think_tags=self._think_tags)
        return self._choices[number]

    def _message(self, message: JsonObject, state: _Choice) -> Iterator[ModelEvent]:
        """Yield what a whole message has that its deltas had not."""
        said, has_calls = "".join(state.said), len(state.calls) > 0
        text = clean_text(joined_content(message.get("content") or message.get("refusal")))
        if not said:
            without_calls = {name: value for name, value in message.items() if name != "tool_calls"}
            yield from self._delta(without_calls, state, is_whole=True)
        elif text.startswith(said):
            yield from self._show(text[len(said) :], state)
        elif text:
            yield ModelWarning(
                "answer_differs", f"the last message of {self._server} differs from what it streamed, which is kept"
            )
        if not has_calls and message.get("tool_calls"):
            yield from state.calls.take(message["tool_calls"])

    def _opaque(self) -> Iterator[OpaqueDelta]:
        """Yield by how much that grew what is kept for the server and not shown."""
        kept = self._kept.kept + sum(choice.calls.kept for choice in self._choices.values())
        if kept > self._counted:
            yield OpaqueDelta(kept - self._counted)
            self._counted = kept

    def _delta(self, delta: JsonObject, state: _Choice, *, is_whole: bool = False) -> Iterator[ModelEvent]:
        plain = delta.get("content")
        if isinstance(plain, str) and len(delta) == 1 + ("role" in delta):  # most deltas have nothing else to look for
            if plain:
                yield from self._show(state.pieces.take(plain), state)
            return
        yield from self._think(self._kept.take(delta, is_whole=is_whole), state)
        content = joined_content(delta.get("content")) or joined_content(delta.get("refusal"))
        if content:
            yield from self._show(state.pieces.take(content), state, marked=is_thought(delta))
        calls = delta.get("tool_calls")
        if calls:
            self._note("call")
            yield from state.calls.take(calls)
        elif isinstance(delta.get("function_call"), dict):  # the API's older form, of one call
            yield from state.calls.take([{"index": 0, "function": delta["function_call"]}])

    def _think(self, thought: str, state: _Choice) -> Iterator[ModelEvent]:
        if thought:
            self._note(thought)
            yield from self._sorted(state.tags.stop())
            thought = state.reasoning_pieces.take(thought)
            self._reasoning.append(thought)
            yield ReasoningDelta(thought)

    def _show(self, text: str, state: _Choice, *, marked: bool = False) -> Iterator[ModelEvent]:
        """Yield text as what it is; that of a second choice waits until the first one has ended."""
        if not text:
            return
        state.said.append(text)
        self._note(text)
        self._speaker = self._speaker or state
        if self._speaker is state:
            yield from self._sorted(state.tags.take(text, marked=marked))
        else:
            state.later.append(text)
            self._later += bool(text.strip())

    def _note(self, piece: str) -> None:
        """Note that a piece of the answer came, maybe behind a finish reason; what is blank there is no piece."""
        self.goes_on = self.goes_on or (self.finished and not piece.isspace())

    def _sorted(self, events: Iterable[TextDelta | ReasoningDelta]) -> Iterator[ModelEvent]:
        for event in events:
            (self._text if isinstance(event, TextDelta) else self._reasoning).append(event.text)
            yield event


def _finish(reason: str) -> FinishReason | None:
    return _FINISH.get(reason.lower())


def error_in(chunk: JsonObject) -> Json:
    """Return the error that a chunk tells of, beside its choices, in place of them or in one of them (OpenRouter).

    Since: 0.2.
    """
    choices = chunk.get("choices")
    if chunk.get("error") or (not choices and is_error(chunk)):
        return chunk
    failed = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    return next(({"error": choice["error"]} for choice in failed if choice.get("error")), None)
