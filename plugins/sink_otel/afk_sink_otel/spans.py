"""The spans of one run, made from its events: the run, its model calls and its tool calls.

The run is the parent of both: a model call has ended when its answer is there, before its tools run. A call that is
retried is one span, as the conventions ask; the retries are events of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from afk_sink_otel import names
from afk_sink_otel.content import masked, message_content, result_content, text_content

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from afk_sink_otel.metrics import Metrics
    from afkcli import AgentResult
    from afkcli.plugin import Event, RunStarted, Usage

_FIRST_PIECES = frozenset({"text_delta", "reasoning_delta", "tool_call_delta"})


class _Open:
    """A span that has not ended: its start in nanoseconds since the epoch, and the attributes of its metrics."""

    def __init__(self, span: Span, start: int, metric: Mapping[str, Any]) -> None:
        self.span = span
        self.start = start
        self.metric = dict(metric)
        self.request_start = start
        self.first_chunk: float | None = None

    def end(self, at: int, error: str | None, description: str | None = None) -> float:
        """End the span, as failed if there is an error type; return its seconds."""
        if error is not None:
            self.metric[names.ERROR_TYPE] = error
            self.span.set_attribute(names.ERROR_TYPE, error)
            self.span.set_status(Status(StatusCode.ERROR, description))
        self.span.end(at)
        return (at - self.start) / 1e9


class RunSpans:
    """The spans and metrics of one run.

    Args:
        started: the first event of the run, `run_started`.
        tracer: makes the spans.
        metrics: records what has ended.
        parent: the context of the span that started the run, or None.
        content: whether messages, arguments, results and texts of errors are sent.
    """

    def __init__(
        self, started: RunStarted, tracer: Tracer, metrics: Metrics, parent: Context | None, *, content: bool
    ) -> None:
        self._tracer = tracer
        self._metrics = metrics
        self._content = content
        self._agent = {names.AGENT_NAME: started.agent}
        self._model = started.model
        self._conversation = started.thread_key
        self._compacted = False
        self._call: _Open | None = None
        self._tools: dict[str, _Open] = {}
        self._calls = self._tool_calls = 0
        self._error: str | None = None
        self._messages: list[Mapping[str, Any]] = []
        self._run = self._begin(started, names.INVOKE_AGENT, started.agent, self._agent, parent)
        self._run.span.set_attributes({names.RUN_ID: started.run_id, names.TURN: started.turn})
        self._run.span.set_attribute(names.REQUEST_MODEL, names.provider_and_model(self._model)[1])
        if started.parent_run_id is not None:
            self._run.span.set_attribute(names.RUN_RESUMES, started.parent_run_id)
        if content:
            self._messages.append(text_content("user", started.message))
            self._run.span.set_attribute(names.INPUT_MESSAGES, list(self._messages))
        self.context = set_span_in_context(self._run.span)

    def take(self, event: Event) -> None:
        """Take the next event of the run."""
        if event.type in _FIRST_PIECES:
            self._first_piece(event)
        elif (handler := _HANDLERS.get(event.type)) is not None:
            handler(self, event)

    def _begin(
        self,
        event: Event,
        operation: str,
        subject: str,
        attributes: Mapping[str, Any],
        parent: Context | None,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> _Open:
        start = nanoseconds(event.ts)
        span = self._tracer.start_span(
            f"{operation} {subject}",
            context=parent,
            kind=kind,
            attributes={
                names.OPERATION_NAME: operation,
                names.CONVERSATION_ID: self._conversation,
                **attributes,
            },
            start_time=start,
        )
        return _Open(span, start, attributes)

    def _step_started(self, event: Any) -> None:
        if self._call is not None and event.attempt > 1:  # the same call again
            self._call.request_start = nanoseconds(event.ts)
            return
        self._end_call(nanoseconds(event.ts), names.OTHER_ERROR)  # another model takes over
        provider, model = names.provider_and_model(event.model or self._model)
        about = {names.PROVIDER_NAME: provider, names.REQUEST_MODEL: model}
        kind = SpanKind.INTERNAL if provider == "local" else SpanKind.CLIENT
        self._call = self._begin(event, names.CHAT, model, about, self.context, kind=kind)
        self._call.metric[names.OPERATION_NAME] = names.CHAT
        self._call.span.set_attribute(names.STEP, event.step)
        self._say_compacted()
        if self._content:
            self._call.span.set_attribute(names.INPUT_MESSAGES, list(self._messages))
        self._calls += 1

    def _first_piece(self, event: Event) -> None:
        if self._call is not None and self._call.first_chunk is None:
            self._call.first_chunk = (nanoseconds(event.ts) - self._call.request_start) / 1e9

    def _step_completed(self, event: Any) -> None:
        call, self._call = self._call, None
        if call is None:
            return
        reason = str(event.finish_reason)
        call.span.set_attribute(
            names.FINISH_REASONS, [names.FINISHED_BY_TOOL_CALL if reason == "tool_calls" else reason]
        )
        call.span.set_attributes(_tokens(event.usage, cached=True))
        if event.model:
            call.span.set_attribute(names.RESPONSE_MODEL, event.model)
            call.metric[names.RESPONSE_MODEL] = event.model
        if self._content:
            self._messages.append(message_content(event.message))
            call.span.set_attribute(names.OUTPUT_MESSAGES, [self._messages[-1]])
        self._metrics.tokens(call.metric, event.usage)
        self._finish_call(call, nanoseconds(event.ts), None)

    def _end_call(self, at: int, error: str, description: str | None = None) -> None:
        """End the model call that gave no whole answer, if there is one."""
        call, self._call = self._call, None
        if call is not None:
            call.span.set_attribute(names.FINISH_REASONS, [names.FINISHED_BY_ERROR])
            self._finish_call(call, at, error, description)

    def _finish_call(self, call: _Open, at: int, error: str | None, description: str | None = None) -> None:
        if call.first_chunk is not None:
            call.span.set_attributes({names.REQUEST_STREAM: True, names.TIME_TO_FIRST_CHUNK: call.first_chunk})
        seconds = call.end(at, error, description)
        self._metrics.model_call(call.metric, seconds, call.first_chunk)

    def _tool_started(self, event: Any) -> None:
        about = {names.TOOL_NAME: event.tool_name, names.TOOL_TYPE: names.FUNCTION, **self._agent}
        tool = self._begin(event, names.EXECUTE_TOOL, event.tool_name, about, self.context)
        tool.span.set_attributes({names.TOOL_CALL_ID: event.tool_call_id, names.STEP: event.step})
        if self._content:
            tool.span.set_attribute(names.TOOL_CALL_ARGUMENTS, masked(event.arguments))
        self._tools[event.tool_call_id] = tool
        self._tool_calls += 1

    def _tool_completed(self, event: Any) -> None:
        tool = self._tools.pop(event.tool_call_id, None)
        if tool is None:
            return
        if self._content:
            self._messages.append(result_content(event.tool_call_id, event.tool_output or event.tool_error or ""))
            tool.span.set_attribute(names.TOOL_CALL_RESULT, masked(event.tool_output))
        error = None if event.tool_success else names.TOOL_ERROR
        tool.end(nanoseconds(event.ts), error, masked(event.tool_error) if self._content else None)
        self._metrics.tool_call(tool.metric, event.latency_ms / 1000)  # without the wait for an approval

    def _context(self, event: Any) -> None:
        if event.compacted_through is not None:
            self._compacted = True
            self._say_compacted()  # a server may compact the conversation of the call that it answers

    def _say_compacted(self) -> None:
        if self._compacted and self._call is not None:
            self._call.span.set_attribute(names.COMPACTED, True)

    def _retrying(self, event: Any) -> None:
        if self._call is not None:
            said = {names.ATTEMPT: event.attempt, names.DELAY: event.delay_s}
            self._call.span.add_event(names.RETRY, said, nanoseconds(event.ts))

    def _approval_requested(self, event: Any) -> None:
        about = {names.APPROVAL_ID: event.approval_id, names.TOOL_NAME: event.tool_name}
        self._run.span.add_event(names.APPROVAL_REQUESTED, about, nanoseconds(event.ts))

    def _approval_resolved(self, event: Any) -> None:
        about = {
            names.APPROVAL_ID: event.approval_id,
            names.APPROVAL_DECISION: event.decision,
            names.APPROVAL_BY: event.by,
        }
        self._run.span.add_event(names.APPROVAL_RESOLVED, about, nanoseconds(event.ts))

    def _warning(self, event: Any) -> None:
        self._run.span.add_event(names.WARNING, {names.WARNING_CODE: event.code}, nanoseconds(event.ts))

    def _failed(self, event: Any) -> None:
        self._error = str(event.kind)
        self._end_call(nanoseconds(event.ts), self._error, masked(event.error) if self._content else None)

    def _completed(self, event: Any) -> None:
        result: AgentResult = event.result
        at, error = nanoseconds(event.ts), _error_of(result)
        self._end_open(at, error or names.OTHER_ERROR)
        span = self._run.span
        span.set_attributes({**_tokens(result.usage, cached=False), names.RUN_STATE: str(result.state)})
        if result.reason is not None:
            span.set_attribute(names.RUN_REASON, result.reason)
        if result.total_cost_usd is not None:
            span.set_attribute(names.RUN_COST, result.total_cost_usd)
        if self._content:
            span.set_attribute(names.OUTPUT_MESSAGES, [text_content("assistant", result.final_text)])
        seconds = self._run.end(at, error, masked(result.error) if self._content else None)
        failure = {} if error is None else {names.ERROR_TYPE: error}
        self._metrics.run(self._agent, seconds, failure, self._calls, self._tool_calls)

    def _end_open(self, at: int, error: str) -> None:
        self._end_call(at, error)
        for tool in self._tools.values():
            self._metrics.tool_call(tool.metric, tool.end(at, error))
        self._tools.clear()


_HANDLERS: Mapping[str, Callable[[RunSpans, Any], None]] = {
    "context": RunSpans._context,
    "step_started": RunSpans._step_started,
    "step_completed": RunSpans._step_completed,
    "tool_started": RunSpans._tool_started,
    "tool_completed": RunSpans._tool_completed,
    "retrying": RunSpans._retrying,
    "approval_requested": RunSpans._approval_requested,
    "approval_resolved": RunSpans._approval_resolved,
    "warning": RunSpans._warning,
    "error": RunSpans._failed,
    "completed": RunSpans._completed,
}


def nanoseconds(timestamp: str) -> int:
    """Return an event's time, RFC 3339 with milliseconds, in nanoseconds since the epoch."""
    return round(datetime.fromisoformat(timestamp).timestamp() * 1000) * 1_000_000


def _tokens(usage: Usage, *, cached: bool) -> dict[str, int]:
    """Return the attributes of a usage; counts that the provider did not report are left out."""
    counts = {names.INPUT_TOKENS: "input_tokens", names.OUTPUT_TOKENS: "output_tokens"}
    if cached:
        counts |= {
            names.CACHE_READ_TOKENS: "cache_read_input_tokens",
            names.CACHE_WRITE_TOKENS: "cache_creation_input_tokens",
            names.REASONING_TOKENS: "reasoning_output_tokens",
        }
    return {name: getattr(usage, field) for name, field in counts.items() if field not in usage.unknown}


def _error_of(result: AgentResult) -> str | None:
    """Return the error type of a run: its kind if it failed, its state if it was cancelled or interrupted."""
    if result.error_kind is not None:
        return str(result.error_kind)
    return str(result.state) if str(result.state) in ("failed", "cancelled", "interrupted") else None
