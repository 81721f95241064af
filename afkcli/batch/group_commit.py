"""Writes of many prompts in one transaction and one sync of the disk: what comes while one is written joins the next.

The statements run on the event loop, where they take microseconds each: another operating-system thread would wait for
the interpreter at every statement. Only what waits for the disk is given to one.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from afkcli.batch.batch_file import BatchFile
from afkcli.batch.spare_room import FULL, free_spare_room, is_full
from afkcli.core.contract.errors import AfkError, EngineError
from afkcli.core.contract.structs import Struct

T = TypeVar("T")

LOCK_SECONDS: Final = 60.0
"""How long a write waits for other processes."""
CHECKPOINT_BYTES: Final = 8 * 1024 * 1024
"""The size from which the log is written back into the file."""


class _Write(Struct):
    operation: Callable[[BatchFile], Any]
    durable: bool
    done: asyncio.Future[Any]


class GroupCommit:
    """Carries out the writes to one batch file, in the order in which they come."""

    def __init__(self, file: BatchFile, disk: ThreadPoolExecutor) -> None:
        self.file = file
        self.commits = 0
        self._disk = disk
        self._log = file.path.with_name(file.path.name + "-wal")
        self._pending: list[_Write] = []
        self._working: asyncio.Task[None] | None = None

    async def write(self, operation: Callable[[BatchFile], T], *, durable: bool = True) -> T:
        """Run `operation` in a transaction, and return what it returns once it is written.

        An `AfkError` that it raises, before it has written anything, is raised here. If the task is cancelled the
        operation may be carried out all the same.

        Raises:
            EngineError: it could not be written.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._pending.append(_Write(operation, durable, done))
        if self._working is None:
            self._working = asyncio.ensure_future(self._work())
        return await done

    async def drain(self) -> None:
        """Wait until all that was asked for is written."""
        while self._working is not None:
            await asyncio.wait({self._working})

    async def _work(self) -> None:
        try:
            while self._pending:
                await asyncio.sleep(0)  # what comes in the same turn of the loop joins
                writes, self._pending = self._pending, []
                await self._carry_out(writes)
        finally:
            self._working = None
            for write in self._pending:  # the loop is closing
                write.done.cancel()

    async def _carry_out(self, writes: list[_Write]) -> None:
        try:
            try:
                results = await self._written(writes)
            except (sqlite3.Error, OSError) as error:
                if not is_full(error):
                    raise
                # What was paid is kept in the room that was spared for it, and nothing more is sent.
                free_spare_room(self.file.path)
                results = await self._written(writes, pause=FULL)
        except (sqlite3.Error, OSError, EngineError) as error:
            failure = error if isinstance(error, EngineError) else engine_error(self.file.path, error)
            results = [failure] * len(writes)
        for write, result in zip(writes, results, strict=True):
            if write.done.done():  # its task was cancelled
                continue
            if isinstance(result, AfkError):
                write.done.set_exception(result)
            else:
                write.done.set_result(result)

    async def _written(self, writes: list[_Write], pause: str | None = None) -> list[Any]:
        """Carry out writes in one transaction; with `pause`, the batch is paused first for this reason."""
        await self._begin()
        try:
            if pause is not None:
                self.file.pause(pause)
            results = [self._result(write) for write in writes]
            self.file.commit()
        except BaseException:
            self.file.roll_back()
            raise
        self.commits += 1
        if any(write.durable for write in writes):
            await asyncio.get_running_loop().run_in_executor(self._disk, self._sync)
        return results

    def _result(self, write: _Write) -> Any:
        try:
            return write.operation(self.file)
        except AfkError as error:
            return error

    async def _begin(self) -> None:
        deadline = asyncio.get_running_loop().time() + LOCK_SECONDS
        while not self.file.begin():
            if asyncio.get_running_loop().time() > deadline:
                raise EngineError(f"{self.file.path} was locked by another process for {LOCK_SECONDS:g} s")
            await asyncio.sleep(0.002)

    def _sync(self) -> None:
        """Sync the log to the disk. Runs on an operating-system thread."""
        descriptor = os.open(self._log, os.O_RDWR)
        try:
            getattr(os, "fdatasync", os.fsync)(descriptor)
            size = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        if size > CHECKPOINT_BYTES:
            self._write_back()

    def _write_back(self) -> None:
        db = sqlite3.connect(self.file.path, timeout=1.0, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError:  # another process does, or a reader holds it up; the next one tries again
            pass
        finally:
            db.close()


def engine_error(path: os.PathLike[str], error: Exception) -> EngineError:
    """Return the error for a person that says what SQLite or the system said."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return EngineError(f"the batch in {os.fspath(path)} cannot be read or written: {said}")
