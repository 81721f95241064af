"""The results of a batch as JSON Lines: written as they come or in the order of the input, and continued.

The engine has the results too, so the file is what the engine says: what is missing is written when the batch goes on,
a torn last line is cut off, and rows of prompts that are asked again are taken out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from afkcli.batch.results import row_of
from afkcli.core.contract.engine import Engine, PromptState, SettledPrompt
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import JsonError, JsonObject, dumps, loads_object
from afkcli.core.contract.structs import Struct
from afkcli.host.files import replace_file, sync_folder

_PAGE: Final = 1000


class _Known(Struct):
    """What the engine knows of a prompt: the sequence of its outcome, or 0; and whether the file has its row."""

    sequence: int
    attempts: int
    state: PromptState
    index: int
    has_row: bool = False


class ResultsFile:
    """The file of results of one batch, open for writing. It is made with the mode 0600.

    `after` is the sequence from which on outcomes may have no row yet, `failed` the number of prompts that had failed
    when it was opened, and `is_broken` whether a write has failed, after which no more are made.

    Args:
        path: the file.
        batch: the batch whose results it has.
        ordered: whether rows are written in the order of the input.
    """

    def __init__(self, path: Path, batch: str, *, ordered: bool) -> None:
        self.path = path
        self.after = 0
        self.failed = 0
        self.is_broken = False
        self._batch = batch
        self._ordered = ordered
        self._descriptor = -1
        self._size = 0
        self._rows = bytearray()
        self._is_stale = False
        self._written: set[int] = set()
        self._order: list[str] = []
        self._ready: set[str] = set()

    async def open(self, engine: Engine) -> None:
        """Bring the file to what the engine says of the rows that it has, and open it to go on.

        No worker may work on the batch yet: a row of an earlier answer could not be told from that of a new one.

        Raises:
            UsageError: it has rows that are not of this batch.
            OSError: it cannot be read or written.
        """
        self.close()
        known = await self._known(engine)
        self.failed = sum(item.state is PromptState.FAILED for item in known.values())
        if self.path.exists():
            await self._repair(engine, known)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        is_new = not self.path.exists()
        self._descriptor = os.open(self.path, flags, 0o600)
        if is_new:
            os.fchmod(self._descriptor, 0o600)
            sync_folder(self.path.parent)
        self._size = os.fstat(self._descriptor).st_size
        self._rows, self._is_stale = bytearray(), False
        for item in known.values():
            if item.has_row:
                self._note_row(item.index)
        missing = [item.sequence for item in known.values() if item.sequence and not item.has_row]
        self.after = min(missing) - 1 if missing else max((item.sequence for item in known.values()), default=0)
        self._written = {item.sequence for item in known.values() if item.has_row and item.sequence > self.after}
        if self._ordered:  # the last one is the next one
            self._order = [id_ for id_, item in known.items() if not item.has_row][::-1]

    @property
    def is_wrong(self) -> bool:
        """Whether the file is to be opened again to be right.

        It was deleted, replaced or cut meanwhile, or has an earlier row of a prompt that was asked again meanwhile.
        """
        try:
            found, ours = self.path.stat(), os.fstat(self._descriptor)
        except OSError:
            return True
        is_other = (found.st_dev, found.st_ino) != (ours.st_dev, ours.st_ino)
        return is_other or found.st_size < self._size or self._is_stale

    def _note_row(self, index: int) -> None:
        """Take note that the prompt at this place of the input has a row, and whether it had one before."""
        if index >= len(self._rows):
            self._rows.extend(bytes(index + 1 - len(self._rows)))
        self._is_stale = self._is_stale or self._rows[index] == 1
        self._rows[index] = 1

    async def _known(self, engine: Engine) -> dict[str, _Known]:
        """Return what the engine knows of each prompt, by its id, in the order of the input."""
        known: dict[str, _Known] = {}
        after = -1
        while page := await engine.prompts(self._batch, after=after, limit=_PAGE):
            for info in page:
                known[info.id] = _Known(info.sequence, info.attempts, info.state, info.index)
            after = page[-1].index
        return known

    async def _repair(self, engine: Engine, known: dict[str, _Known]) -> None:
        """Keep the rows that are right; the file is replaced only if one is not.

        With `ordered` those are right that follow the order of the input without a gap: the others are written again.
        """
        kept: list[tuple[int, int]] = []
        rows: list[tuple[int, JsonObject]] = []
        size = self.path.stat().st_size
        position, is_whole = 0, True
        order = iter(known)
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                start, position = position, position + len(line)
                if not line.endswith(b"\n"):
                    break  # the last line is torn
                row = self._row(line, number)
                item = self._kept(row, number, known)
                if item is not None:
                    rows.append((number, {"id": str(row["id"]), "run_id": row.get("run_id")}))
                    if len(rows) == _PAGE:
                        await self._check_runs(engine, rows)
                        rows.clear()
                if item is not None and self._ordered and known.get(next(order, "")) is not item:
                    item, order = None, iter(())
                if item is None:
                    is_whole = False
                else:
                    item.has_row = True
                    kept.append((start, position))
        await self._check_runs(engine, rows)
        end = kept[-1][1] if kept else 0
        if is_whole and end != size:
            with self.path.open("r+b") as file:
                file.truncate(end)
                os.fsync(file.fileno())
        elif not is_whole:
            replace_file(self.path, self._pieces(kept))

    def _row(self, line: bytes, number: int) -> JsonObject:
        try:
            return loads_object(line)
        except JsonError as error:
            raise UsageError(f"{self.path}, line {number}: not a row of results: {error}") from None

    def _kept(self, row: JsonObject, number: int, known: dict[str, _Known]) -> _Known | None:
        """Return the prompt of a row if the row is that of its outcome as it is now, and the first one of it."""
        item = known.get(str(row.get("id")))
        if item is None:
            raise self._of_another_batch(number, row, "has")
        is_now = item.sequence > 0 and row.get("state") == item.state and row.get("attempts") == item.attempts
        return item if is_now and not item.has_row else None

    async def _check_runs(self, engine: Engine, rows: Sequence[tuple[int, JsonObject]]) -> None:
        """Raise `UsageError` if a row is that of another run of its prompt: that of another batch with the same ids."""
        found = await engine.outcomes(self._batch, [row["id"] for _, row in rows])
        runs = {item.id: item.result.get("run_id") for item in found}
        for number, row in rows:
            if runs.get(row["id"]) != row["run_id"]:
                raise self._of_another_batch(number, row, "is of another run of")

    def _of_another_batch(self, number: int, row: JsonObject, what: str) -> UsageError:
        return UsageError(
            f"{self.path} is the file of results of another batch: line {number} {what} the id "
            f"{str(row.get('id'))[:60]!r}; write to another file with -o"
        )

    def _pieces(self, kept: Sequence[tuple[int, int]]) -> Iterator[str]:
        with self.path.open("rb") as file:
            for start, end in kept:
                file.seek(start)
                yield file.read(end - start).decode("utf-8")

    async def write(self, engine: Engine, outcomes: Sequence[SettledPrompt]) -> None:
        """Write the rows of outcomes that have none, and sync them. With `ordered`, they wait for those before them.

        Raises:
            OSError: the file cannot be written; what was written of a row is taken back.
        """
        new = [item for item in outcomes if item.sequence not in self._written]
        for item in new:
            self._note_row(item.index)
        if not self._ordered:
            self._append(new)
            return
        self._ready.update(item.id for item in new)
        while ids := self._due():
            self._append(await engine.outcomes(self._batch, ids))
            self._ready.difference_update(ids)
            del self._order[-len(ids) :]

    def _due(self) -> list[str]:
        """Return the ids of the next prompts in the order of the input whose outcomes are there."""
        ids: list[str] = []
        while len(ids) < min(_PAGE, len(self._order)) and self._order[-1 - len(ids)] in self._ready:
            ids.append(self._order[-1 - len(ids)])
        return ids

    def _append(self, outcomes: Sequence[SettledPrompt]) -> None:
        if not outcomes:
            return
        data = b"".join(dumps(row_of(item)).encode() + b"\n" for item in outcomes)
        before = os.fstat(self._descriptor).st_size
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
            getattr(os, "fdatasync", os.fsync)(self._descriptor)
        except OSError:
            self.is_broken = True
            os.ftruncate(self._descriptor, before)
            raise
        self._size = max(self._size, before) + len(data)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
