"""The events of a run and their JSON form, version 1.

A run is one ordered stream of these. What is shown, what is logged and what is remembered are read from it.
Types and fields are added within version 1, never changed or removed; readers ignore what they do not know.

To add a type, add a class with its `type` to `Event`, emit it, and show it in `TextRenderer` (mypy asks for it). The
JSON form, the schema and the lines of `afk events` are derived from the class; such a line shows the fields in `brief`.
A field that is added to a released type has a default, and is named in `ADDED` of `event_schema.py`.
`tests/docs/test_reference.py` compares the classes with docs/reference/events.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, TypeAlias, get_args

from afkcli.core.contract.errors import ErrorKind
from afkcli.core.contract.jsonform import (
    CHANGEABLE,
    LONG,
    MAX_DEPTH,
    UNLIKE,
    JsonObject,
    dumps,
    json_pieces,
    to_plain,
    traits,
)
from afkcli.core.contract.messages import FinishReason, Message, Part
from afkcli.core.contract.result import AgentResult, Usage
from afkcli.core.contract.structs import FrozenStruct, defaults_of, msgspec

VERSION = 1


class Header(FrozenStruct, kw_only=True):
    """What every event carries.

    `run_id` is a UUIDv7, `thread_id` the thread's name, `thread_key` its identity, `turn` the number of the turn in
    the thread, `seq` counts 0, 1, 2 ... within the run without gaps, `ts` is UTC in RFC 3339 with milliseconds,
    `step` the number of the model call and its tools, from 1 (0 before the first).
    """

    run_id: str
    thread_id: str
    thread_key: str
    turn: int
    seq: int
    ts: str
    step: int


class Attached(FrozenStruct, kw_only=True):
    """What was attached, or an image that a tool returned: `sha256` (hex) of its content, and its `size` in bytes."""

    name: str | None
    media_type: str
    size: int
    sha256: str


class RunStarted(Header, kw_only=True):
    """`message` is the text of the user's message, `attachments` what came with it.

    `replaces` are the numbers of the turns whose question is asked again, and whose place this turn takes (since 0.2).
    """

    agent: str
    model: str
    message: str
    attachments: tuple[Attached, ...] = ()
    resumed: bool = False
    parent_run_id: str | None = None
    replaces: tuple[int, ...] = ()
    brief: ClassVar[tuple[str, ...]] = ("model", "message")
    type: Literal["run_started"] = "run_started"


class ContextEvent(Header, kw_only=True):
    """What the next requests of the run leave out, because the conversation does not fit into the model's window.

    `dropped_through` is the number of the last turn that is left out, and `marked_through` that of the last one whose
    tool results are; None if there is none. `own_results` are results of tools that are left out of the turn itself.
    `compacted_through` is the number of the last turn in whose place a summary, or a compaction of the server, is sent.
    If the run made that summary, `compaction_model`, `compaction_usage` and `compaction_cost_usd` (None: unknown) say
    by what and for how much. `tokens_before` and `tokens_after` are the estimated sizes of the request, `window` that
    of the model. `message` says it in words. With `by_server` the server did it by itself, and says so with its answer;
    `window` is 0 if it is not known. Since: 0.2.
    """

    message: str
    window: int
    tokens_before: int
    tokens_after: int
    dropped_through: int | None = None
    marked_through: int | None = None
    own_results: int = 0
    compacted_through: int | None = None
    compaction_usage: Usage | None = None
    compaction_cost_usd: float | None = None
    compaction_model: str | None = None
    by_server: bool = False
    brief: ClassVar[tuple[str, ...]] = ("message",)
    type: Literal["context"] = "context"


class StepStarted(Header, kw_only=True):
    """A model call is about to go out; `request_sha256` is the hash of its neutral JSON form.

    `model` is the full name of the model that is called, a fallback model too (since 0.2).
    """

    attempt: int
    request_sha256: str
    model: str | None = None
    brief: ClassVar[tuple[str, ...]] = ("attempt",)
    type: Literal["step_started"] = "step_started"


class ReasoningDeltaEvent(Header, kw_only=True):
    """A piece of the model's reasoning, where the provider shows it."""

    reasoning_delta: str
    brief: ClassVar[tuple[str, ...]] = ("reasoning_delta",)
    type: Literal["reasoning_delta"] = "reasoning_delta"


