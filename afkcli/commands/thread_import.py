"""`afk threads import`: threads from a backup, and turns that were rescued."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click

from afkcli.commands.base import Command
from afkcli.commands.completion import complete_file
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.thread_access import command_owner, opened_store
from afkcli.core.contract.errors import (
    EXIT_INTERNAL,
    EXIT_OK,
    EXIT_USAGE,
    ConflictError,
    ThreadBusyError,
    UnsupportedRecordError,
    UsageError,
)
from afkcli.core.contract.jsonform import MAX_LINE_BYTES
from afkcli.core.contract.waits import progress
from afkcli.core.thread.exchange import ExportedThread, Incomplete, Item, Refused, RescuedTurn
from afkcli.core.thread.restore import Restored, Restorer
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout

_PIECE = 1 << 20


@click.command(
    "import",
    cls=Command,
    examples=(
        ("afk threads import trip.jsonl", "an export of afk"),
        ("afk threads import logs.db", "the conversations of `llm`"),
    ),
)
@click.argument("file", required=False, default="-", metavar="[FILE]", shell_complete=complete_file)
@click.option(
    "--rename", is_flag=True, help="If a thread's name is taken, import it under that name with a number appended."
)
@json_option
def import_threads(file: str, rename: bool, as_json: bool) -> None:
    """Import the threads in FILE, as `afk threads export` wrote them, or the turn of a rescue file.

    FILE may also be a logs database of `llm`, or a session file of `codex` or `claude`; afk looks at its content.
    Each of its conversations becomes a thread. Without FILE, or with `-`, stdin is read. A thread that is already
    present is not changed, but turns that `llm`, `codex` or `claude` added since are appended. The exit code is 1 if
    FILE is not complete, and 2 if something in it was refused; the rest is imported.
    """
    from afkcli.commands.conversation_import import items_of

    importer = Import(file, Messages(invocation()), Stdout(invocation()) if as_json else None)
    with _opened(file) as stream, opened_store("importing") as store:
        restorer = Restorer(store, command_owner, rename=rename)
        try:
            for item in items_of(file, stream, _lines(stream), importer):
                importer.take(restorer, item)
        finally:
            importer.say_sum()
    raise click.exceptions.Exit(importer.exit_code)


class Import:
    """Imports one item after the other, reports what is refused, and counts."""

    def __init__(self, file: str, messages: Messages, stdout: Stdout | None) -> None:
        self.exit_code = EXIT_OK
        self._file = "stdin" if file == "-" else file
        self._messages = messages
        self._stdout = stdout
        self._counts = {"imported": 0, "appended": 0, "present": 0, "refused": 0}

    def take(self, restorer: Restorer, item: Item) -> None:
        """Restore `item`, or say why it is refused.

        Raises:
            StoreError: the store cannot be written, so that nothing after it could be either.
        """
        if isinstance(item, Refused):
            self.refuse(_at(item), item.what)
            return
        if isinstance(item, Incomplete):
            self.exit_code = self.exit_code or EXIT_INTERNAL
            where = f", line {item.line}" if item.line else ""
            self._messages.warn(f"{self._file} is incomplete{where}: {item.what}; the rest was imported")
            return
        try:
            restored = restorer.thread(item) if isinstance(item, ExportedThread) else restorer.rescued(item)
        except (ConflictError, ThreadBusyError, UnsupportedRecordError) as error:
            self.refuse(_at(item), str(error))
            return
        self._counts[restored.outcome] += 1
        self._report(item, restored)

    def say_sum(self) -> None:
        """Print how much was imported."""
        words = {
            "imported": "imported",
            "appended": "appended to their threads",
            "present": "already present",
            "refused": "refused",
        }
        outcomes = [f"{count} {words[outcome]}" for outcome, count in self._counts.items() if count]
        self._messages.say(", ".join(outcomes) or f"{self._file} has no thread")

    def refuse(self, where: str, what: str) -> None:
        """Count what is refused, and say where it is in the file ("" if that is the whole file) and why."""
        self._counts["refused"] += 1
        self.exit_code = EXIT_USAGE
        self._messages.error(f"{self._file}{where}: {what}")

    def say(self, what: str) -> None:
        """Say something about the file."""
        self._messages.say(f"{self._file}: {what}")

    def _report(self, item: ExportedThread | RescuedTurn, restored: Restored) -> None:
        thread = restored.thread
        name = item.thread.name if isinstance(item, ExportedThread) else item.thread_id
        if restored.outcome != "present":
            for what in item.missing:
                self._messages.warn(
                    f"{what} is not in {self._file}; the thread {thread.name!r} was imported without it"
                )
        if restored.outcome == "imported" and thread.name != name:
            self._messages.say(f"{name!r} is imported as {thread.name!r}")
        if self._stdout is not None:
            form = {"v": 1, "type": restored.outcome, "thread_id": thread.name, "thread_key": thread.key}
            self._stdout.objects([{**form, "turns": thread.turns}])


def _at(item: ExportedThread | RescuedTurn | Refused) -> str:
    """Return where an item is in its file; a thread of a database has no line."""
    if item.line:
        return f", line {item.line}"
    return f", {item.thread.name!r}" if isinstance(item, ExportedThread) else ""


@contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    """Open FILE, or take stdin.

    Raises:
        UsageError: it cannot be read, or it is a terminal.
    """
    if file == "-":
        stdin = invocation().stdin
        if not stdin.is_open or stdin.is_terminal:
            raise UsageError("nothing to import: name a file, or pipe an export into stdin")
        with stdin.binary() as stream:
            yield stream
        return
    with _readable(file) as stream:
        yield stream


def _readable(file: str) -> IO[bytes]:
    if not file:  # a path that is empty means the folder
        raise UsageError("the name of the file is empty; name a file, or pipe an export into stdin")
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of `stream`; a line that is too long for JSON of afk's is cut just beyond the limit.

    Raises:
        UsageError: it cannot be read any further.
    """
    try:
        yield from _told_lines(stream)
    except OSError as error:
        raise UsageError(f"the import cannot be read any further: {error.strerror}") from None


def _told_lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines, and tell how much of a file was read."""
    status = os.fstat(stream.fileno())
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    with progress("importing", in_bytes=True) as tell:
        while line := stream.readline(MAX_LINE_BYTES + 1):
            if size:
                tell(stream.tell(), size)
            yield line
            if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
                del line
                _skip_line(stream)


def _skip_line(stream: IO[bytes]) -> None:
    """Read to the end of a line, a piece at a time, whatever its length."""
    while (rest := stream.readline(_PIECE)) and not rest.endswith(b"\n"):
        pass
