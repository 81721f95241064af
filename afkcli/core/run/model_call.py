"""One step's model call: streamed, retried while nothing of it was shown, handed to a fallback model if it fails."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from afkcli.core.contract.errors import (
    REFUSED_KINDS,
    RETRIED_KINDS,
    ErrorKind,
    HistoryRefusedError,
    LimitReachedError,
    ProviderError,
    UsageError,
)
from afkcli.core.contract.events import (
    ReasoningDeltaEvent,
    Retrying,
    StepCompleted,
    StepStarted,
    TextDeltaEvent,
    ToolCallDeltaEvent,
)
from afkcli.core.contract.jsonform import JsonError, dumps
from afkcli.core.contract.messages import (
    FinishReason,
    Message,
    ModelRequest,
    ModelResponse,
    ModelWarning,
    OpaqueDelta,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    ToolCallDelta,
)
from afkcli.core.contract.result import Usage
from afkcli.core.contract.structs import FrozenStruct, field, replace
from afkcli.core.contract.tasks import contained
from afkcli.core.contract.text import error_line
from afkcli.core.contract.tools import Tools
from afkcli.core.run.context import Context
from afkcli.core.run.cost import CallCost, Spending
from afkcli.core.run.large_pieces import cut_piece
from afkcli.core.run.limits import Limits
from afkcli.core.run.models import Model, Models
from afkcli.core.run.outlet import Outlet
from afkcli.core.run.refused_images import refuses_images
from afkcli.core.run.request_hash import RequestHash
from afkcli.core.run.retries import MAX_RETRY_AFTER_S, retry_delay
from afkcli.core.run.spec import RunSpec
from afkcli.core.run.stopping import Stopping
from afkcli.core.run.streams import close_stream
from afkcli.core.run.tally import Tally
from afkcli.core.run.transcript import Transcript
from afkcli.core.thread.contents import Contents

if TYPE_CHECKING:
    from afkcli.core.run.answer import StructuredOutput

_KEPT_AFTER_OUTPUT = frozenset({ErrorKind.CONTENT_FILTER, ErrorKind.INTERNAL, ErrorKind.TRUNCATED})
"""The kinds that an error keeps when a part of its answer was shown; all others become `truncated`."""

_WITHOUT_HISTORY = "use another model, or start a new thread"


class ModelCalls(FrozenStruct, kw_only=True):
    """Makes the model calls of one run."""

    spec: RunSpec
    models: Models
    transcript: Transcript
    outlet: Outlet
    stopping: Stopping
    tally: Tally
    limits: Limits
    spending: Spending
    contents: Contents
    output: StructuredOutput | None
    context: Context
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    without_tools: set[str] = field(default_factory=set)
    hashes: RequestHash = field(default_factory=RequestHash)

    async def make(self, tools: Tools) -> ModelResponse:
        """Make the model call of one step, add its answer to the turn and return it; its events are emitted.

        Raises:
            ProviderError: the call failed, after the retries and fallbacks that it allowed.
            LimitReachedError: a limit was reached before or during it.
        """
        response = await self._respond(tools)
        await self._complete(response)
        return response

    async def _respond(self, tools: Tools) -> ModelResponse:
        while True:
            try:
                return await self._respond_with_retries(self.models.current, tools)
            except _CallFailedError as failed:
                if failed.said or not self.models.has_fallback:
                    raise failed.error from failed.error.__cause__
                self.models.fall_back()
                self.transcript.forget_reasoning()
                self.transcript.left_out.clear()  # another API may take what this one refused
                self.outlet.warn("fallback", f"{failed.error}; continuing with {self.models.current.full_name}")

    async def _respond_with_retries(self, model: Model, tools: Tools) -> ModelResponse:
        for attempt in itertools.count(1):
            await self._fit(model, tools)
            request = await self._request(model, tools)
            self.limits.start_call()
            call = _Attempt(self, model, await self.spending.start_call(model, request))
            try:
                return await call.make(request, attempt)
            except ProviderError as error:
                if call.shown:
                    raise _CallFailedError(_as_truncated(error), said=call.said) from error
                if not self._is_mended(error, model, request):
                    await self._wait_before_retry(error, attempt)
        raise AssertionError("unreachable")

    async def _fit(self, model: Model, tools: Tools) -> None:
        """Leave out of the next request what does not fit; another model may take what this one cannot."""
        try:
            await self.context.fit(model, self._usable(tools, model))
        except ProviderError as error:
            raise _CallFailedError(error, said=False) from error

    def _is_mended(self, error: ProviderError, model: Model, request: ModelRequest) -> bool:
        """Leave out of the next request what the server refused, and return whether that makes it useful."""
        if self._leave_out_images(error, model, request):
            return True
        if self.context.cut_further(error, model):
            self._check_calls(str(error))
            self.outlet.warn("context_refused", f"{error.said or error}; more is left out, and it is asked once more")
            return True
        return self._set_aside(error, model)

    def _leave_out_images(self, error: ProviderError, model: Model, request: ModelRequest) -> bool:
        """Leave out the images that tools returned if the server refuses them, and return whether it does.

        It is done once for each model: afterwards its requests have none.

        Raises:
            LimitReachedError: no other call may be made.
        """
        if not refuses_images(error) or not self.contents.leave_out_of_results(request.messages, model.full_name):
            return False
        line = f"{model.full_name} refused the images that tools returned: {error.said or error}"
        self._check_calls(line)
        self.outlet.warn("attachment_left_out", f"{line}; they are left out of this run's requests")
        return True

    def _set_aside(self, error: ProviderError, model: Model) -> bool:
        """Leave out the earlier turn that an API refuses, and return whether that makes another request useful.

        It is done once for each model, so that an API that refuses everything is not asked for ever.

        Raises:
            _CallFailedError: the API refuses the history again.
            LimitReachedError: no other call may be made.
        """
        if error.kind not in REFUSED_KINDS:
            return False
        left_out, index = self.transcript.left_out, error.message_index
        turn = self.transcript.earlier_turn_at(index) if index is not None else None
        is_history = bool(left_out) and index is None and error.kind is ErrorKind.BAD_REQUEST
        if turn is None and not is_history:
            return False
        line = _of_history(error, model, turn, left_out)
        if left_out or turn is None:
            refused = HistoryRefusedError(f"{line}; {_WITHOUT_HISTORY}", kind=error.kind, status=error.status)
            raise _CallFailedError(refused, said=False) from error
        self._check_calls(line)
        left_out.add(turn)
        self.context.begin_without(turn, model)
        self.outlet.warn("turn_left_out", f"{line}; this run leaves turn {turn} out, and the thread keeps it")
        return True

    async def _wait_before_retry(self, error: ProviderError, attempt: int) -> None:
        delay = retry_delay(attempt, error.retry_after, self.spec.retry_delay_s)
        refusal = self._refusal(error, attempt, delay)
        if refusal is not None:
            raise _CallFailedError(_explained(error, refusal), said=False) from error
        self._check_calls(str(error))
        line = error_line(str(error), self.outlet.redact)
        await self.outlet.emit(Retrying, attempt=attempt + 1, delay_s=round(delay, 3), error=line)
        await self.pause(delay)

    async def _request(self, model: Model, tools: Tools) -> ModelRequest:
        """Return the request of the next call, as `model` can take it."""
        tools = self._usable(tools, model)
        messages = await self.contents.sendable(
            self.transcript.request_messages(with_tools=bool(tools)),
            model.full_name,
            partial(model.provider.capabilities, model.name),
            self.outlet.warn,
        )
        request = ModelRequest(
            model=model.name,
            messages=messages,
            tools=[tool.spec for tool in tools.values()],
            options=self.spec.agent.options,
            extra=self.spec.agent.extra,
            content=self.contents.get,
            native_context_from=self.context.native_from(model),
        )
        if self.output is None:
            return request
        from afkcli.core.run.answer import asked_for

        return asked_for(request, self.output.schema, model.capabilities)

    def _usable(self, tools: Tools, model: Model) -> Tools:
        """Return `tools`, or none if `model` cannot use tools; the first time a warning says so."""
        if not tools or model.capabilities.tools is not False:
            return tools
        if model.full_name not in self.without_tools:
            self.without_tools.add(model.full_name)
            line = f"{model.full_name} cannot use tools; they are left out: {', '.join(tools)}"
            self.outlet.warn("tools_left_out", line)
        return {}

    def _refusal(self, error: ProviderError, attempt: int, delay: float) -> str | None:
        """Return why the call is not made again after `delay` seconds, "" if its error says it all; None if it is."""
        if error.kind not in RETRIED_KINDS:
            return ""
        if attempt > self.spec.max_retries:
            return f"tried {attempt} times" if attempt > 1 else ""
        if delay > MAX_RETRY_AFTER_S:
            return f"it asks to wait {delay:.0f} s; afk waits at most {MAX_RETRY_AFTER_S:.0f} s"
        deadline = self.stopping.deadline
        if deadline is not None and asyncio.get_running_loop().time() + delay >= deadline:
            seconds = self.spec.agent.fail_safe.max_wall_time_s
            return f"not retried after {delay:.1f} s: max_wall_time_s={seconds:g} ends the run before that"
        return None

    def _check_calls(self, why: str) -> None:
        """Raise `LimitReachedError` for another call that may not be made; `why` it was wanted becomes a warning."""
        try:
            self.limits.check_call()
        except LimitReachedError as limit:
            self.outlet.warn("not_retried", f"{why}; not retried: {limit}")
            raise

    async def _complete(self, response: ModelResponse) -> None:
        """Add the answer to the turn.

        Raises:
            LimitReachedError: not all of it fits into the turn.
            ProviderError: the content filter of the model stopped it.
        """
        usage = response.usage or Usage()
        self.tally.usage += usage
        message = self.transcript.add_message(response.message)
        answered = None if response.model is None else error_line(response.model, self.outlet.redact)
        await self.outlet.emit(
            StepCompleted, message=message, usage=usage, finish_reason=response.finish_reason, model=answered
        )
        await self.context.take_answer(response, self.models.current)
        self.transcript.size.check()
        name = self.models.current.full_name
        has_said = self.tally.executions or any(message.text.strip() for message in self.transcript.answer)
        if not has_said and response.finish_reason is FinishReason.STOP:
            self.outlet.warn("empty_answer", f"{name} answered with no text; ask again, or in other words")
        if response.finish_reason is FinishReason.CONTENT_FILTER:
            raise ProviderError(
                f"the content filter of {name} stopped the answer; rephrase the message",
                kind=ErrorKind.CONTENT_FILTER,
            )


class _CallFailedError(Exception):
    """A call failed for good; `said` tells whether the reader has seen a part of its answer other than reasoning."""

    def __init__(self, error: ProviderError, *, said: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.said = said


class _Attempt:
    """One attempt of a model call. `shown` is true from the first event of the answer on, `said` from the first that
    is not reasoning."""

    def __init__(self, calls: ModelCalls, model: Model, cost: CallCost) -> None:
        self.model = model
        self.cost = cost
        self.shown = False
        self.said = False
        self._outlet = calls.outlet
        self._transcript = calls.transcript
        self._step = calls.limits.steps
        self._hashes = calls.hashes

    async def make(self, request: ModelRequest, attempt: int) -> ModelResponse:
        usage, is_billed = None, False
        try:
            self._outlet.step = self._step
            digest = self._hashes.of(request)
            await self._outlet.emit(StepStarted, attempt=attempt, request_sha256=digest, model=self.model.full_name)
            is_billed = True  # a cancelled call may be billed
            with contained(f"the provider {self.model.provider.name!r}"):
                response = await self._stream(request)
            usage = response.usage
            return self._checked(response)
        except Exception as error:
            is_billed = self.shown
            if isinstance(error, UsageError):  # the run has started, so a request that cannot be sent is a bad request
                raise ProviderError(str(error), kind=ErrorKind.BAD_REQUEST) from error
            raise
        finally:
            if is_billed:
                self.cost.end(usage)
            else:
                self.cost.fail()

    async def _stream(self, request: ModelRequest) -> ModelResponse:
        events = self.model.provider.stream(request)
        try:
            async for event in events:
                if isinstance(event, ModelResponse):
                    self.shown = self.said = True
                    return event
                for piece in cut_piece(event):
                    await self._take(piece)
        finally:
            await close_stream(events)
        raise ProviderError(
            f"the answer of {self.model.full_name} ended without its end marker; the part that came is kept; run again",
            kind=ErrorKind.TRUNCATED,
        )

    async def _take(self, event: TextDelta | ReasoningDelta | ToolCallDelta | OpaqueDelta | ModelWarning) -> None:
        """Count, keep and emit a piece of the answer.

        Raises:
            LimitReachedError: it reached a limit; what fits of it was kept and emitted.
        """
        size = self._transcript.size
        if isinstance(event, ModelWarning):
            self._outlet.warn(event.code, event.message)
        elif isinstance(event, OpaqueDelta):
            size.take_bytes(event.size)
        elif isinstance(event, ToolCallDelta) or event.text:
            self.shown = True
            self.said = self.said or not isinstance(event, ReasoningDelta)
            for text in self.cost.pieces(event.arguments if isinstance(event, ToolCallDelta) else event.text):
                await self.cost.stream(text)
                await self._show(event, text)
                if size.is_full:
                    size.check()
        if size.is_full:
            size.check()

    async def _show(self, event: TextDelta | ReasoningDelta | ToolCallDelta, text: str) -> None:
        """Keep and emit the text of an event, or a part of it."""
        transcript = self._transcript
        if isinstance(event, TextDelta):
            await self._outlet.emit_delta(TextDeltaEvent, "text_delta", transcript.stream_text(text))
        elif isinstance(event, ReasoningDelta):
            await self._outlet.emit_delta(ReasoningDeltaEvent, "reasoning_delta", transcript.stream_reasoning(text))
        else:
            arguments = transcript.stream_call(ToolCallDelta(event.id, event.name, text))
            same = {"tool_call_id": event.id, "tool_name": event.name}
            await self._outlet.emit_delta(ToolCallDeltaEvent, "arguments_delta", arguments, **same)

    def _checked(self, response: ModelResponse) -> ModelResponse:
        """Return as much of `response` as fits, if it can be stored, so that no event carries an answer that cannot."""
        message = self._transcript.size.fit_message(response.message)
        if message is not response.message:
            response = replace(response, message=message)
        try:
            dumps([_without_texts(message), response.usage])
        except JsonError as error:
            line = f"the answer of {self.model.full_name} cannot be stored as JSON: {error}"
            raise ProviderError(line, kind=ErrorKind.INTERNAL) from error
        return response


def _without_texts(message: Message) -> Message:
    """Return a message without its plain texts, which always have a JSON form, and may be large."""
    return replace(
        message,
        parts=tuple(
            replace(part, text="") if isinstance(part, (TextPart, ReasoningPart)) and type(part.text) is str else part
            for part in message.parts
        ),
    )


def _of_history(error: ProviderError, model: Model, turn: int | None, left_out: set[int]) -> str:
    """Return the line that says which earlier turn an API refuses, and why."""
    already = f" (turn {min(left_out)} was left out already)" if left_out else ""
    what = f"turn {turn} of this thread{already}, not the new message"
    if turn is None:
        what = f"the history of this thread{already}"
    return f"{model.full_name} refused {what}: {error.said or error}"


def _as_truncated(error: ProviderError) -> ProviderError:
    if error.kind in _KEPT_AFTER_OUTPUT:
        return error
    return ProviderError(f"the answer broke off: {error}", kind=ErrorKind.TRUNCATED, status=error.status)


def _explained(error: ProviderError, why: str) -> ProviderError:
    """Return `error` with the reason why its call is not made again."""
    if not why:
        return error
    return ProviderError(f"{error} ({why})", kind=error.kind, retry_after=error.retry_after, status=error.status)
