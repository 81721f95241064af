"""Event sink for afk: runs as OpenTelemetry traces and metrics, by the GenAI semantic conventions, over OTLP/HTTP."""

from __future__ import annotations

from afk_sink_otel.settings import Settings
from afkcli.hookspecs import Sink, hookimpl

__all__ = ["AFK_HOOKS", "Settings", "afk_sink"]

AFK_HOOKS = 1


@hookimpl
def afk_sink(settings: Settings) -> Sink:
    """Return the sink `otel`; the SDK is imported on the sink's own thread, when the first request has left.

    Raises:
        ConfigError: a setting is not usable.
    """
    from afk_sink_otel.sink import OtelSink

    return OtelSink(settings)
