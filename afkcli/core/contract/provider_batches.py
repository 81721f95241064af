"""What afk asks of a provider whose servers take many requests at once, to answer them later at a lower price.

A provider that has such an endpoint has a method `batches` (`BatchingProvider`), which returns a `ProviderBatches`. afk
cuts the prompts of a batch into chunks. Each chunk becomes one batch of the provider. Since: 0.2.

The way of a chunk: `line` makes each request; `upload` sends the file of all lines, which costs nothing; `submit`
starts the work, and is what is paid; `status` is asked until the chunk has ended; `results` gives an answer or an error
for each request; `remove` deletes what `upload` left. If the answer to `submit` is lost, `find` looks for its batch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from enum import StrEnum
from os import PathLike
from typing import Literal, Protocol

from afkcli.core.contract.errors import ProviderError
from afkcli.core.contract.messages import ModelRequest, ModelResponse, ModelWarning
from afkcli.core.contract.protocols import Provider
from afkcli.core.contract.structs import FrozenStruct

MAX_KEY_CHARS = 32
"""The longest `Chunk.key`. An id of a request is the key, a hyphen and a number of at most nine digits."""


class ChunkLimits(FrozenStruct, kw_only=True):
    """What one batch of a provider may have.

    `max_bytes` counts the file of lines: each line, and a byte for its end. Within `hours` the provider has answered,
    or gives up. `price_factor` is what a request costs, as a part of its usual price. `max_id_chars` is the longest id
    of a request; ids have letters, digits and hyphens. Since: 0.2.
    """

    max_requests: int
    max_bytes: int
    hours: float
    price_factor: float
    max_id_chars: int = 64


class ChunkLine(FrozenStruct, kw_only=True):
    """One request in the form in which the provider's batches have it: one line of JSON, without the end of the line.

    Only requests of the same `group` go into one chunk: the model, for instance, where a batch has one model.
    Since: 0.2.
    """

    group: str
    data: bytes

    def __repr__(self) -> str:
        return f"ChunkLine(group={self.group!r})"  # its data may be megabytes


class Chunk(FrozenStruct, kw_only=True):
    """Requests that become one batch of the provider: `count` lines in the file `path`, all of one `group`.

    `key` belongs to this chunk alone: lower-case letters, digits and hyphens, at most `MAX_KEY_CHARS`. The id of each
    request begins with it. `made` is when the chunk was made, in seconds since the epoch. Since: 0.2.
    """

    key: str
    group: str
    path: str | PathLike[str]
    count: int
    made: float


class ChunkState(StrEnum):
    """Where a batch of a provider is. Since: 0.2.

    `running`: it is worked on, or waits for that; a word of the provider that is not known means this, too. `ended`:
    there is a result for each request that the provider has not lost, be it that some are cancelled or expired.
    `refused`: it was refused as a whole before any request of it was worked on, and nothing is paid.
    """

    RUNNING = "running"
    ENDED = "ended"
    REFUSED = "refused"


class ChunkStatus(FrozenStruct, kw_only=True):
    """How far a batch of a provider is; `said` is the provider's own word for its state.

    `answered` and `failed` count requests, None if the provider did not say. `error` is why the batch was refused: of
    the kind `rate_limit` or `overloaded` if the same chunk may be taken later. `unanswered` is set where the batch was
    `cancelled` or `expired` before any request was worked on, so that it has no results. Since: 0.2.
    """

    state: ChunkState
    said: str
    answered: int | None = None
    failed: int | None = None
    error: ProviderError | None = None
    unanswered: Literal["", "cancelled", "expired"] = ""


class ChunkResult(FrozenStruct, kw_only=True):
    """The result of one request: its `id`, and one of the other three.

    `response` is the answer, with `warnings` about it. `error` is why the request failed. `unanswered` is that the
    provider did not work on it, because the batch was `cancelled`, or had `expired` before. Since: 0.2.
    """

    id: str
    response: ModelResponse | None = None
    warnings: tuple[ModelWarning, ...] = ()
    error: ProviderError | None = None
    unanswered: Literal["", "cancelled", "expired"] = ""


class FoundChunk(FrozenStruct, kw_only=True):
    """A batch that `find` has found, by the id that the provider gave it.

    `is_certain` is False if it may be of someone else: its results will say, by their ids. Then afk does not cancel
    it. Since: 0.2.
    """

    id: str
    is_certain: bool = True


class ChunkRefusedError(ProviderError):
    """The provider refused a chunk, and it is certain that nothing was made of it. Since: 0.2."""

    @classmethod
    def of(cls, error: ProviderError) -> ChunkRefusedError:
        """Return an error with all that another one says."""
        return cls(str(error), kind=error.kind, retry_after=error.retry_after, status=error.status, said=error.said)


class ProviderBatches(Protocol):
    """The batches of a provider; nothing here may block the event loop. Every method makes one attempt. Since: 0.2."""

    @property
    def limits(self) -> ChunkLimits: ...

    def line(self, request_id: str, request: ModelRequest) -> ChunkLine:
        """Return the line of a request: what `Provider.stream` would send for it, but for the streaming.

        Raises:
            ProviderError: `stream` would not send it, or the batches do not take it.
        """
        ...

    async def upload(self, chunk: Chunk) -> str:
        """Send the file of a chunk ahead, if the API wants that, and return the id that the API gave it, else "".

        Nothing of this is paid, so that it may be done again.

        Raises:
            ProviderError: it failed.
        """
        ...

    async def submit(self, chunk: Chunk, uploaded: str) -> str:
        """Have a chunk worked on, and return the id of the batch that the provider has made.

        The request leaves at most once: nothing below it sends it again.

        Args:
            chunk: the chunk.
            uploaded: what `upload` returned.

        Raises:
            ChunkRefusedError: nothing was made, so that the chunk may be submitted again.
            ProviderError: it is not known whether a batch was made.
        """
        ...

    async def find(self, chunk: Chunk, uploaded: str, taken: Collection[str]) -> FoundChunk | None:
        """Return the batch that was made of a chunk, None if there is none or more than one may be it.

        Args:
            chunk: the chunk; its file may be gone.
            uploaded: what `upload` returned.
            taken: ids of batches that are known to be of other chunks.

        Raises:
            ProviderError: the provider could not be asked.
        """
        ...

    async def status(self, batch_id: str) -> ChunkStatus:
        """Return how far a batch is; `ProviderError` if the provider could not be asked."""
        ...

    def results(self, batch_id: str, request_of: Callable[[str], ModelRequest | None]) -> AsyncIterator[ChunkResult]:
        """Yield the results of the requests of a batch that has ended, in any order.

        A request may come twice, and may be missing: the first one counts.

        Args:
            batch_id: the batch.
            request_of: returns the request of an id; None if the id is not of this chunk, and the result is left out.

        Raises:
            ProviderError: the results could not be read to the end; `not_found` if they are not there (yet).
        """
        ...

    async def cancel(self, batch_id: str) -> None:
        """Ask the provider to end a batch early; one that has ended stays as it is. `ProviderError` if that failed."""
        ...

    async def remove(self, uploaded: str) -> None:
        """Delete what `upload` left at the provider, if it is there. `ProviderError` if that failed."""
        ...


class BatchingProvider(Provider, Protocol):
    """A provider whose servers take batches. The method is optional: without it, `--via provider` is refused.

    Since: 0.2.
    """

    def batches(self) -> ProviderBatches:
        """Return the batches of the provider, which use its connection.

        Raises:
            UsageError: the server that is set up has none.
        """
        ...
