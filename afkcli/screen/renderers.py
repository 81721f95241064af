"""Events -> text for a person (stdout and stderr), or JSONL. stdout is the answer and nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from datetime import datetime
from typing import Protocol, assert_never

from afkcli.core.contract.errors import ErrorKind
from afkcli.core.contract.events import (
    ApprovalRequested,
    ApprovalResolved,
    Completed,
    ContextEvent,
    ErrorEvent,
    Event,
    ReasoningDeltaEvent,
    Retrying,
    RunStarted,
    StepCompleted,
    StepStarted,
    TextDeltaEvent,
    ToolCallDeltaEvent,
    ToolCompleted,
    ToolProgress,
    ToolStarted,
    Warned,
    event_to_json_pieces,
)
from afkcli.core.contract.jsonform import dumps
from afkcli.core.contract.limits import CUT_BY
from afkcli.core.contract.result import AgentResult, RunState
from afkcli.core.contract.text import visible, visible_json
from afkcli.screen.answer_text import AnswerText, PlainText
from afkcli.screen.messages import Messages
from afkcli.screen.spent import spent
from afkcli.screen.streams import Output
from afkcli.screen.text import brief

_LARGE_CHARS = 1 << 18


class Reasoning:
    """The model's reasoning on stderr while it streams, dim on a terminal; never blocks the event loop.

    It is shown unchanged, as the answer is, except that control characters are made visible. Without colours, a blank
    line separates it from the answer.

    Args:
        messages: the lines on stderr.
        output: the file of both the answer and stderr, whose reader slows the run; None where stderr is read on its
            own, and what nothing reads is left out.
        stands_apart: whether a blank line separates it from the answer also where there are colours.
    """

    def __init__(self, messages: Messages, output: Output | None = None, *, stands_apart: bool = False) -> None:
        self._messages = messages
        self._stands_apart = stands_apart
        self._output = output
        self._closed = False
        self._streaming = False
        self.shown = False

    async def show(self, text: str) -> None:
        """Write a piece, after ending a line on the terminal that is not its own."""
        if self._closed:
            return
        before = "" if self._streaming else self._messages.before
        text = visible(text)
        self._messages.before = "" if text.endswith("\n") else "\n"
        self._streaming = self.shown = True
        await self._write(f"{before}{self._messages.styled(text)}")

    async def end(self) -> None:
        """End the reasoning before something else is shown."""
        if self._streaming:
            self._streaming = False
            before, self._messages.before = self._messages.before, ""
            is_dim = self._messages.colours and not self._stands_apart
            await self._write(before if is_dim else f"{before}\n")

    async def _write(self, text: str) -> None:
        if self._output is None:
            self._messages.piece(text)
            return
        self._output.put(text)
        try:
            await self._output.flush()
        except OSError:  # a closed stderr is not an error
            self._closed = True


def final_answer(result: AgentResult) -> str:
    """Return the last step's text."""
    return result.final_text


def structured_answer(result: AgentResult) -> str:
    """Return the validated answer as one line of JSON; "" if there is none."""
    return visible_json(dumps(result.output)) if result.state is RunState.COMPLETED else ""


