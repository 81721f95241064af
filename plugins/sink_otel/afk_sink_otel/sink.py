"""The sink `otel`: events in, spans and metrics out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from afk_sink_otel.settings import Settings, check
from afkcli.plugin import Event

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from afk_sink_otel.export import Telemetry
    from afk_sink_otel.spans import RunSpans
    from afkcli.plugin import RunStarted


class OtelSink:
    """Makes a span of each run, model call and tool call, and sends it with metrics to a receiver.

    The SDK is imported when the first request of a run has left, so that its import does not delay the request.
    """

    name = "otel"

    def __init__(self, settings: Settings) -> None:
        """Check the settings; `ConfigError` if one is not usable."""
        check(settings)
        self._settings = settings
        self._enabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"
        self._waiting: list[Event] = []
        self._telemetry: Telemetry | None = None
        self._runs: dict[str, RunSpans] = {}

    def emit(self, event: Event) -> None:
        """Take one event."""
        if not self._enabled:
            return
        if self._telemetry is None:
            self._waiting.append(event)
            if event.type not in ("step_started", "error", "completed"):
                return
            self._begin()
        else:
            self._take(event)

    def close(self) -> None:
        """Send what is left; `OSError` if the receiver does not take it within 0.8 s.

        A run whose last event did not come, because afk has left the sink out, gets no span: how it ended is not known.
        """
        if self._telemetry is not None:
            self._telemetry.close()

    def _begin(self) -> None:
        from afk_sink_otel.export import Telemetry

        self._telemetry = Telemetry(self._settings)
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            self._take(event)

    def _take(self, event: Event) -> None:
        if event.type == "run_started":
            self._start(event)
            return
        run = self._runs.get(event.run_id)
        if run is None:
            return
        run.take(event)
        if event.type == "completed":
            del self._runs[event.run_id]

    def _start(self, event: RunStarted) -> None:
        from afk_sink_otel.spans import RunSpans

        assert self._telemetry is not None
        self._runs[event.run_id] = RunSpans(
            event,
            self._telemetry.tracer,
            self._telemetry.metrics,
            _parent_of_process(),
            content=self._settings.content,
        )


def _parent_of_process() -> Context:
    """Return the context of the span that started this process, by W3C Trace Context; an empty one without it."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {name: os.environ.get(name.upper(), "") for name in ("traceparent", "tracestate")}
    return TraceContextTextMapPropagator().extract(carrier, context=Context())
