"""The Message Batches API: https://platform.claude.com/docs/en/build-with-claude/batch-processing

All requests of a batch are sent in one body, and one file of results comes back. A batch has no name of ours: where the
answer to the request that makes it is lost, it is looked for by its time and size, and its results tell whose it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from afk_provider_anthropic.connection import Connection, headers_of
from afk_provider_anthropic.settings import Server
from afkcli.plugin import (
    Chunk,
    ChunkLimits,
    ChunkLine,
    ChunkResult,
    ChunkState,
    ChunkStatus,
    FoundChunk,
    Json,
    JsonObject,
    ModelRequest,
    ProviderError,
    dumps,
    loads_object,
)
from afkcli.providers.answer_stream import Reader
from afkcli.providers.batch_calls import (
    as_object,
    as_refusal,
    chunk_line,
    count_in,
    id_of,
    json_answer,
    lines_of,
    plain_body,
    upload_seconds,
    whole_answer,
)

PATH = "/v1/messages/batches"

FRAME_BYTES = 1024
"""What the body of a batch has beside its requests."""

LIMITS = ChunkLimits(max_requests=100_000, max_bytes=256_000_000 - FRAME_BYTES, hours=24, price_factor=0.5)

CLOCK_SECONDS = 600
"""By how much the clocks of this machine and of the server may differ."""

MAX_PAGES = 20
PAGE = 100
_COUNTS = ("processing", "succeeded", "errored", "canceled", "expired")
_UNANSWERED: Mapping[Any, Any] = {"canceled": "cancelled", "cancelled": "cancelled", "expired": "expired"}

Call = Callable[[ModelRequest], tuple[JsonObject, Reader]]


class Batches:
    """The batches of one server.

    Args:
        connection: the connection of the provider.
        server: the server.
        call: returns the body of a request, and what reads its answer.
    """

    limits = LIMITS

    def __init__(self, connection: Connection, server: Server, call: Call) -> None:
        self._connection = connection
        self._server = server
        self._call = call

    def line(self, request_id: str, request: ModelRequest) -> ChunkLine:
        """Return the line of a request. The versions of the API that it needs are headers of the whole batch."""
        body, _ = self._call(request)
        group = dumps(headers_of(self._server, body))
        return chunk_line(group, {"custom_id": request_id, "params": plain_body(body)})

    async def upload(self, chunk: Chunk) -> str:
        """Upload nothing: the requests are sent with the one that makes the batch."""
        return ""

    async def submit(self, chunk: Chunk, uploaded: str) -> str:
        """Make a batch of a chunk, and return its id."""
        content = await asyncio.to_thread(_content, Path(chunk.path))
        headers = {name: str(value) for name, value in loads_object(chunk.group).items()}
        seconds = upload_seconds(len(content), self._server.settings.first_byte_timeout)
        try:
            async with self._connection.posted(PATH, content, headers, seconds) as response:
                return id_of(as_object(await self._connection.json_of(response, PATH), PATH), PATH)
        except ProviderError as error:
            raise as_refusal(error) from error

    async def find(self, chunk: Chunk, uploaded: str, taken: Collection[str]) -> FoundChunk | None:
        """Return the one batch of as many requests that was made since the chunk was, None if there are more."""
        found: list[str] = []
        after: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            page = await json_answer(
                self._connection,
                partial(_page, after),
                PATH,
            )
            data = page.get("data")
            listed = [batch for batch in data if isinstance(batch, dict)] if isinstance(data, list) else []
            recent = [batch for batch in listed if _made(batch.get("created_at")) >= chunk.made - CLOCK_SECONDS]
            found += [
                batch["id"]
                for batch in recent
                if batch.get("id") not in taken and count_in(batch.get("request_counts"), *_COUNTS) == chunk.count
            ]
            last = page.get("last_id")
            if page.get("has_more") is not True or len(recent) < len(listed) or not isinstance(last, str):
                break
            if after == {"after_id": last}:
                break
            after = {"after_id": last}
        return FoundChunk(id=found[0], is_certain=False) if len(found) == 1 else None

    async def status(self, batch_id: str) -> ChunkStatus:
        """Return how far a batch is; the API counts only once all of it has ended."""
        batch = await json_answer(
            self._connection,
            lambda client: client.messages.batches.with_streaming_response.retrieve(batch_id),
            f"{PATH}/{batch_id}",
        )
        counts = batch.get("request_counts")
        said = str(batch.get("processing_status"))
        return ChunkStatus(
            state=ChunkState.ENDED if said == "ended" else ChunkState.RUNNING,
            said=said,
            answered=count_in(counts, "succeeded"),
            failed=count_in(counts, "errored", "canceled", "expired"),
        )

    async def results(
        self,
        batch_id: str,
        request_of: Callable[[str], ModelRequest | None],
    ) -> AsyncIterator[ChunkResult]:
        """Yield what the file of results says. It is asked for at our address, whatever `results_url` has."""
        lines = lines_of(
            self._connection,
            self._connection.file_at(f"{PATH}/{batch_id}/results"),
            self._server.settings.idle_timeout,
        )
        async for line in lines:
            name = line.get("custom_id")
            request = request_of(name) if isinstance(name, str) else None
            if request is not None:
                yield self._result(str(name), line.get("result"), request)

    async def cancel(self, batch_id: str) -> None:
        """Cancel a batch, unless it has ended."""
        try:
            await json_answer(
                self._connection,
                lambda client: client.messages.batches.with_streaming_response.cancel(batch_id),
                f"{PATH}/{batch_id}/cancel",
            )
        except ProviderError as error:
            if error.status not in (400, 409) or (await self.status(batch_id)).state is ChunkState.RUNNING:
                raise

    async def remove(self, uploaded: str) -> None:
        """Remove nothing: nothing was uploaded."""

    def _result(self, request_id: str, result: Json, request: ModelRequest) -> ChunkResult:
        told = result if isinstance(result, dict) else {}
        kind = told.get("type")
        if kind in _UNANSWERED:
            return ChunkResult(id=request_id, unanswered=_UNANSWERED[kind])
        try:
            if not isinstance(told.get("message"), dict):
                error = told.get("error") or {"message": f"the result is of the type {kind!r}"}
                raise self._server.errors.event(request.model, error)
            _, reader = self._call(request)
            answer, warnings = whole_answer(reader, told["message"])
        except ProviderError as failure:
            return ChunkResult(id=request_id, error=failure)
        return ChunkResult(id=request_id, response=answer, warnings=warnings)


def _content(path: Path) -> bytes:
    """Return the body that makes a batch of a file of lines."""
    return b'{"requests":[' + b",".join(path.read_bytes().splitlines()) + b"]}"


def _made(created: Json) -> float:
    """Return the time in RFC 3339 in seconds since the epoch; now and later where there is none."""
    try:
        return datetime.fromisoformat(str(created)).timestamp()
    except ValueError:
        return float("inf")


def _page(after: Mapping[str, str], client: Any) -> Any:
    return client.messages.batches.with_streaming_response.list(limit=PAGE, **after)