def _seconds(began: str, ended: str) -> float | None:
    """Return the seconds between two RFC 3339 times, None if one of them is not known."""
    try:
        return max(0.0, (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds())
    except ValueError:
        return None


def _is_cut(result: AgentResult) -> bool:
    """Return whether a run ended before its answer did, so that it can be resumed."""
    if result.state is RunState.FAILED:
        return result.error_kind is ErrorKind.TRUNCATED
    return result.state is not RunState.COMPLETED


class Renderer(Protocol):
    async def show(self, event: Event, *, more: bool) -> None:
        """Show one event. With `more`, the next one has already arrived, so both may be written together."""


class JsonRenderer:
    """Every event as one line of JSON on stdout."""

    def __init__(self, output: Output) -> None:
        self._output = output

    async def show(self, event: Event, *, more: bool) -> None:
        for piece in event_to_json_pieces(event):
            self._output.put(visible_json(piece) if self._output.is_terminal else piece)
            if len(piece) > _LARGE_CHARS:  # one of several: the whole line need not be in memory
                await self._output.flush()
        self._output.put("\n")
        if not more:
            await self._output.flush()


class TextRenderer:
    """The answer on stdout as it is generated; everything else on stderr.

    Args:
        answer: gives the text to show once the run has ended, instead of what is generated.
        reasoning: show the model's reasoning too, on stderr.
        attended: whether a person reads stderr; it then gets a line about what the run took.
        resumable: whether the turn is kept, so that the command is named that goes on with an answer that was cut.
        asked: whether a person is asked about calls on the same terminal, where the question shows them.
        text: where the text of the answer is shown; as it is on `output` if it is None.
    """

    def __init__(
        self,
        output: Output,
        messages: Messages,
        *,
        answer: Callable[[AgentResult], str] | None = None,
        reasoning: Reasoning | None = None,
        attended: bool = False,
        resumable: bool = False,
        asked: bool = False,
        text: AnswerText | None = None,
    ) -> None:
        self._text = text or PlainText(output, messages)
        self._messages = messages
        self._answer = answer
        self._reasoning = reasoning
        self._attended = attended
        self._resumable = resumable
        self._asked = asked
        self._began = ""
        self._step = 0
        self._retried = ""

    async def show(self, event: Event, *, more: bool) -> None:
        if event.type == "reasoning_delta":
            if self._reasoning is not None or not more:
                await self._text.settle()
            if self._reasoning is not None:
                await self._reasoning.show(event.reasoning_delta)
            return
        if self._reasoning is not None:
            await self._reasoning.end()
        await self._show(event, more=more)

    async def _show(self, event: Event, *, more: bool) -> None:
        if event.type == "run_started":
            self._began = event.ts
        elif event.type == "text_delta":
            if self._answer is None:
                if event.step != self._step:
                    await self._begin_step(event.step)
                self._text.put(event.text_delta)
        elif event.type == "completed":
            if self._answer is not None:
                self._text.put(self._answer(event.result))
            await self._text.end()
            self._text.close()
            self._ending(event.result)
            self._last_lines(event)
        elif event.type != "tool_call_delta":
            await self._text.settle()
            self._arrange(event)
            self._status(event)
        if not more:
            await self._text.show()

    def _arrange(self, event: Event) -> None:
        """Get ready for the text of a step, or set lines about tools apart from it."""
        if event.type == "step_started":
            self._text.prepare()
        elif event.type in ("tool_started", "tool_progress", "tool_completed"):
            self._messages.before += self._text.stand_apart()

    async def _begin_step(self, step: int) -> None:
        """Have the text of a step begin on a line of its own."""
        await self._text.end()
        self._step = step

    async def end_line(self) -> None:
        """End a line that was cut, before something else is written."""
        await self._text.end()

    def close(self) -> None:
        """Draw nothing any more; after the last event nothing is drawn anyway. Since: 0.2."""
        self._text.close()

    def _status(self, event: Event) -> None:
        say = self._messages
        match event:
            case ToolStarted() if event.asks and self._asked:
                pass  # the question shows it
            case ToolStarted():
                say.say(brief(f"tool {event.tool_name} {dumps(event.arguments)}"))
            case ToolProgress():
                say.say(brief(f"tool {event.tool_name}: {event.message}"))
            case ToolCompleted():
                outcome = "ok" if event.tool_success else f"failed: {event.tool_error}"
                say.say(f"{brief(f'tool {event.tool_name} {outcome}')} ({event.latency_ms} ms)")
            case ApprovalResolved():
                say.say(f"approval: {event.decision} ({event.by})")
            case ContextEvent():
                say.say(event.message)
            case Retrying() | Warned() | ErrorEvent():
                self._problem(event)
            case RunStarted() | StepStarted() | StepCompleted() | ApprovalRequested():
                pass  # nothing to say: the answer shows it, or the approver asks
            case ReasoningDeltaEvent() | TextDeltaEvent() | ToolCallDeltaEvent() | Completed():
                pass  # `show` and `_show` take these
            case _:
                assert_never(event)

    def _problem(self, event: Retrying | Warned | ErrorEvent) -> None:
        say = self._messages
        if isinstance(event, Retrying):
            what = "it failed again" if event.error == self._retried else event.error
            self._retried = event.error
            say.warn(f"{what}; trying again in {event.delay_s:.1f} s (attempt {event.attempt})")
        elif isinstance(event, ErrorEvent):
            say.error(event.error)
        elif event.code == "store_locked":
            say.warn_once(event.message)
        else:
            say.warn(event.message)

    def _last_lines(self, event: Completed) -> None:
        """Write what the run took, and how to go on with an answer that was cut."""
        result = event.result
        if self._attended:
            seconds = _seconds(self._began, event.ts)
            self._messages.say(spent(result.model, result.usage, result.total_cost_usd, seconds))
        if self._resumable and result.saved and _is_cut(result):
            self._messages.say(f"`afk threads resume {shlex.quote(result.thread_id)}` continues it")

    def _ending(self, result: AgentResult) -> None:
        hidden = result.usage.reasoning_output_tokens
        if self._reasoning is not None and hidden and not self._reasoning.shown:
            said = f"the model used {hidden:,} tokens to reason, but its provider did not send the text"
            self._messages.say(f"{said}; a setting of the provider may ask for it")
        if result.state is RunState.DEGRADED:
            what = CUT_BY.get(result.reason or "", f"the limit {result.reason}")
            kept = (
                "the answer was cut by {}; it is kept, marked as cut" if result.final_text else "no answer, cut by {}"
            )
            self._messages.warn(kept.format(what))
        elif result.state is RunState.INTERRUPTED:
            self._messages.error(f"interrupted: {result.reason}")
