"""The SDK's providers and exporters: what is made of spans and metrics goes to the receiver over OTLP/HTTP.

Nothing is made global: a program that uses afk may have an SDK of its own. The SDK logs what its exporters could not
send; for ours, the last such message is kept for the one line that afk says, and is not logged.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http import metric_exporter, trace_exporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from afk_sink_otel.metrics import Metrics
from afk_sink_otel.settings import Settings, parse_headers
from afkcli.plugin import one_line

CLOSE_SECONDS = 0.8
"""How long the last spans and metrics may take; afk gives a sink 1 s to close."""

DEFAULT_ENDPOINT = "http://localhost:4318"
SCOPE = "afk"

_MOST_REASON = 300
_SPAN_LOG = logging.getLogger(trace_exporter.__name__)
_METRIC_LOG = logging.getLogger(metric_exporter.__name__)
_noting = threading.local()


class _Failures(logging.Filter):
    """Keeps what the SDK logs while this thread sends something of ours, and tells whether anything was lost.

    `stop` ends the waiting for another try. Once `closing` is set there is no time for one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lost = False
        self.closing = False
        self.sending = False
        self.reason = ""
        self.stop: Callable[[], object] = bool

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(_noting, "failures", None) is not self:
            return True
        if not _IS_OF_OURS.match(record.getMessage()):
            self.reason = _reason(record.getMessage())
        if self.closing:
            self.stop()
        return False

    @contextmanager
    def noted(self) -> Iterator[None]:
        _noting.failures, self.sending, self.reason = self, True, ""
        try:
            yield
        finally:
            _noting.failures, self.sending = None, False

    def close(self) -> None:
        """Let no try follow one that has failed."""
        self.closing = True
        if self.sending and self.reason:
            self.stop()


_IS_OF_OURS = re.compile("Shutdown in progress|Failed to export .* due to timeout")
"""What the SDK logs because of `stop`; the reason was logged before."""

_CAUSE = re.compile(r'Caused by \w+\("(.*)"\)\)')
_TRANSIENT = re.compile(r"Transient error (.*) encountered while exporting", re.DOTALL)


def _reason(message: str) -> str:
    """Return why something was not sent, from what the SDK logged."""
    found = _TRANSIENT.match(message)
    reason = found[1] if found is not None else message
    cause = _CAUSE.search(reason)
    return one_line(cause[1].rpartition("): ")[2] if cause is not None else reason)[:_MOST_REASON]


class _SpanExporter(trace_exporter.OTLPSpanExporter):
    def __init__(self, failures: _Failures, **options: Any) -> None:
        super().__init__(**options)
        self._failures, self._ended = failures, False
        failures.stop = self.shutdown

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._failures.noted():
            result = super().export(spans)
        self._failures.lost |= result is not SpanExportResult.SUCCESS
        return result

    def shutdown(self) -> None:
        if not self._ended:  # the SDK warns of a second time
            self._ended = True
            super().shutdown()  # type: ignore[no-untyped-call]


class _MetricExporter(metric_exporter.OTLPMetricExporter):
    def __init__(self, failures: _Failures, **options: Any) -> None:
        super().__init__(**options)
        self._failures, self._ended = failures, False
        failures.stop = self.shutdown

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **rest: Any
    ) -> MetricExportResult:
        with self._failures.noted():
            result = super().export(metrics_data, timeout_millis, **rest)
        # Metrics are cumulative: what one request did not bring, the next one does.
        self._failures.lost = result is not MetricExportResult.SUCCESS
        return result

    def shutdown(self, timeout_millis: float = 30_000, **rest: Any) -> None:
        if not self._ended:
            self._ended = True
            super().shutdown(timeout_millis, **rest)


class Telemetry:
    """A tracer and the metrics of this process, and the way to the receiver.

    Args:
        settings: the settings of the sink.
    """

    def __init__(self, settings: Settings) -> None:
        resource = _resource(settings)
        self._ends: list[Callable[[], object]] = []
        self._span_failures, self._metric_failures = _Failures(), _Failures()
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        readers = []
        if _is_wanted("OTEL_TRACES_EXPORTER"):
            _SPAN_LOG.addFilter(self._span_failures)
            spans = _SpanExporter(self._span_failures, **_options(settings, "TRACES"))
            self._traces.add_span_processor(BatchSpanProcessor(spans))
            self._ends.append(self._traces.shutdown)
        if _is_wanted("OTEL_METRICS_EXPORTER"):
            _METRIC_LOG.addFilter(self._metric_failures)
            metrics = _MetricExporter(self._metric_failures, **_options(settings, "METRICS"))
            readers.append(PeriodicExportingMetricReader(metrics))
        self._meters = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False)
        if readers:
            self._ends.append(self._meters.shutdown)
        self.tracer = self._traces.get_tracer(SCOPE)
        self.metrics = Metrics(self._meters.get_meter(SCOPE))
        self._receiver = _without_credentials(os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or settings.endpoint)

    def close(self) -> None:
        """Send what is left, both signals at once.

        Raises:
            OSError: the receiver did not take all of it in time, or refused a part.
        """
        deadline = time.monotonic() + CLOSE_SECONDS
        # Daemons: a request that hangs must not hold up the end of the process.
        threads = [threading.Thread(target=end, name="afk-sink-otel-end", daemon=True) for end in self._ends]
        for failures in (self._span_failures, self._metric_failures):
            failures.close()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        late = any(thread.is_alive() for thread in threads)
        if not late:  # a thread that is late may log yet
            _SPAN_LOG.removeFilter(self._span_failures)
            _METRIC_LOG.removeFilter(self._metric_failures)
        lost = [item for item in (self._span_failures, self._metric_failures) if late or item.lost]
        if not lost:
            return
        reason = next((item.reason for item in lost if item.reason), f"it took longer than {CLOSE_SECONDS:g} s")
        raise OSError(f"the receiver {self._receiver} did not take everything: {reason}")


def _resource(settings: Settings) -> Resource:
    """Return the resource: that of the environment, with the name of the service."""
    name = settings.service_name
    if not name and "service.name=" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        name = "afk"
    return Resource.create({"service.name": name} if name else {})


def _is_wanted(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() != "none"


def _options(settings: Settings, signal: str) -> dict[str, Any]:
    """Return the options of an exporter. The SDK itself reads the variables of one signal, which come first."""
    options: dict[str, Any] = {}
    if not os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"):
        options["endpoint"] = f"{(settings.endpoint or DEFAULT_ENDPOINT).rstrip('/')}/v1/{signal.lower()}"
    if settings.headers and not os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_HEADERS"):
        options["headers"] = parse_headers(settings.headers)
    return options


def _without_credentials(url: str) -> str:
    parts = urlsplit(url or DEFAULT_ENDPOINT)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