class TextDeltaEvent(Header, kw_only=True):
    """A piece of the answer."""

    text_delta: str
    brief: ClassVar[tuple[str, ...]] = ("text_delta",)
    type: Literal["text_delta"] = "text_delta"


class ToolCallDeltaEvent(Header, kw_only=True):
    """A piece of the JSON of a call's arguments; the first may be empty."""

    tool_call_id: str
    tool_name: str
    arguments_delta: str
    brief: ClassVar[tuple[str, ...]] = ("tool_name", "arguments_delta")
    type: Literal["tool_call_delta"] = "tool_call_delta"


class ApprovalRequested(Header, kw_only=True):
    """A tool call waits for a decision, until `expires` (RFC 3339; None for as long as the run lasts)."""

    approval_id: str
    tool_name: str
    arguments: JsonObject
    expires: str | None
    brief: ClassVar[tuple[str, ...]] = ("tool_name", "arguments")
    type: Literal["approval_requested"] = "approval_requested"


class ApprovalResolved(Header, kw_only=True):
    """A decision on a tool call; without an `approval_requested` before it, a rule decided.

    `by` is who or what decided: `user`, `caller`, `headless`, `rule` (a rule of the config that denies), `always` (what
    was said to an equal call that waited, too), `thread rule`, `config rule` (one that was written to the config during
    this run), `time limit` or `run` (which was cancelled).
    `reason` is what the user or the caller gave as the reason; the model gets it with a denial. `kept` is where the
    decision was kept as a rule with patterns: `thread`, `config`, or "".
    """

    approval_id: str
    decision: Literal["allow", "always", "deny", "timeout", "cancelled"]
    by: str
    reason: str = ""
    kept: Literal["", "thread", "config"] = ""
    brief: ClassVar[tuple[str, ...]] = ("decision", "by")
    type: Literal["approval_resolved"] = "approval_resolved"


class ToolStarted(Header, kw_only=True):
    """A tool is called; `tool_completed` follows.

    `asks` is whether an `approval_requested` follows first, which shows the call too.
    """

    tool_name: str
    tool_call_id: str
    arguments: JsonObject
    asks: bool = False
    brief: ClassVar[tuple[str, ...]] = ("tool_name", "arguments")
    type: Literal["tool_started"] = "tool_started"


class ToolProgress(Header, kw_only=True):
    """How far a tool call is, as the tool reports it with `ToolContext.progress`."""

    tool_name: str
    tool_call_id: str
    message: str
    brief: ClassVar[tuple[str, ...]] = ("tool_name", "message")
    type: Literal["tool_progress"] = "tool_progress"


class ToolCompleted(Header, kw_only=True):
    """Follows every `tool_started`. `tool_error` is None when `tool_success`.

    `abandoned`: the tool's code could not be stopped and may still be running. `attachments` are the images of the
    result, in their order; `tool_output` has a mark in the place of each.
    """

    tool_name: str
    tool_call_id: str
    tool_success: bool
    tool_output: str
    tool_error: str | None
    latency_ms: int
    abandoned: bool = False
    attachments: tuple[Attached, ...] = ()
    brief: ClassVar[tuple[str, ...]] = ("tool_name", "tool_output", "tool_error")
    type: Literal["tool_completed"] = "tool_completed"


class Retrying(Header, kw_only=True):
    """The call failed before any output; attempt number `attempt` follows after `delay_s` seconds."""

    attempt: int
    delay_s: float
    error: str
    brief: ClassVar[tuple[str, ...]] = ("attempt", "error")
    type: Literal["retrying"] = "retrying"


class Warned(Header, kw_only=True):
    """Something that the user should know and that does not end the run; `code` as in `warnings.WARNINGS`."""

    code: str
    message: str
    brief: ClassVar[tuple[str, ...]] = ("message",)
    type: Literal["warning"] = "warning"


class StepCompleted(Header, kw_only=True):
    """The assistant's message in full; the deltas before it add up to it.

    `model` is the name that the server answered with, if it gave one (since 0.2).
    """

    message: Message
    usage: Usage
    finish_reason: FinishReason
    model: str | None = None
    brief: ClassVar[tuple[str, ...]] = ("finish_reason",)
    type: Literal["step_completed"] = "step_completed"


