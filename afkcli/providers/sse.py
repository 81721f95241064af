"""Server-sent events: bytes in, events out.

The rules are those of https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream, to the
letter. Lines end with LF, CRLF or CR alone: `str.splitlines` (and the HTTP library's `aiter_lines`, built on it) also
cuts at U+2028 and the like, which JSON strings may hold as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from afkcli.core.contract.jsonform import MAX_LINE_BYTES
from afkcli.core.contract.structs import FrozenStruct

MAX_STRAY_CHARS = 64 * 1024
"""How much is kept of lines that are not fields of events, once there was an event."""

LONG_BYTES = 1024 * 1024
LINE_COST = 64
"""What a line counts beside its length: about what it takes in memory, so that short ones are bounded too."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_IGNORED = frozenset({"id", "retry"})


class EventTooLongError(ValueError):
    """An event, or what stands in the place of events, is longer than `MAX_LINE_BYTES`."""


class ServerEvent(FrozenStruct):
    """One event: its data, lines joined by LF, and its type, empty where the server gave none.

    Since: 0.2.
    """

    data: str
    type: str = ""


class EventParser:
    """Cuts a stream of bytes into events; invalid UTF-8 becomes U+FFFD, or what `errors` says (as in `bytes.decode`).

    `strays` are the lines that are not fields of the standard: a server's error, or an answer that is not a stream.
    Before any event they may be as long as one; once there was one, they are kept up to `MAX_STRAY_CHARS`. Since: 0.2.

    The end of a line is taken as soon as its first byte is there: a CR ends a line, and an LF that comes next, maybe in
    the next chunk, belongs to it.
    """

    def __init__(self, *, errors: str = "replace") -> None:
        self._errors = errors
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

    @property
    def is_unfinished(self) -> bool:
        """Whether something has begun that is not whole: a line, an event, or a body that is not one of events."""
        return bool(self._held_bytes or self._data or (self.strays and not self._has_events))

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
        if self._held_bytes > LONG_BYTES:
            return self._events(self._long_lines(chunk))
        data = b"".join([*self._held, chunk]) if self._held else chunk
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._starts:
            self._starts = False
            data = data.removeprefix(_BYTE_ORDER_MARK)
        lines, _, rest = data.rpartition(b"\n")
        self._held, self._held_bytes = [], 0
        self._hold(rest)
        return self._events(lines.decode("utf-8", self._errors).split("\n"))

    def rest(self) -> list[ServerEvent]:
        """Return the event that the stream's end left without its blank line, if any. Since: 0.2."""
        events = self.take(b"\n\n")
        self._data, self._data_chars, self._type = [], 0, ""
        return events

    def _long_lines(self, chunk: bytes) -> Iterator[str]:
        """Yield the lines of what is held and a chunk, and take data, so that a long one is in memory at most twice."""
        data = bytearray().join([*self._held, chunk])
        self._held, self._held_bytes = [], 0
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if self._starts and data.startswith(_BYTE_ORDER_MARK):
            del data[: len(_BYTE_ORDER_MARK)]
        self._starts = False
        while (end := data.find(b"\n")) >= 0:
            start = next((len(name) for name in (b"data: ", b"data:") if data.startswith(name)), 0)
            with memoryview(data) as whole, whole[start:end] as part:
                line = str(part, "utf-8", self._errors)
            del data[: end + 1]
            if start:
                self._add(line)
            else:
                yield line
            del line
        self._hold(bytes(data))

    def _hold(self, data: bytes) -> None:
        if data:
            self._held.append(data)
            self._held_bytes += len(data)
            _check_length(self._held_bytes)

    def _events(self, lines: Iterable[str]) -> list[ServerEvent]:
        events: list[ServerEvent] = []
        for line in lines:
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
        self._data_chars += len(value) + LINE_COST
        _check_length(self._data_chars)

    def _field(self, line: str) -> None:
        """Take a field other than `data` with a value; an empty one may stand without its colon."""
        name, _, value = line.partition(":")
        if name == "event":
            self._type = value.removeprefix(" ")
        elif name == "data":
            self._add("")
        elif name not in _IGNORED:
            self._stray_chars += len(line) + LINE_COST
            if not self._has_events and self._stray_chars > MAX_LINE_BYTES:
                self.strays = [line for line in self.strays[:1] if len(line) <= MAX_STRAY_CHARS]  # it may say why
                raise EventTooLongError(f"a body that is no stream of events is longer than {MAX_LINE_BYTES} bytes")
            if not self._has_events or self._stray_chars <= MAX_STRAY_CHARS:
                self.strays.append(line)


def _check_length(length: int) -> None:
    if length > MAX_LINE_BYTES:
        raise EventTooLongError(f"an event is longer than {MAX_LINE_BYTES} bytes")
