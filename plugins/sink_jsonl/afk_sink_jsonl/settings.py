"""The settings of the event log."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Settings:
    """`[sinks.jsonl]` in the user's config.

    Attributes:
        path: the folder of the log; "" means `events` in afk's state folder.
        max_file_mb: when a file has this size, another one of the same day is begun; 0 means no limit.
        keep_days: older files are deleted; 0 keeps all.
    """

    path: str = ""
    max_file_mb: int = 64
    keep_days: int = 90