class ErrorEvent(Header, kw_only=True):
    """Why the run ends without an answer; at most once."""

    error: str
    kind: ErrorKind
    brief: ClassVar[tuple[str, ...]] = ("kind", "error")
    type: Literal["error"] = "error"


class Completed(Header, kw_only=True):
    """Exactly one, always last, after the turn was sealed."""

    result: AgentResult
    brief: ClassVar[tuple[str, ...]] = ()
    type: Literal["completed"] = "completed"


Event: TypeAlias = (
    RunStarted
    | ContextEvent
    | StepStarted
    | ReasoningDeltaEvent
    | TextDeltaEvent
    | ToolCallDeltaEvent
    | ApprovalRequested
    | ApprovalResolved
    | ToolStarted
    | ToolProgress
    | ToolCompleted
    | Retrying
    | Warned
    | StepCompleted
    | ErrorEvent
    | Completed
)

EVENT_TYPES: Mapping[str, type[Event]] = {defaults_of(kind)["type"]: kind for kind in get_args(Event)}
_NAMES: Mapping[type, tuple[str, ...]] = {
    kind: tuple(name for name in kind.__struct_fields__ if name != "type") for kind in get_args(Event)
}


def event_to_json(event: Event) -> str:
    """Return `event` as one line of JSON, without the newline; `v` and `type` come first.

    The lines of the last events that cannot be changed are kept, so that a renderer and a sink serialise each once.
    """
    return _kept_line(event) or _made_line(event, traits(event))


def event_to_json_pieces(event: Event) -> Iterator[str]:
    """Yield the line of `event_to_json` in pieces: of a very large event it is never in memory as a whole.

    Since: 0.2.
    """
    line = _kept_line(event)
    if line is None:
        found = traits(event)
        if found & LONG:
            yield from json_pieces(_form(event))
            return
        line = _made_line(event, found)
    yield line


def _kept_line(event: Event) -> str | None:
    kept = _lines[id(event) % _MOST_LINES]
    return kept[1] if kept is not None and kept[0] is event else None


def _made_line(event: Event, found: int) -> str:
    """Make the line of an event with these traits, and keep it if it is short and the event cannot be changed."""
    line = (None if found & UNLIKE else _line_by_msgspec(event)) or dumps(_form(event))
    if not found & CHANGEABLE and len(line) <= _LONGEST_LINE_KEPT:
        _lines[id(event) % _MOST_LINES] = (event, line)
    return line


def _form(event: Event) -> dict[str, object]:
    return {"v": VERSION, "type": event.type, **{name: getattr(event, name) for name in _NAMES[type(event)]}}


_MOST_LINES = 61
_LONGEST_LINE_KEPT = 16_384
_lines: list[tuple[Event, str] | None] = [None] * _MOST_LINES
"""The last lines, each with its event, by the identity of the event. One assignment replaces one, on any thread."""

_LONGEST_LINE = 1 << 20
"""Of what is made in one piece; of a longer one `dumps` checks the size."""
_encode = msgspec.json.Encoder().encode


def _line_by_msgspec(event: Event) -> str | None:
    """Return the line of an event that msgspec writes as `dumps` does; None if it has to be checked as `dumps` does."""
    kind = event.type
    if EVENT_TYPES.get(kind) is not type(event):
        return None
    try:
        body = _encode(event)
    except ValueError:  # a lone surrogate
        return None
    if len(body) > _LONGEST_LINE or body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        return None
    # `type` is the last field of each class and comes first in the line; 11 are the characters of `,"type":""}`.
    return f'{{"v":{VERSION},"type":"{kind}",{body[1 : -len(kind) - 11].decode()}}}'


def message_to_json(message: Message) -> JsonObject:
    """Return the JSON form of `message`, without the fields that are None."""
    return {"role": message.role.value, "parts": [_part_to_json(part) for part in message.parts]}


def _part_to_json(part: Part) -> JsonObject:
    form: JsonObject = {}
    for name in part.__struct_fields__:
        value = getattr(part, name)
        if name == "parts":
            form[name] = [_part_to_json(inner) for inner in value]
        elif value is not None:
            form[name] = to_plain(value)
    return form
