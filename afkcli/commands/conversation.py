"""A thread's turns as text for a person, as Markdown, and as JSON objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from afkcli.core.contract.errors import ErrorKind
from afkcli.core.contract.jsonform import JsonObject, dumps, to_plain
from afkcli.core.contract.messages import (
    FilePart,
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from afkcli.core.contract.protocols import ThreadInfo
from afkcli.core.contract.result import RunState
from afkcli.core.contract.text import collapsed
from afkcli.core.thread.history import History
from afkcli.core.thread.listing import RUNNING
from afkcli.core.thread.sending import messages_to_send
from afkcli.core.thread.turns import SealedTurn, interrupted_turn, resumed_by, turn_to_json
from afkcli.screen.spent import spent
from afkcli.screen.streams import Stdout
from afkcli.screen.styles import BOLD, DIM, YELLOW
from afkcli.screen.times import local_time


class ShownTurn(NamedTuple):
    """A turn as it is shown: its state, the number of the turn that resumes it, and why it is set aside, if it is."""

    turn: SealedTurn
    state: str
    resumed_as: int | None = None
    set_aside: str | None = None


def turns_of(thread: ThreadInfo, history: History, state: str | None) -> list[ShownTurn]:
    """Return the turns as they are shown, those that are set aside too; a running one with what has come so far."""
    turns = [(turn, str(turn.state)) for turn in history.turns]
    if thread.open_turn is not None and state is not None:
        turns.append((interrupted_turn(thread, thread.open_turn, history.open_records), state))
    aside = history.set_aside
    resumed = resumed_by([turn for turn, _ in turns])
    return [
        ShownTurn(turn, state, _resumed_as(resumed.get(position), aside), aside.get(turn.turn))
        for position, (turn, state) in enumerate(turns)
    ]


def with_messages(found: Iterable[ShownTurn], turns: Iterator[SealedTurn]) -> Iterator[ShownTurn]:
    """Yield the turns of an outline with their messages, one after the other; an open turn has its own."""
    for shown in found:
        yield shown if shown.turn.messages else shown._replace(turn=next(turns, shown.turn))


def _resumed_as(later: SealedTurn | None, aside: Mapping[int, str]) -> int | None:
    return later.turn if later is not None and later.turn not in aside else None


def note(shown: ShownTurn) -> str | None:
    """Return what is to be known of a turn that did not simply end with its answer, and what the next turn sends."""
    turn = shown.turn
    if shown.state == RUNNING:
        return "running now"
    if shown.set_aside is not None:
        return f"{shown.set_aside}; it is not sent"
    if shown.resumed_as is not None:
        return f"cut off; resumed as turn {shown.resumed_as}, which has all of it"
    if turn.state is RunState.COMPLETED:
        return None
    sent = messages_to_send(turn)
    why = f": {turn.error}" if turn.error else ""
    if not sent:
        return f"refused ({turn.error_kind}){why}; it is left out of what the next turn sends"
    if turn.error_kind is ErrorKind.INVALID_OUTPUT:
        return f"failed ({turn.error_kind}){why}; the next turn sends it as it is"
    if turn.state is RunState.FAILED and len(sent) == 1:
        return f"failed ({turn.error_kind}){why}; the next turn sends the question again"
    return f"{_last_text(sent[-1])}{why}"


def thread_form(info: ThreadInfo, state: str | None) -> JsonObject:
    """Return the JSON form of a thread in a list."""
    return {
        "v": 1,
        "type": "thread",
        "thread_id": info.name,
        "thread_key": info.key,
        "state": state,
        "title": info.title,
        "turns": info.turns,
        "agent": info.agent,
        "model": info.model,
        "created": info.created,
        "used": info.used,
        "folder": info.folder,
        "parent": info.parent,
        "usage": info.usage,
        "total_cost_usd": info.cost_usd,
        "tags": info.tags,
        "last_run_id": info.last_run_id,
    }


def turn_form(thread: ThreadInfo, shown: ShownTurn) -> JsonObject:
    """Return the JSON form of a turn, without the data that belongs to providers alone."""
    plain = replace(shown.turn, messages=tuple(map(_without_provider_data, shown.turn.messages)))
    form = {
        **turn_to_json(plain),
        "state": shown.state,
        "resumed_as": shown.resumed_as,
        "set_aside": shown.set_aside,
        "note": note(shown),
    }
    form["total_cost_usd"] = form.pop("cost_usd")
    if shown.state == RUNNING:
        form["sealed"] = None
    form["messages"] = [_without_none(message) for message in to_plain(form["messages"])]
    return {"v": 1, "type": "turn", "thread_id": thread.name, "thread_key": thread.key, **form}


def shown_turn(stdout: Stdout, shown: ShownTurn, *, rendered: bool = False) -> Iterator[str]:
    """Yield the lines of a turn for a person; what the model said as rendered Markdown with `rendered`."""
    turn = shown.turn
    took = spent(turn.model or "-", turn.usage, turn.cost_usd)
    head = f"turn {turn.turn} · {local_time(turn.started)} · {shown.state} · {took}"
    yield stdout.styled(stdout.text(head), BOLD)
    for message in turn.messages if shown.resumed_as is None else ():
        for part in message.parts:
            label, text = _labelled(message.role, part)
            if rendered and message.role is Role.ASSISTANT and isinstance(part, TextPart):
                from afkcli.screen.markdown.stream import laid_out  # not at the top: it brings a parser

                yield stdout.styled(f"{label}:", DIM)
                yield from (line.rendered() for line in laid_out(text, stdout.columns(), styles=stdout.has_styles))
                continue
            style = DIM if isinstance(part, (ReasoningPart, ToolResultPart)) else ""
            line = stdout.text(f"{label}: {text}")
            yield stdout.styled(line, style) if style else line
    said = note(shown)
    if said:
        yield stdout.styled(stdout.text(said if said.startswith("[") else f"[{said}]"), YELLOW)
    yield ""


def markdown(thread: ThreadInfo, turns: list[ShownTurn]) -> str:
    """Return a thread as a Markdown document."""
    lines = [f"# {collapsed(thread.title or thread.name)}", ""]
    lines += [f"Thread `{thread.name}`, begun {local_time(thread.created)}, {len(turns)} turns.", ""]
    for shown in turns:
        turn = shown.turn
        lines += [f"## Turn {turn.turn}", "", f"{local_time(turn.started)} · {shown.state} · {turn.model or '-'}", ""]
        for message in turn.messages if shown.resumed_as is None else ():
            for part in message.parts:
                lines += _markdown_part(message.role, part)
        said = note(shown)
        if said:
            lines += [f"*{collapsed(said)}*", ""]
    return "\n".join(lines)


def _labelled(role: Role, part: Part) -> tuple[str, str]:
    """Return what a part is and what it says."""
    if isinstance(part, ReasoningPart):
        return "reasoning", part.text
    if isinstance(part, ToolCallPart):
        arguments = dumps(part.arguments) if part.invalid_arguments is None else part.invalid_arguments
        return "tool call", f"{part.name} {arguments}"
    if isinstance(part, ToolResultPart):
        outcome = "tool error" if part.is_error else "tool result"
        return outcome, f"{part.name}: {' '.join(_labelled(role, inner)[1] for inner in part.parts)}"
    if isinstance(part, (ImagePart, FilePart)):
        name = f" {part.name}" if part.name else ""
        return str(role), f"[{part.type}{name}, {part.media_type}, {part.size} bytes, sha256 {part.sha256[:12]}]"
    return str(role), part.text


def _markdown_part(role: Role, part: Part) -> list[str]:
    label, text = _labelled(role, part)
    if isinstance(part, TextPart):
        return [f"**{label}**", "", text, ""]
    fence = "`" * max(3, _longest_ticks(text) + 1)
    return [f"**{label}**", "", fence, text, fence, ""]


def _longest_ticks(text: str) -> int:
    longest = run = 0
    for char in text:
        run = run + 1 if char == "`" else 0
        longest = max(longest, run)
    return longest


def _last_text(message: Message) -> str:
    part = message.parts[-1]
    return part.text if isinstance(part, TextPart) else ""


def _without_provider_data(message: Message) -> Message:
    parts = tuple(
        replace(part, provider_data=None)
        for part in message.parts
        if not (isinstance(part, ReasoningPart) and not part.text)  # it held nothing but the provider's data
    )
    return replace(message, parts=parts)


def _without_none(message: JsonObject) -> JsonObject:
    parts = [{name: value for name, value in part.items() if value is not None} for part in message["parts"]]
    return {**message, "parts": parts}
