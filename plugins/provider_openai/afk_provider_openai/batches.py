"""The Batch API: https://developers.openai.com/api/docs/guides/batch

A file of requests is uploaded, a batch is made of it, and two files come back: the answers, and the requests that
failed or were not worked on. Other servers that have this API are used in the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from afk_provider_openai.connection import Connection
from afk_provider_openai.settings import AZURE_PATH, Server
from afkcli.plugin import (
    Chunk,
    ChunkLimits,
    ChunkLine,
    ChunkResult,
    ChunkState,
    ChunkStatus,
    ErrorKind,
    FoundChunk,
    Json,
    JsonObject,
    ModelRequest,
    ProviderError,
    UsageError,
    dumps,
)
from afkcli.providers.answer_stream import Reader
from afkcli.providers.batch_calls import (
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

LIMITS = ChunkLimits(max_requests=50_000, max_bytes=200_000_000, hours=24, price_factor=0.5)
"""Half of the usual price is OpenAI's; the API does not tell what another server takes."""

KEY = "afk_chunk"
"""The metadata of a batch by which it is found again."""

VERSION_PATH = "/v1"
"""The API names its endpoints with it, whatever the base URL is."""

MAX_PAGES = 20
PAGE = 100

_ENDED = ("completed", "expired", "cancelled", "canceled", "succeeded")
_UNANSWERED: Mapping[Any, Any] = {
    "batch_expired": "expired",
    "batch_cancelled": "cancelled",
    "batch_canceled": "cancelled",
}
_LATER = ("token_limit", "rate_limit", "quota_wait", "too_many")
"""In the code of an error: the same batch may be taken once others have ended."""

_RETRIED = (ErrorKind.RATE_LIMIT, ErrorKind.OVERLOADED, ErrorKind.NETWORK, ErrorKind.TIMEOUT)

Call = Callable[[ModelRequest], tuple[str, JsonObject, Reader]]


