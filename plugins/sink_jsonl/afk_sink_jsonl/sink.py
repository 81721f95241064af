"""The sink `jsonl`: one line for each event, one write for the events of a moment, one file for each day."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from afk_sink_jsonl.logfile import LogFile
from afk_sink_jsonl.logfolder import LogFolder
from afkcli.plugin import ConfigError, Event, event_to_json_pieces, expand_user

if TYPE_CHECKING:
    from afk_sink_jsonl.settings import Settings
    from afkcli.plugin import Removal


_LARGE_CHARS = 1 << 18


class JsonlSink:
    """Appends events to the file of their day (UTC). Several processes may do so at the same time."""

    name = "jsonl"

    def __init__(self, settings: Settings) -> None:
        """Check the settings; `ConfigError` if one is not usable."""
        for name in ("max_file_mb", "keep_days"):
            if getattr(settings, name) < 0:
                raise ConfigError(f"[sinks.jsonl] {name} must be 0 or more (got {getattr(settings, name)})")
        self._folder = LogFolder(_folder(settings.path), ours=not settings.path, keep_days=settings.keep_days)
        self._max_bytes = settings.max_file_mb * 1_000_000
        self._day = ""
        self._file: LogFile | None = None

    def emit(self, event: Event) -> None:
        """Append one event; `OSError` if it cannot be written, with the file's name."""
        self.emit_all([event])

    def emit_all(self, events: Sequence[Event]) -> None:
        """Append events, those of a day in one write; raises as `emit`."""
        for day, group in groupby(events, key=lambda event: event.ts[:10]):
            self._file_for(day).append(list(_lines(group)))

    def files(self) -> list[Path]:
        """Return the files of the log, oldest first, for `afk events tail`."""
        return self._folder.files()

    def remove_threads(self, keys: Collection[str]) -> Iterator[Removal]:
        """Take all lines of the threads with `keys` out of the files that no process writes to; see `LogSink`.

        Raises:
            OSError: a file cannot be read or written.
        """
        from afk_sink_jsonl.removal import remove_lines

        return remove_lines(self.files(), keys)

    def _file_for(self, day: str) -> LogFile:
        if self._file is not None and day == self._day and self._file.usable(self._max_bytes):
            return self._file
        self.close()
        self._file = self._folder.open(day, self._max_bytes)
        self._day = day
        return self._file

    def close(self) -> None:
        """Close the file. There is nothing to flush: every event was written when it was emitted."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _lines(events: Iterable[Event]) -> Iterator[bytes]:
    """Yield the lines of events, each with its newline, in pieces: small ones together, a large one in several."""
    texts: list[str] = []
    for event in events:
        for piece in event_to_json_pieces(event):
            texts.append(piece)
            if len(piece) > _LARGE_CHARS:
                yield "".join(texts).encode()
                texts.clear()
        texts.append("\n")
    yield "".join(texts).encode()


def _folder(path: str) -> Path:
    if not path:
        from afkcli.plugin import state_dir

        return state_dir() / "events"
    folder = expand_user(path, "[sinks.jsonl] path")
    if not folder.is_absolute():
        raise ConfigError(
            f"[sinks.jsonl] path = {path!r} is not absolute: the log would move with the working directory"
        )
    return folder
