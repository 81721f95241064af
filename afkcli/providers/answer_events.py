"""The events of one answer, whatever a server makes of a stream: keep-alives, errors beside it, one piece of JSON."""

from __future__ import annotations

import json

from afkcli.core.contract.jsonform import Json
from afkcli.providers.error_signs import is_error
from afkcli.providers.sse import MAX_STRAY_CHARS, EventParser, ServerEvent
from afkcli.providers.wire import check_weight, decode_events, readable

_ERROR_EVENT = "error"
_ERROR_FIELD = "error:"
_KEEP_ALIVE = frozenset({"null", "ping", "pong", "keep-alive", "keepalive", "heartbeat"})
"""Data of events by which gateways keep a connection alive."""


class AnswerEvents:
    """Takes the bytes of an answer and gives the data of its events.

    `error` is the error that the server reported in an event of that type, or a field of that name. `is_page` says that
    the answer is a page for people.

    Since: 0.2.
    """

    def __init__(self) -> None:
        self.error: Json = None
        self.is_page = False
        self._parser = EventParser(errors="surrogateescape")  # a character may be cut between two events
        self._begins = True
        self._has_events = False
        self._has_ended = False
        self._seen_strays = 0

    @property
    def is_unfinished(self) -> bool:
        """Whether an event, or an answer that is JSON instead of a stream, has begun and is not whole."""
        return self._parser.is_unfinished

    def take(self, chunk: bytes) -> list[str]:
        """Return the data of the events that `chunk` completes; what is empty only keeps the connection alive.

        Raises:
            EventTooLongError: an event is too long.
        """
        if self._begins and chunk.strip():
            self._begins = False
            self.is_page = chunk.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")
        return self._data_of(self._parser.take(chunk))

    def rest(self) -> list[str]:
        """Return what the end of the body leaves, once.

        That is an event without its blank line, if it is whole JSON, and an answer that is JSON instead of a stream:
        one object or several, in an array, one a line, or one behind the other.
        """
        if self._has_ended:
            return []
        self._has_ended = True
        events = [event for event in self._data_of(self._parser.rest()) if _is_whole(event)]
        if events or self._has_events or self.error is not None:
            return events
        strays = "\n".join(self._parser.strays).strip()
        value = _loaded(strays)
        if isinstance(value, list) and is_error(value):
            self.error = value
            return []
        lines = [line for line in strays.split("\n") if line.strip()] if value is None else []
        if lines and all(map(_is_whole, lines)):
            return lines
        return [strays] if strays and _is_whole(strays) else []

    def stray_error(self) -> Json:
        """Return the error that the server wrote where an event should be, None where there is none."""
        if sum(map(len, self._parser.strays)) > MAX_STRAY_CHARS:  # an error is short
            return None
        strays = readable("\n".join(self._parser.strays).strip())
        if strays.startswith(_ERROR_FIELD):
            return strays.removeprefix(_ERROR_FIELD).strip()
        value = _loaded(strays)
        return value if is_error(value) else None

    def _data_of(self, events: list[ServerEvent]) -> list[str]:
        found: list[str] = []
        for event in events:
            if event.type == _ERROR_EVENT:
                data = readable(event.data)
                self.error = _loaded(data) or data or "an error without words"
                break
            data = event.data
            if data.startswith("{") or not _keeps_alive(data):
                found.append(data)
        self._has_events = self._has_events or bool(found)
        for line in self._parser.strays[self._seen_strays :]:
            if line.startswith(_ERROR_FIELD) and self.error is None:
                self.error = readable(line.removeprefix(_ERROR_FIELD).strip())
        self._seen_strays = len(self._parser.strays)
        return found


def _keeps_alive(data: str) -> bool:
    """Return whether the data of an event says nothing.

    Some gateways wrap the comment of another server into an event, as `data: : keepalive`. No JSON begins with a colon.
    """
    said = data.strip()
    return not said or said.startswith(":") or (len(said) < 16 and said.lower() in _KEEP_ALIVE)


def _is_whole(text: str) -> bool:
    """Return whether a text holds whole JSON objects and nothing else."""
    try:
        return bool(decode_events(text))
    except ValueError:
        return False


def _loaded(text: str) -> Json:
    """Return the JSON value of a text, None where it is not JSON."""
    try:
        check_weight(text)
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
