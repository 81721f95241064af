"""The script of the model server: what it says to each request, and what goes wrong.

In Python a script is a list of `Step`; in a file it is a JSON array of objects with the same fields.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Fault(StrEnum):
    """What goes wrong in a step; `Step.fault_after` says after how many deltas."""

    NO_RESPONSE = "no_response"
    """The connection is closed before any header is sent."""
    RESET_BEFORE_HEADERS = "reset_before_headers"
    """The connection is reset (RST) before any header is sent."""
    CUT = "cut"
    """The connection is closed between two events, without the end of the chunked body."""
    CUT_MID_LINE = "cut_mid_line"
    """The connection is closed in the middle of a line."""
    RESET = "reset"
    """The connection is reset (RST)."""
    END = "end"
    """The body ends properly, but neither a finish reason nor an end event is sent."""
    NO_DONE = "no_done"
    """Everything is sent but `data: [DONE]` (Chat Completions) or `message_stop` (Messages)."""
    MALFORMED = "malformed"
    """A line that is not JSON is sent, then the answer continues."""
    INVALID_UTF8 = "invalid_utf8"
    """A line with bytes that are not UTF-8 is sent, then the answer continues, each U+FFFD in it as such a byte."""
    ERROR_EVENT = "error_event"
    """An error is sent as an event of the stream (`Step.body`, if given), then the body ends."""
    FAILED = "failed"
    """The Responses API's `response.failed` with `Step.body` as its `error`; an error event in the others."""
    HANG_BEFORE_HEADERS = "hang_before_headers"
    """Nothing is sent until `ModelServer.release()`."""
    HANG = "hang"
    """The stream stalls until `ModelServer.release()`, then continues."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedCall:
    """A tool call that the model makes; `arguments` is sent in `pieces` deltas, text as it is."""

    name: str
    arguments: str | Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    pieces: int = 2

    @property
    def arguments_text(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments, ensure_ascii=False)

    def argument_deltas(self) -> list[str]:
        """Return the text of the arguments, cut into at most `pieces` pieces."""
        text = self.arguments_text
        size = max(1, -(-len(text) // self.pieces))
        return [text[start : start + size] for start in range(0, len(text), size)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedUsage:
    """The token counts that the server reports; `input_tokens` includes the cached ones.

    `written_tokens` were written to a cache, `written_1h_tokens` of them to one that lasts an hour. Chat Completions
    reports neither, and the Messages API alone the second (both since 0.2).
    """

    input_tokens: int = 12
    output_tokens: int = 7
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    written_tokens: int = 0
    written_1h_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The answer to one request. The defaults echo: "reply 1: <the last user message>".

    Args:
        text: the deltas of the answer (one text is one delta), said `repeat` times.
        echo: what is said where there is no text, reasoning or tool call: `{n}` is the number of the request,
            `{message}` the text of the last user message.
        reasoning: the deltas of the reasoning that comes before the text.
        tool_calls: the calls that come after the text.
        finish_reason: in the words of Chat Completions (`length` and `content_filter` make the Responses API's answer
            `incomplete`, and become `max_tokens` and `refusal` in the Messages API); where empty, `tool_calls` or
            `stop`, as it fits.
        usage: the token counts, or None to send none.
        compaction: what the server has made of the conversation so far: it comes before all else of the answer, as its
            APIs have it (Responses and Messages). Since: 0.2.
        compaction_usage: what it took, which the Messages API counts apart. Since: 0.2.
        cleared_tool_uses, cleared_tokens: how many results of tools the server says it has cleared, and their size
            (Messages). Since: 0.2.
        status, headers, body: an HTTP answer without a stream where `status` is not 200, or `body` is a text. A mapping
            is sent as JSON, a text as it is (HTML where it starts with `<`), None as an empty body.
        delay_headers, delay_first, delay_between: seconds before the headers, the first delta, each further delta.
        fault, fault_after: what goes wrong, and after how many deltas.
        fault_waits: have what goes wrong in the stream wait for `ModelServer.release()`. A reset takes along what the
            client has not read yet; with this it can show that first.
        events_per_write: how many events go into one write (and one chunk of the body); 0 packs them to 64 KB, or one
            each where `delay_between` is set.
        bytes_per_write: cuts the stream into writes of so many bytes, through lines and characters alike.
        crlf: end the lines with CRLF.
        comments: send comment lines (keep-alives) between the events.
    """

    text: str | Sequence[str] = ()
    repeat: int = 1
    echo: str = "reply {n}: {message}"
    reasoning: str | Sequence[str] = ()
    tool_calls: Sequence[ScriptedCall] = ()
    finish_reason: str = ""
    usage: ScriptedUsage | None = ScriptedUsage()
    compaction: str = ""
    compaction_usage: ScriptedUsage | None = None
    cleared_tool_uses: int = 0
    cleared_tokens: int = 0
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | str | None = None
    delay_headers: float = 0.0
    delay_first: float = 0.0
    delay_between: float = 0.0
    fault: Fault | None = None
    fault_after: int = 0
    fault_waits: bool = False
    events_per_write: int = 0
    bytes_per_write: int = 0
    crlf: bool = False
    comments: bool = False

    def text_deltas(self, n: int, message: str) -> list[str]:
        """Return the deltas of the answer to request `n` whose last user message is `message`."""
        if not self.text and not self.reasoning and not self.tool_calls:
            said = self.echo.replace("{n}", str(n)).replace("{message}", message)
            return [piece for piece in _words(said) if piece]
        return ([self.text] if isinstance(self.text, str) else list(self.text)) * self.repeat

    def reasoning_deltas(self) -> list[str]:
        if isinstance(self.reasoning, str):
            return [self.reasoning] if self.reasoning else []
        return list(self.reasoning)

    def finish(self) -> str:
        """Return the finish reason in the words of Chat Completions."""
        return self.finish_reason or ("tool_calls" if self.tool_calls else "stop")


def steps_from_json(text: str) -> list[Step]:
    """Return the steps of a script file.

    Raises:
        ValueError: if it is no JSON array of steps, or a step has an unknown field.
    """
    value = json.loads(text)
    if not isinstance(value, list) or not value:
        raise ValueError("a script is a JSON array of at least one step")
    return [_step_from_json(item) for item in value]


def _step_from_json(value: Any) -> Step:
    names = {item.name for item in dataclasses.fields(Step)}
    if not isinstance(value, dict) or not names.issuperset(value):
        raise ValueError(f"not a step: {value!r}; its fields are {', '.join(sorted(names))}")
    fields = dict(value)
    if "tool_calls" in fields:
        fields["tool_calls"] = [ScriptedCall(**call) for call in fields["tool_calls"]]
    for name in ("usage", "compaction_usage"):
        if isinstance(fields.get(name), dict):
            fields[name] = ScriptedUsage(**fields[name])
    if fields.get("fault") is not None:
        fields["fault"] = Fault(fields["fault"])
    return Step(**fields)


def _words(text: str) -> list[str]:
    """Cut `text` before each space, so that the pieces join to the same text."""
    head, *rest = text.split(" ")
    return [head, *(f" {word}" for word in rest)]
