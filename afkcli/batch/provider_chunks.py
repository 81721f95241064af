"""The chunks of a batch that are at a provider: what is known of each, which the engine keeps with its settings.

A chunk is written down before it can be paid. So another process, on another day, finds what was sent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from afkcli.core.contract.engine import BatchInfo, Engine
from afkcli.core.contract.errors import EngineError
from afkcli.core.contract.jsonform import JsonError, JsonObject, to_plain
from afkcli.core.contract.provider_batches import Chunk
from afkcli.core.contract.structs import FrozenStruct, replace
from afkcli.core.contract.typed_json import from_json

CHUNKS: Final = "chunks"
"""The name of the chunks among the settings of a batch."""


class ChunkRecord(FrozenStruct, kw_only=True):
    """What is known of a chunk.

    Args:
        provider: the name of the provider.
        group, count, made: as `Chunk` has them.
        uploaded: the id of its file at the provider, "" without one.
        batch: the id that the provider gave its batch; "" as long as it is not known whether there is one.
        certain: whether that batch is ours beyond doubt.
        refused: whether the provider refused the chunk, so that there is no batch.
    """

    provider: str
    group: str
    count: int
    made: float
    uploaded: str = ""
    batch: str = ""
    certain: bool = True
    refused: bool = False

    def chunk(self, key: str, path: Path) -> Chunk:
        """Return the chunk as its provider wants it."""
        return Chunk(key=key, group=self.group, path=path, count=self.count, made=self.made)


def chunks_in(settings: Mapping[str, Any]) -> dict[str, ChunkRecord]:
    """Return the chunks among the settings of a batch, by their keys.

    Raises:
        EngineError: they were written by another version, or are damaged.
    """
    try:
        return {key: from_json(ChunkRecord, form) for key, form in settings.get(CHUNKS, {}).items()}
    except JsonError as error:
        raise EngineError(f"what is known of the batches at the provider cannot be read: {error}") from None


def kept_settings(settings: JsonObject, before: BatchInfo | None) -> JsonObject:
    """Return new settings of a batch, with the chunks that it has."""
    chunks = before.settings.get(CHUNKS) if before is not None else None
    return {**settings, CHUNKS: chunks} if chunks else settings


class ChunkBook:
    """The chunks of one batch; what is put here is durable when the call returns.

    Args:
        engine, batch: where it is kept.
        chunks: what is there already.
    """

    def __init__(self, engine: Engine, batch: str, chunks: Mapping[str, ChunkRecord]) -> None:
        self._engine = engine
        self._batch = batch
        self._chunks = dict(chunks)

    @property
    def chunks(self) -> Mapping[str, ChunkRecord]:
        return self._chunks

    def taken(self) -> set[str]:
        """Return the ids of the batches that are known."""
        return {record.batch for record in self._chunks.values() if record.batch}

    async def put(self, key: str, record: ChunkRecord) -> None:
        """Write a chunk down."""
        self._chunks[key] = record
        await self._save()

    async def change(self, key: str, **fields: Any) -> None:
        """Change what is known of a chunk."""
        await self.put(key, replace(self._chunks[key], **fields))

    async def drop(self, key: str) -> None:
        """Forget a chunk of which nothing is open."""
        if self._chunks.pop(key, None) is not None:
            await self._save()

    async def _save(self) -> None:
        info = await self._engine.batch(self._batch)
        if info is None:
            raise EngineError(f"the batch {self._batch} was removed while it ran")
        form = {key: to_plain(record) for key, record in self._chunks.items()}
        await self._engine.create(self._batch, {**info.settings, CHUNKS: form}, info.limits)
        if info.paused is not None:  # which `create` ends
            await self._engine.pause(self._batch, info.paused)


def new_key() -> str:
    """Return a key that no other chunk has."""
    return f"afk-{os.urandom(8).hex()}"
