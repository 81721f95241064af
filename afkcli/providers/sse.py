"""Server-sent events: bytes in, events out.

The rules are those of https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream, to the
letter. Lines end with LF, CRLF or CR alone: `str.splitlines` (and the HTTP library's `aiter_lines`, built on it) also
cuts at U+2028 and the like, which JSON strings may hold as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from afkcli.core.contract.jsonform import MAX_LINE_BYTES

MAX_STRAY_CHARS = 64 * 1024
"""How much is kept of lines that are not fields of events, once there was an event."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_IGNORED = frozenset({"id", "retry"})


class EventTooLongError(ValueError):
    """An event is longer than `MAX_LINE_BYTES`."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event: its data, lines joined by LF, and its type, empty where the server gave none.

    Since: 0.2.
    """

    data: str
    type: str = ""


class EventParser:
    """Cuts a stream of bytes into events; invalid UTF-8 becomes U+FFFD.

    `strays` are the lines that are not fields of the standard: a server's error, or an answer that is not a stream.
    They are kept up to the length of an event, once there was an event up to `MAX_STRAY_CHARS`. Since: 0.2.

    The end of a line is taken as soon as its first byte is there: a CR ends a line, and an LF that comes next, maybe in
    the next chunk, belongs to it.
    """

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._starts = True
        self._after_cr = False
        self._data: list[str] = []
        self._data_chars = 0
        self._type = ""
        self.strays: list[str] = []
        self._stray_chars = 0
        self._has_events = False

    def feed(self, chunk: bytes) -> list[str]:
        """Return the data of the events that `chunk` completes.

        Raises:
            EventTooLongError: an event is longer than `MAX_LINE_BYTES`.
        """
        return [event.data for event in self.take(chunk)]

    def close(self) -> list[str]:
        """Return the data of the event that the stream's end left without its blank line, if any.

        The standard drops it; the reader decides whether it is complete.
        """
        return [event.data for event in self.rest()]

    def take(self, chunk: bytes) -> list[ServerEvent]:
        """Return the events that `chunk` completes; raises as `feed`. Since: 0.2."""
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if b"\n" not in chunk and b"\r" not in chunk:
            self._hold(chunk)
            return []
        self._after_cr = chunk.endswith(b"\r")
        data = b"".join([*self._held, chunk]) if self._held else chunk
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._starts:
            self._starts = False
            data = data.removeprefix(_BYTE_ORDER_MARK)
        lines, _, rest = data.rpartition(b"\n")
        self._held, self._held_bytes = [], 0
        self._hold(rest)
        return self._events(lines.decode("utf-8", "replace"))

    def rest(self) -> list[ServerEvent]:
        """Return the event that the stream's end left without its blank line, if any. Since: 0.2."""
        events = self.take(b"\n\n")
        self._data, self._data_chars, self._type = [], 0, ""
        return events

    def _hold(self, data: bytes) -> None:
        if data:
            self._held.append(data)
            self._held_bytes += len(data)
            _check_length(self._held_bytes)

    def _events(self, text: str) -> list[ServerEvent]:
        events: list[ServerEvent] = []
        for line in text.split("\n"):
            if not line:
                if self._data:
                    events.append(self._dispatch())
                self._type = ""
            elif line.startswith("data:"):
                self._add(line[6:] if line.startswith("data: ") else line[5:])
            elif not line.startswith(":"):
                self._field(line)
        return events

    def _dispatch(self) -> ServerEvent:
        data = self._data[0] if len(self._data) == 1 else "\n".join(self._data)
        self._data, self._data_chars = [], 0
        self._has_events = True
        return ServerEvent(data, self._type)

    def _add(self, value: str) -> None:
        self._data.append(value)
        self._data_chars += len(value) + 1
        _check_length(self._data_chars)

    def _field(self, line: str) -> None:
        """Take a field other than `data` with a value; an empty one may stand without its colon."""
        name, _, value = line.partition(":")
        if name == "event":
            self._type = value.removeprefix(" ")
        elif name == "data":
            self._add("")
        elif name not in _IGNORED:
            self._stray_chars += len(line)
            if self._stray_chars <= (MAX_STRAY_CHARS if self._has_events else MAX_LINE_BYTES):
                self.strays.append(line)


def _check_length(length: int) -> None:
    if length > MAX_LINE_BYTES:
        raise EventTooLongError(f"an event is longer than {MAX_LINE_BYTES} bytes")
