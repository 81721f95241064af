"""Server-sent events, as far as model servers use them: bytes in, the data of each event out.

The rules are those of https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream. Lines
end with LF, CRLF or CR alone: `str.splitlines` (and the HTTP library's `aiter_lines`, built on it) also cuts at U+2028
and the like, which JSON strings may hold as they are.
"""

from __future__ import annotations

from afkcli.core.contract.jsonform import MAX_LINE_BYTES


class EventTooLongError(ValueError):
    """An event is longer than `MAX_LINE_BYTES`."""


class EventParser:
    """Cuts a stream of bytes into events; invalid UTF-8 becomes U+FFFD."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._data: str | None = None

    def feed(self, chunk: bytes) -> list[str]:
        """Return the data of the events that `chunk` completes.

        Raises:
            EventTooLongError: an event is longer than `MAX_LINE_BYTES`.
        """
        if b"\n" not in chunk and b"\r" not in chunk:
            self._hold(chunk)
            return []
        data = b"".join([*self._held, chunk]) if self._held else chunk
        # A CR at the end may be half of a CRLF, so it waits for the next chunk.
        end = b"\r" if data.endswith(b"\r") else b""
        if b"\r" in data:
            data = data.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines, newline, rest = data.rpartition(b"\n")
        self._held, self._held_bytes = [], 0
        if rest or end:
            self._hold(rest + end)
        return self._events(lines.decode("utf-8", "replace")) if newline else []

    def close(self) -> list[str]:
        """Return the event that the stream's end left without its blank line, if any: some servers omit it."""
        events = self.feed(b"\n\n")
        self._data = None
        return events

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > MAX_LINE_BYTES:
            raise EventTooLongError(f"an event is longer than {MAX_LINE_BYTES} bytes")

    def _events(self, text: str) -> list[str]:
        events: list[str] = []
        data = self._data
        for line in text.split("\n"):
            if not line:
                if data is not None:
                    events.append(data)
                    data = None
            elif line.startswith("data:"):
                value = line[6:] if line.startswith("data: ") else line[5:]
                data = value if data is None else f"{data}\n{value}"
        self._data = data
        return events
