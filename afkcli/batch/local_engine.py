"""The engine of one machine, which is built in: each batch is one SQLite file in afk's data folder.

Processes share a batch by its file. A worker holds a lock on a file of its own, which the system lets go when it dies.
A claim is not synced to the disk, because nothing was sent by it; what `reserve` allows and `settle` keeps is.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from afkcli.batch.batch_file import BatchFile
from afkcli.batch.batch_tables import create_file
from afkcli.batch.group_commit import GroupCommit, engine_error
from afkcli.batch.spare_room import keep_spare_room
from afkcli.batch.worker_locks import WorkerLocks
from afkcli.core.contract.engine import (
    BatchInfo,
    BatchLimits,
    Claimed,
    Grant,
    News,
    Outcome,
    PromptInfo,
    PromptState,
    QueuedPrompt,
    Reservation,
    SettledPrompt,
    Submitted,
    TakenOver,
    Used,
)
from afkcli.core.contract.errors import EngineError, UnknownNameError
from afkcli.core.contract.ids import rfc3339
from afkcli.core.contract.jsonform import JsonObject
from afkcli.host.files import make_private_folder, sync_folder

T = TypeVar("T")

POLL_SECONDS: Final = 0.05
"""How often a waiting call looks whether another process has written."""
MAX_ID_CHARS: Final = 200


class LocalEngine:
    """Keeps batches in the files of a folder, which it makes.

    Args:
        folder: the folder; that of afk's batches, or another one in tests.
    """

    name = "local"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, GroupCommit] = {}
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="afk-batch-disk")
        self._locks = WorkerLocks(folder / "workers")

    def file_of(self, name: str) -> Path:
        """Return the file of the batch `name`, whether it is there or not."""
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.sqlite"

    # -- the batch ---------------------------------------------------------------------------------------------------

    async def create(self, name: str, settings: JsonObject, limits: BatchLimits) -> BatchInfo:
        path = self.file_of(name)
        if not path.exists():
            with _readable_errors(path):
                make_private_folder(self._folder)
                create_file(path, name, rfc3339(time.time()), settings, limits)
                sync_folder(self._folder)
        group = self._group(name)
        with _readable_errors(path):
            keep_spare_room(path)
        await group.write(lambda file: file.set(settings, limits))
        return self._read(name, BatchFile.info)

    async def batch(self, name: str) -> BatchInfo | None:
        return self._read(name, BatchFile.info) if self.file_of(name).exists() else None

    async def batches(self) -> Sequence[BatchInfo]:
        found = [info for path in sorted(self._folder.glob("*.sqlite")) for info in [self._info_of(path)] if info]
        return sorted(found, key=lambda info: info.created, reverse=True)

    def _info_of(self, path: Path) -> BatchInfo | None:
        try:
            with _readable_errors(path):
                file = BatchFile(path)
                try:
                    return file.info()
                finally:
                    file.close()
        except EngineError as error:
            if not path.exists():  # it was removed meanwhile
                return None
            # One that is damaged hides no other; it is listed by its file, with what is wrong.
            return BatchInfo(
                name=str(path), created="", settings={}, limits=BatchLimits(), paused=f"{error}; remove the file"
            )

    async def pause(self, name: str, reason: str) -> None:
        await self._group(name).write(lambda file: file.pause(reason))

    async def remove(self, name: str) -> None:
        path = self.file_of(name)
        if not path.exists():
            return
        workers = self._read(name, BatchFile.workers)
        if any(self._locks.is_alive(worker) for worker in workers):
            raise EngineError(f"the batch {name} is running; stop it first")
        group = self._open.pop(name, None)
        if group is not None:
            await group.drain()
            group.file.close()
        with _readable_errors(path):
            for suffix in ("", "-wal", "-shm", ".spare"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            sync_folder(self._folder)

    # -- the prompts -------------------------------------------------------------------------------------------------

    async def submit(self, name: str, prompts: Sequence[QueuedPrompt], *, replace: bool = False) -> Submitted:
        odd = next((prompt.id for prompt in prompts if not 0 < len(prompt.id) <= MAX_ID_CHARS), None)
        if odd is not None:
            raise EngineError(f"an id has 1 to {MAX_ID_CHARS} characters (got {odd[:80]!r})")
        return await self._group(name).write(lambda file: file.submit(prompts, replace))

    async def prompts(self, name: str, *, after: int = -1, limit: int = 1000) -> Sequence[PromptInfo]:
        return self._read(name, lambda file: file.prompts(after, limit))

    async def outcomes(self, name: str, ids: Sequence[str]) -> Sequence[SettledPrompt]:
        return self._read(name, lambda file: file.outcomes(ids))

    async def watch(self, name: str, *, after: int = 0, limit: int = 1000, wait_s: float = 0.0) -> News:
        def look() -> News:
            return self._read(name, lambda file: file.watch(after, limit))

        return await self._until(name, look, lambda news: bool(news.outcomes), wait_s)

    async def retry(self, name: str, states: Collection[PromptState], ids: Collection[str] | None = None) -> int:
        return await self._group(name).write(lambda file: file.retry(states, ids))

    async def cancel(self, name: str, ids: Collection[str] | None = None) -> int:
        return await self._group(name).write(lambda file: file.cancel(ids))

    # -- the workers -------------------------------------------------------------------------------------------------

    async def join(self, worker: str) -> None:
        with _readable_errors(self._folder):
            self._locks.hold(worker)

    async def claim(self, name: str, worker: str, limit: int, *, wait_s: float = 0.0) -> Claimed:
        group = self._group(name)
        deadline = time.monotonic() + wait_s
        while True:
            claimed = await group.write(lambda file: _claim(file, worker, limit), durable=False)
            if claimed.prompts or claimed.is_over or time.monotonic() >= deadline:
                return claimed
            await self._changed(group, deadline)

    async def reserve(self, name: str, reservations: Sequence[Reservation]) -> Sequence[Grant]:
        return await self._group(name).write(lambda file: [file.reserve(asked, time.time()) for asked in reservations])

    async def use(self, name: str, used: Sequence[Used]) -> None:
        def use(file: BatchFile) -> None:
            for item in used:
                file.use(item)

        await self._group(name).write(use, durable=False)

    async def slow_down(self, name: str, model: str, seconds: float) -> None:
        await self._group(name).write(lambda file: file.hold(model, seconds, time.time()), durable=False)

    async def settle(self, name: str, outcomes: Sequence[Outcome]) -> Sequence[str]:
        return await self._group(name).write(lambda file: [item.id for item in outcomes if not file.settle(item)])

    async def take_over(self, name: str) -> TakenOver:
        dead = [worker for worker in self._read(name, BatchFile.workers) if not self._locks.is_alive(worker)]
        if not dead:
            return TakenOver()
        return await self._group(name).write(lambda file: file.take_over(dead))

    async def aclose(self) -> None:
        for group in self._open.values():
            await group.drain()
            group.file.close()
        self._open.clear()
        self._locks.release()
        self._disk.shutdown()  # and wait: a process with another thread must not fork

    # -- files -------------------------------------------------------------------------------------------------------

    def _group(self, name: str) -> GroupCommit:
        group = self._open.get(name)
        if group is None:
            path = self.file_of(name)
            if not path.exists():
                raise UnknownNameError(f"there is no batch {name!r}; `afk batch list` shows them")
            with _readable_errors(path):
                group = self._open[name] = GroupCommit(BatchFile(path), self._disk)
        return group

    def _read(self, name: str, read: Callable[[BatchFile], T]) -> T:
        """Read outside a transaction of ours: those are never open while the event loop runs other tasks."""
        file = self._group(name).file
        with _readable_errors(file.path):
            return read(file)

    async def _until(self, name: str, look: Callable[[], T], enough: Callable[[T], bool], wait_s: float) -> T:
        deadline = time.monotonic() + wait_s
        found = look()
        while not enough(found) and time.monotonic() < deadline:
            await self._changed(self._group(name), deadline)
            found = look()
        return found

    async def _changed(self, group: GroupCommit, deadline: float) -> None:
        """Wait until something was written to the batch, by this process or another, or the deadline has passed."""
        with _readable_errors(group.file.path):
            before = (group.commits, group.file.has_changed())
            while time.monotonic() < deadline:
                await asyncio.sleep(min(POLL_SECONDS, max(deadline - time.monotonic(), 0.001)))
                if (group.commits, group.file.has_changed()) != before:
                    return


def _claim(file: BatchFile, worker: str, limit: int) -> Claimed:
    prompts = file.claim(worker, limit)
    return Claimed(prompts=prompts, is_over=not prompts and file.is_over())


@contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise engine_error(path, error) from None
