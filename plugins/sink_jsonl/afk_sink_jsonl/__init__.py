"""Event sink for afk: writes every event as one line of JSON, into one file for each day."""

from __future__ import annotations

from afk_sink_jsonl.settings import Settings
from afkcli.hookspecs import Sink, hookimpl

__all__ = ["AFK_HOOKS", "Settings", "afk_sink"]

AFK_HOOKS = 1


@hookimpl
def afk_sink(settings: Settings) -> Sink:
    """Return the sink `jsonl`; nothing is opened before the first event.

    Raises:
        ConfigError: a setting is not usable.
    """
    from afk_sink_jsonl.sink import JsonlSink

    return JsonlSink(settings)
