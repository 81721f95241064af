"""One model call over a connection: its stream read to the end marker, and a little further."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Any, Protocol

from afkcli.core.contract.errors import ProviderError
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.messages import ModelEvent, ModelResponse, ModelWarning
from afkcli.providers.connection import Connection
from afkcli.providers.event_stream import EventStream
from afkcli.providers.merged_events import EventMerger
from afkcli.providers.named_message import NamedMessage
from afkcli.providers.wire import decode_events

_DONE = "[DONE]"
AFTER_FINISH_SECONDS = 5.0
"""How long a server may take from the finish reason to the usage and the end of the stream."""


class Reader(Protocol):
    """Reads the events of one answer.

    `finished` says that the answer is whole, `ended` that nothing more comes. `close` yields what was held back, and
    raises `ProviderError` where the answer ended as one that failed. `message_at` is as in `Connection.stream`. A
    reader may count in `unshown` the pieces that it took and that no event shows: these are progress, too. It may say
    in `goes_on` that a piece of the answer came although it was whole, so that only the server tells its end.

    Since: 0.2.
    """

    ended: bool

    @property
    def finished(self) -> bool: ...

    def feed(self, events: Iterable[str]) -> Iterator[ModelEvent]: ...

    def close(self) -> Iterator[ModelEvent]: ...

    def response(self) -> ModelResponse: ...

    def message_at(self, named: NamedMessage) -> int | None: ...


def event_objects(reader: Reader, events: Iterable[str]) -> Iterator[JsonObject]:
    """Yield the JSON objects in some events' data, for the `feed` of a reader.

    At `[DONE]`, the end marker of Chat Completions that gateways also add to other streams, it says that the reader has
    `ended` and stops.

    Args:
        reader: whose stream it is.
        events: the data of each event, as text.

    Raises:
        ValueError: the data of an event is not JSON.

    Since: 0.2.
    """
    for data in events:
        if data.startswith(_DONE):
            reader.ended = True
            return
        found = decode_events(data)
        del data  # it may be long, and its text is used now
        yield from found


class AfterFinish:
    """The time that is left once an answer is whole, however much comes behind it."""

    def __init__(self) -> None:
        self._until: float | None = None

    def seconds(self, is_whole: bool) -> float | None:
        """Return how long to wait for what comes next, None while the answer is not whole."""
        if not is_whole:
            return None
        now = asyncio.get_running_loop().time()
        if self._until is None:
            self._until = now + AFTER_FINISH_SECONDS
        return max(0.0, self._until - now)


async def answer_events(
    connection: Connection[Any], path: str, body: JsonObject, reader: Reader
) -> AsyncGenerator[ModelEvent, None]:
    """Send a request and yield the events of its answer, the response last.

    Pieces of one kind that were read together are one event.

    What goes wrong once the answer is whole costs nothing of it: a warning passes on what the server said.

    Raises:
        ProviderError: the call failed, or its stream ended without its end marker.

    Since: 0.2.
    """
    async with connection.stream(path, body, reader.message_at) as stream:
        until_end, merger = AfterFinish(), EventMerger()
        while not reader.ended:
            try:
                events = await stream.read(until_end.seconds(reader.finished and not _goes_on(reader)))
            except ProviderError as error:
                if not reader.finished:
                    raise
                if error is stream.failure or _goes_on(reader):
                    yield after_answer(str(error), goes_on=_goes_on(reader))
                break
            if events is None:
                break
            for event in _read(reader, _taken_from(events), stream, merger):
                yield event
                stream.progress.saw(event)
            stream.progress.saw_unshown(getattr(reader, "unshown", 0))
        if not reader.finished:
            raise stream.broken("ended without its end marker")
        for event in reader.close():
            yield event
        await stream.drain()
    yield reader.response()


def _taken_from(events: list[str]) -> Iterator[str]:
    """Yield the items of a list and take them out of it, so that a long one is not kept while its text is used."""
    events.reverse()
    while events:
        yield events.pop()


def _read(reader: Reader, events: Iterable[str], stream: EventStream, merger: EventMerger) -> Iterator[ModelEvent]:
    try:
        yield from merger.merged(reader.feed(events))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"is malformed ({type(error).__name__}: {error})"
        if not reader.finished:
            raise stream.broken(what) from None
        reader.ended = True
        yield after_answer(f"what came behind it {what}")


def _goes_on(reader: Reader) -> bool:
    return getattr(reader, "goes_on", False)


def after_answer(what: str, *, goes_on: bool = False) -> ModelWarning:
    """Return the warning for something that came behind a whole answer, or behind one that went on. Since: 0.2."""
    begins = "the answer went on behind its finish reason, and may be cut" if goes_on else "the answer is whole, but"
    return ModelWarning("after_answer", f"{begins}: {what}")
