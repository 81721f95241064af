"""A sink into SQLite, written for afk 0.1."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from afkcli.core.events import Event, event_to_json
from afkcli.paths import state_dir

from afkcli.core import events
from afkcli.hookspecs import hookimpl

AFK_HOOKS = 1


@dataclass
class Settings:
    path: str = ""


class SqliteSink:
    name = "outside"

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, check_same_thread=False)
        self._db.execute("CREATE TABLE IF NOT EXISTS events (type TEXT, line TEXT)")

    def emit(self, event: Event) -> None:
        ended = isinstance(event, events.Completed)
        self._db.execute("INSERT INTO events VALUES (?, ?)", (event.type, event_to_json(event)))
        if ended:
            self._db.commit()

    def close(self) -> None:
        self._db.close()


@hookimpl
def afk_sink(settings: Settings) -> SqliteSink:
    return SqliteSink(settings.path or str(state_dir() / "outside-events.db"))