class Batches:
    """The batches of one server.

    Args:
        connection: the connection of the provider.
        server: the server.
        call: returns where a request is sent, its body, and what reads its answer.

    Raises:
        UsageError: the URL of the server is one that has no batches.
    """

    limits = LIMITS

    def __init__(self, connection: Connection, server: Server, call: Call) -> None:
        if AZURE_PATH in server.url:
            raise UsageError(
                f"{server.name} has no batches below {AZURE_PATH}; set base_url to the URL that ends with /openai/v1"
            )
        self._connection = connection
        self._server = server
        self._call = call

    def line(self, request_id: str, request: ModelRequest) -> ChunkLine:
        """Return the line of a request; a batch has one model and one endpoint."""
        path, body, _ = self._call(request)
        url = VERSION_PATH + path
        group = f"{url} {body.get('model')}"
        return chunk_line(group, {"custom_id": request_id, "method": "POST", "url": url, "body": plain_body(body)})

    async def upload(self, chunk: Chunk) -> str:
        """Upload the file of a chunk, and return its id."""
        content = await asyncio.to_thread(Path(chunk.path).read_bytes)
        sent = (f"{chunk.key}.jsonl", content, "application/jsonl")
        made = await json_answer(
            self._connection,
            lambda client: client.files.with_streaming_response.create(file=sent, purpose="batch"),
            "/files",
            seconds=upload_seconds(len(content), self._server.settings.first_byte_timeout),
        )
        return id_of(made, "/files")

    async def submit(self, chunk: Chunk, uploaded: str) -> str:
        """Make a batch of the uploaded file, and return its id."""
        endpoint = chunk.group.partition(" ")[0]
        try:
            made = await json_answer(
                self._connection,
                lambda client: client.batches.with_streaming_response.create(
                    input_file_id=uploaded, endpoint=endpoint, completion_window="24h", metadata={KEY: chunk.key}
                ),
                "/batches",
                once=True,
            )
        except ProviderError as error:
            raise as_refusal(error) from error
        return id_of(made, "/batches")

    async def find(self, chunk: Chunk, uploaded: str, taken: Collection[str]) -> FoundChunk | None:
        """Return the batch that has the key of a chunk in its metadata, or its file as input."""
        after: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            page = await json_answer(
                self._connection,
                partial(_page, after),
                "/batches",
            )
            listed = [batch for batch in _list(page.get("data")) if isinstance(batch.get("id"), str)]
            for batch in listed:
                if batch["id"] not in taken and _is_of(batch, chunk.key, uploaded):
                    return FoundChunk(id=batch["id"])
            if page.get("has_more") is not True or not listed or after == {"after": listed[-1]["id"]}:
                return None
            after = {"after": listed[-1]["id"]}
        return None

    async def status(self, batch_id: str) -> ChunkStatus:
        """Return how far a batch is."""
        batch = await self._batch(batch_id)
        said = str(batch.get("status"))
        counts = batch.get("request_counts")
        answered, failed = count_in(counts, "completed"), count_in(counts, "failed")
        has_files = any(_files(batch))
        if said == "failed" and not has_files and not answered:
            error = self._refusal(batch)
            return ChunkStatus(state=ChunkState.REFUSED, said=said, answered=answered, failed=failed, error=error)
        if said not in _ENDED and said != "failed":
            return ChunkStatus(state=ChunkState.RUNNING, said=said, answered=answered, failed=failed)
        began = has_files or bool(answered) or bool(failed)
        return ChunkStatus(
            state=ChunkState.ENDED,
            said=said,
            answered=answered,
            failed=failed,
            unanswered="" if began else _UNANSWERED.get(f"batch_{said}", ""),
        )

    async def results(
        self,
        batch_id: str,
        request_of: Callable[[str], ModelRequest | None],
    ) -> AsyncIterator[ChunkResult]:
        """Yield what the two files of a batch say, the answers first."""
        batch = await self._batch(batch_id)
        files = [file for file in _files(batch) if file]
        if not files:
            raise ProviderError(f"{self._server.name} has no results of {batch_id} yet", kind=ErrorKind.NOT_FOUND)
        for file in files:
            lines = lines_of(
                self._connection,
                partial(_content, file),
                self._server.settings.idle_timeout,
            )
            async for line in lines:
                name = line.get("custom_id")
                request = request_of(name) if isinstance(name, str) else None
                if request is not None:
                    yield self._result(str(name), line, request)

    async def cancel(self, batch_id: str) -> None:
        """Cancel a batch, unless it has ended."""
        try:
            await json_answer(
                self._connection,
                lambda client: client.batches.with_streaming_response.cancel(batch_id),
                f"/batches/{batch_id}",
            )
        except ProviderError as error:
            if error.status not in (400, 409) or (await self.status(batch_id)).state is ChunkState.RUNNING:
                raise

    async def remove(self, uploaded: str) -> None:
        """Delete the uploaded file."""
        try:
            await json_answer(
                self._connection, lambda client: client.files.with_streaming_response.delete(uploaded), "/files"
            )
        except ProviderError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                raise

    async def _batch(self, batch_id: str) -> JsonObject:
        return await json_answer(
            self._connection,
            lambda client: client.batches.with_streaming_response.retrieve(batch_id),
            f"/batches/{batch_id}",
        )

    def _result(self, request_id: str, line: JsonObject, request: ModelRequest) -> ChunkResult:
        error, response = line.get("error"), line.get("response")
        if isinstance(error, dict) and error.get("code") in _UNANSWERED:
            return ChunkResult(id=request_id, unanswered=_UNANSWERED[error["code"]])
        told = response if isinstance(response, dict) else {}
        status, body = told.get("status_code"), told.get("body")
        errors = self._server.errors
        try:
            if isinstance(status, int) and not 200 <= status < 300:
                raise errors.response(request.model, status, {}, dumps(body).encode())
            if error or not isinstance(body, dict):
                raise errors.event(request.model, {"error": error or {"message": "no response and no error"}})
            _, _, reader = self._call(request)
            answer, warnings = whole_answer(reader, body)
        except ProviderError as failure:
            return ChunkResult(id=request_id, error=failure)
        return ChunkResult(id=request_id, response=answer, warnings=warnings)

    def _refusal(self, batch: JsonObject) -> ProviderError:
        """Return the error that says why a batch was refused: the first ones of all that the server names."""
        told = batch.get("errors")
        errors = _list(told.get("data") if isinstance(told, dict) else told)
        codes = {str(error.get("code") or "") for error in errors}
        lines = [_where(error) + str(error.get("message") or error.get("code")) for error in errors[:3]]
        words = "; ".join(lines) or "it did not say why"
        told_errors, model = self._server.errors, str(batch.get("model") or "the model of the batch")
        if any(sign in code for code in codes for sign in _LATER):
            return told_errors.of_kind(model, ErrorKind.RATE_LIMIT, words)
        read = told_errors.event(model, {"error": {"message": words, "code": next(iter(codes), "")}})
        # What is not known is not a failure of the server: the same batch would be refused again.
        return read if read.kind not in _RETRIED else told_errors.of_kind(model, ErrorKind.BAD_REQUEST, words)


def _where(error: JsonObject) -> str:
    return f"line {error['line']}: " if isinstance(error.get("line"), int) else ""


def _list(value: Json) -> list[JsonObject]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _files(batch: JsonObject) -> tuple[str, str]:
    """Return the ids of the files of answers and of errors; "" where there is none."""
    output, errors = batch.get("output_file_id"), batch.get("error_file_id")
    return (output if isinstance(output, str) else "", errors if isinstance(errors, str) else "")


def _is_of(batch: JsonObject, key: str, uploaded: str) -> bool:
    metadata = batch.get("metadata")
    has_key = isinstance(metadata, dict) and metadata.get(KEY) == key
    return has_key or (bool(uploaded) and batch.get("input_file_id") == uploaded)


def _page(after: Mapping[str, str], client: Any) -> Any:
    return client.batches.with_streaming_response.list(limit=PAGE, **after)


def _content(file: str, client: Any) -> Any:
    return client.files.with_streaming_response.content(file)
