"""One step's model call: streamed, retried while nothing of it was shown, handed to a fallback model if it fails."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import random
from collections.abc import AsyncIterator, Sequence
from functools import partial

from afkcli.core.contract.errors import RETRIED_KINDS, ErrorKind, LimitReachedError, ProviderError, UsageError
from afkcli.core.contract.events import Retrying, StepStarted, ToolCallDeltaEvent, message_to_json
from afkcli.core.contract.jsonform import JsonError, clean_text, dumps
from afkcli.core.contract.messages import (
    Message,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    ModelWarning,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from afkcli.core.contract.tasks import contained
from afkcli.core.run.answer import asked_for
from afkcli.core.run.cost import CallCost
from afkcli.core.run.run import FIRST_DELAY_S, Model, Run

MAX_DELAY_S = 30.0
MAX_RETRY_AFTER_S = 120.0
"""A server that asks for a longer wait than this is not waited for: the run fails, or a fallback takes over."""

_STANDS_AFTER_OUTPUT = frozenset({ErrorKind.CONTENT_FILTER, ErrorKind.INTERNAL, ErrorKind.TRUNCATED})
"""The kinds that an error keeps when something of its answer was shown; all others become `truncated`."""


async def call_model(run: Run) -> ModelResponse:
    """Make the model call of the run's current step and return its response; the events are emitted on the way.

    Raises:
        ProviderError: the call failed, after the retries and fallbacks that it allowed.
        LimitReachedError: a limit was reached before or during it.
    """
    while True:
        try:
            return await _call_with_retries(run, run.model)
        except _CallFailedError as failed:
            if failed.said or len(run.models) == 1:
                raise failed.error from failed.error.__cause__
            run.models = run.models[1:]
            run.forget_reasoning()
            run.warn("fallback", f"{failed.error}; going on with {run.model.full_name}")


class _CallFailedError(Exception):
    """A call failed for good; `said` tells whether the reader has seen something of its answer, reasoning aside."""

    def __init__(self, error: ProviderError, *, said: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.said = said


async def _call_with_retries(run: Run, model: Model) -> ModelResponse:
    for attempt in itertools.count(1):
        messages = await _messages(run, model)
        request = ModelRequest(
            model=model.name,
            messages=messages,
            tools=[tool.spec for tool in run.tools.values()],
            options=run.agent.options,
            extra=run.agent.extra,
            content=run.contents.get,
        )
        if run.structured is not None:
            request = asked_for(request, run.structured.schema, model.capabilities)
        run.limits.start_call()
        call = _Call(run, model, await run.spending.start_call(model, request))
        try:
            return await call.make(request, attempt)
        except ProviderError as error:
            if call.shown:
                raise _CallFailedError(_as_truncated(error), said=call.said) from error
            delay = retry_delay(attempt, error.retry_after, run.retry_delay_s)
            refusal = _refusal(run, error, attempt, delay)
            if refusal is not None:
                raise _CallFailedError(_explained(error, refusal), said=False) from error
            _check_calls(run, error)
            await run.emit(Retrying, attempt=attempt + 1, delay_s=round(delay, 3), error=run.redact(str(error)))
            await asyncio.sleep(delay)
    raise AssertionError("unreachable")


async def _messages(run: Run, model: Model) -> Sequence[Message]:
    """Return the messages of the next call as `model` can be sent them."""
    capabilities = partial(model.provider.capabilities, model.name)
    return await run.contents.sendable(run.request_messages(), model.full_name, capabilities, run.warn)


def _refusal(run: Run, error: ProviderError, attempt: int, delay: float) -> str | None:
    """Return why the call is not made again after `delay` seconds, "" where its error says it all; None if it is."""
    if error.kind not in RETRIED_KINDS:
        return ""
    if attempt > run.max_retries:
        return f"tried {attempt} times" if attempt > 1 else ""
    if delay > MAX_RETRY_AFTER_S:
        return f"it asks to wait {delay:.0f} s; afk waits at most {MAX_RETRY_AFTER_S:.0f} s"
    if run.deadline is not None and asyncio.get_running_loop().time() + delay >= run.deadline:
        seconds = run.agent.fail_safe.max_wall_time_s
        return f"not tried again after {delay:.1f} s: max_wall_time_s={seconds:g} ends the run before that"
    return None


def _check_calls(run: Run, error: ProviderError) -> None:
    """Raise `LimitReachedError` before the wait for a call that may not be made, the error told as a warning."""
    try:
        run.limits.check_call()
    except LimitReachedError as limit:
        run.warn("not_retried", f"{error}; not tried again: {limit}")
        raise


class _Call:
    """One attempt. `shown` turns true with the first event of the answer, `said` with the first but reasoning."""

    def __init__(self, run: Run, model: Model, cost: CallCost) -> None:
        self.run = run
        self.model = model
        self.cost = cost
        self.shown = False
        self.said = False

    async def make(self, request: ModelRequest, attempt: int) -> ModelResponse:
        usage, is_billed = None, False
        try:
            self.run.step = self.run.limits.steps
            await self.run.emit(StepStarted, attempt=attempt, request_sha256=request_hash(request))
            is_billed = True  # as far as anybody knows who cancels it
            with contained(f"the provider {self.model.provider.name!r}"):
                response = await self._stream(request)
            usage = response.usage
            return self._checked(response)
        except Exception as error:
            is_billed = self.shown
            if isinstance(error, UsageError):  # the run has begun: what cannot be sent is a request that is refused
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
                await self._take(event)
        finally:
            await _close(events)
        raise ProviderError(
            f"the answer of {self.model.full_name} ended without its end marker; what came is kept, run again",
            kind=ErrorKind.TRUNCATED,
        )

    async def _take(self, event: TextDelta | ReasoningDelta | ToolCallDelta | ModelWarning) -> None:
        run = self.run
        if isinstance(event, TextDelta):
            if event.text:
                self.shown = self.said = True
                await self.cost.stream(event.text)
                await run.text(clean_text(event.text))
        elif isinstance(event, ReasoningDelta):
            if event.text:
                self.shown = True
                await self.cost.stream(event.text)
                await run.reasoning(clean_text(event.text))
        elif isinstance(event, ToolCallDelta):
            self.shown = self.said = True
            await self.cost.stream(event.arguments)
            await run.emit(
                ToolCallDeltaEvent,
                tool_call_id=event.id,
                tool_name=event.name,
                arguments_delta=clean_text(event.arguments),
            )
        else:
            run.warn(event.code, event.message)

    def _checked(self, response: ModelResponse) -> ModelResponse:
        """Return `response`, unless it could not be stored: then no event may carry it."""
        try:
            dumps([response.message, response.usage])
        except JsonError as error:
            line = f"{self.model.full_name} answered what cannot be stored as JSON: {error}"
            raise ProviderError(line, kind=ErrorKind.INTERNAL) from error
        return response


async def _close(events: AsyncIterator[ModelEvent]) -> None:
    """Close the request. What fails in that costs no answer: it is there by then, or another error is on its way."""
    close = getattr(events, "aclose", None)
    if close is not None:
        with contextlib.suppress(Exception):
            await close()


def retry_delay(attempt: int, retry_after: float | None, first: float = FIRST_DELAY_S) -> float:
    """Return the seconds to wait after failed attempt `attempt` (1, 2 ...): what the server asked for, else
    exponential from `first` on, half of it by chance, so that calls which failed together do not come back together
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/)."""
    if retry_after is not None:
        return max(0.0, retry_after)
    ceiling = min(MAX_DELAY_S, first * 2 ** (attempt - 1))
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311


def request_hash(request: ModelRequest) -> str:
    """Return the SHA-256 (hex) of the request's neutral JSON form."""
    digest = hashlib.sha256()
    for message in request.messages:
        digest.update(dumps(message_to_json(message)).encode())
    digest.update(dumps([request.model, list(request.tools), dict(request.options), dict(request.extra)]).encode())
    if request.output_schema is not None:
        digest.update(dumps(request.output_schema).encode())
    return digest.hexdigest()


def _as_truncated(error: ProviderError) -> ProviderError:
    if error.kind in _STANDS_AFTER_OUTPUT:
        return error
    return ProviderError(f"the answer broke off: {error}", kind=ErrorKind.TRUNCATED, status=error.status)


def _explained(error: ProviderError, why: str) -> ProviderError:
    """Return `error` with the reason why its call is not made again."""
    if not why:
        return error
    return ProviderError(f"{error} ({why})", kind=error.kind, retry_after=error.retry_after, status=error.status)
