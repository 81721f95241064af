"""What providers share that have batches (`afkcli.plugin.ProviderBatches`) behind the SDK of a vendor.

A plugin builds each line from the body of a normal request, and reads each result with the reader of a normal answer:

    line = chunk_line(model, {"custom_id": id, "body": plain_body(body)})
    response, warnings = whole_answer(reader, result["body"])

Since: 0.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from afkcli.core.contract.errors import ErrorKind, ProviderError
from afkcli.core.contract.jsonform import MAX_LINE_BYTES, Json, JsonObject, dumps, loads_object
from afkcli.core.contract.messages import ModelResponse, ModelWarning
from afkcli.core.contract.provider_batches import ChunkLine, ChunkRefusedError
from afkcli.providers.answer_stream import Reader
from afkcli.providers.body_json import body_json
from afkcli.providers.connection import Connection
from afkcli.providers.failures import causes

_STREAMING = ("stream", "stream_options")
_MAYBE_MADE = (408, 409, 425, 499)
"""Of the statuses from 400 to 499 those after which a request may have been carried out all the same."""

BYTES_PER_SECOND = 64 * 1024
"""The slowest connection for which a long body has the time to leave."""


def plain_body(body: JsonObject) -> JsonObject:
    """Return the body of a request without what asks for a stream."""
    return {name: value for name, value in body.items() if name not in _STREAMING}


def chunk_line(group: str, line: JsonObject) -> ChunkLine:
    """Return a line of a chunk; raises as `afkcli.providers.body_json.body_json`."""
    return ChunkLine(group=group, data=body_json(line))


def whole_answer(reader: Reader, answer: Json) -> tuple[ModelResponse, tuple[ModelWarning, ...]]:
    """Return the response in an answer that came as one JSON object, and the warnings about it.

    Raises:
        ProviderError: the answer failed, or it is not an answer.
    """
    warnings: list[ModelWarning] = []
    try:
        warnings += [event for event in reader.feed([dumps(answer)]) if isinstance(event, ModelWarning)]
        if not reader.finished:
            raise ProviderError("the answer is not whole; run it again", kind=ErrorKind.TRUNCATED)
        warnings += [event for event in reader.close() if isinstance(event, ModelWarning)]
        return reader.response(), tuple(warnings)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        line = f"the answer is malformed ({type(error).__name__}: {error}); run it again"
        raise ProviderError(line, kind=ErrorKind.TRUNCATED) from None


def as_refusal(error: ProviderError) -> ProviderError:
    """Return the error of `submit` for that of its request: a `ChunkRefusedError` if nothing was made for sure.

    It is sure where the server refused the request, and where no connection was made. An answer that was lost, or a
    failure of the server, leaves it open.
    """
    status = error.status
    is_refused = status is not None and 400 <= status < 500 and status not in _MAYBE_MADE
    return ChunkRefusedError.of(error) if is_refused or _never_connected(error) else error


def _never_connected(error: ProviderError) -> bool:
    """Return whether a request did not leave: the library says so by the names of its errors."""
    return error.status is None and any(type(cause).__name__ in _NOT_SENT for cause in causes(error))


_NOT_SENT = ("ConnectError", "ConnectTimeout", "ConnectionRefusedError", "gaierror", "SSLCertVerificationError")


async def json_answer(
    connection: Connection[Any],
    call: Callable[[Any], AbstractAsyncContextManager[Any]],
    what: str,
    *,
    seconds: float | None = None,
    once: bool = False,
) -> JsonObject:
    """Return the JSON object that a call of the SDK is answered with.

    Args:
        connection: the connection.
        call, seconds, once: as `Connection.response` has them.
        what: what was asked, for a message: `/batches`.

    Raises:
        ProviderError: there is none.
    """
    async with connection.response(call, seconds=seconds, once=once) as response:
        return as_object(await connection.json_of(response, what), what)


def as_object(answer: Json, what: str) -> JsonObject:
    """Return an answer that is a JSON object; `ProviderError` for any other."""
    if not isinstance(answer, dict):
        raise ProviderError(
            f"the server answered {what} with something that is not an object", kind=ErrorKind.NOT_FOUND
        )
    return answer


def id_of(answer: JsonObject, what: str) -> str:
    """Return the id in an answer; `ProviderError` if it has none."""
    found = answer.get("id")
    if not isinstance(found, str) or not found:
        raise ProviderError(f"the server answered {what} without an id", kind=ErrorKind.TRUNCATED)
    return found


def upload_seconds(size: int, at_least: float) -> float:
    """Return how long the answer to a request may take whose body has `size` bytes."""
    return at_least + size / BYTES_PER_SECOND


async def lines_of(
    connection: Connection[Any], call: Callable[[Any], AbstractAsyncContextManager[Any]], idle_seconds: float
) -> AsyncIterator[JsonObject]:
    """Yield the objects of a file of JSON lines as they come; lines that hold no object are left out.

    Args:
        connection: the connection.
        call: asks for the file, as `Connection.response` has it.
        idle_seconds: the longest time without a byte.

    Raises:
        ProviderError: the file is not there, or it broke off.
    """
    async with connection.response(call) as response:
        async for line in _cut(connection.pieces(response, idle_seconds)):
            found = _object_in(line)
            if found is not None:
                yield found


async def _cut(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the lines of a file that comes in pieces; the last one may have no end."""
    held: list[bytes] = []
    size = 0
    async for piece in pieces:
        *ended, rest = piece.split(b"\n")
        for line in ended:
            yield b"".join((*held, line))
            held, size = [], 0
        held.append(rest)
        size += len(rest)
        if size > MAX_LINE_BYTES:
            raise ProviderError("a line of the results is longer than afk reads", kind=ErrorKind.TRUNCATED)
        if not ended:
            await asyncio.sleep(0)
    yield b"".join(held)


def _object_in(line: bytes) -> JsonObject | None:
    try:
        return loads_object(line.decode("utf-8", "replace")) if line.strip() else None
    except ValueError:
        return None


def count_in(counts: Json, *names: str) -> int | None:
    """Return the sum of those of the counts that are there; None if none is."""
    found: Mapping[str, Any] = counts if isinstance(counts, dict) else {}
    values = [found[name] for name in names if isinstance(found.get(name), int)]
    return sum(values) if values else None
