"""Event sink for afk: every event as one line of JSON in a file a day."""

from __future__ import annotations

from dataclasses import dataclass

from afkcli.hookspecs import Sink, hookimpl

AFK_HOOKS = 1


@dataclass
class Settings:
    """`[sinks.jsonl]` in the user's config.

    Attributes:
        path: the folder of the log; "" is `events` in afk's state folder.
        max_file_mb: a file that has reached this size is followed by another one of the same day; 0 is no limit.
        keep_days: files of days before that are deleted; 0 keeps all.
    """

    path: str = ""
    max_file_mb: int = 64
    keep_days: int = 90


@hookimpl
def afk_sink(settings: Settings) -> Sink:
    """Return the sink `jsonl`; nothing is opened before the first event.

    Raises:
        ConfigError: a setting is not usable.
    """
    from afk_sink_jsonl.sink import JsonlSink

    return JsonlSink(settings)
