"""Where the prompts of a batch are: a file, a folder, or stdin; and in which form.

Since: 0.2.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, cast

from afkcli.batch.folders import folder_rows
from afkcli.batch.json_lines import json_rows, message_rows
from afkcli.batch.rows import Row
from afkcli.batch.tables import table_rows
from afkcli.batch.text_lines import first_bytes
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.contract.waits import progress
from afkcli.host.invocation import Stream

Form = Literal["jsonl", "csv", "tsv", "text"]
FORMS: tuple[Form, ...] = ("jsonl", "csv", "tsv", "text")
_FORM_OF_SUFFIX: dict[str, Form] = {
    **dict.fromkeys((".jsonl", ".ndjson", ".jsonlines", ".jl", ".json"), "jsonl"),
    ".csv": "csv",
    **dict.fromkeys((".tsv", ".tab"), "tsv"),
    **dict.fromkeys((".txt", ".text"), "text"),
}
_READERS: dict[Form, Callable[[str, io.BufferedReader], Iterator[Row]]] = {
    "jsonl": json_rows,
    "csv": table_rows,
    "tsv": partial(table_rows, separator="\t"),
    "text": message_rows,
}
_EACH = 256
"""How many prompts are read between two reports of how much of the file was read."""


class Source(FrozenStruct, kw_only=True):
    """Where the prompts of a batch are.

    Args:
        file: the path of a file or a folder, or `-` for stdin.
        stdin: the standard input.
        form: the form of a file; None to tell it by its name, else by its first character.
        results: the file of the results, which is no prompt where it is in the folder.
    """

    file: str
    stdin: Stream
    form: Form | None = None
    results: Path | None = None

    @property
    def name(self) -> str:
        """What a person calls it."""
        return "stdin" if self.file == "-" else self.file

    @property
    def folder(self) -> Path:
        """The folder to which paths in the prompts are relative: that of the file; the working folder for stdin."""
        if self.file == "-":
            return Path().absolute()
        path = Path(self.file).absolute()
        return path if path.is_dir() else path.parent

    def rows(self) -> Iterator[Row]:
        """Yield the prompts, each when it is asked for; stdin can be read once.

        Raises:
            UsageError: it cannot be read, or a part of it is not in its form; the message has the file and the line.
        """
        if self.file not in ("", "-") and Path(self.file).is_dir():
            yield from folder_rows(Path(self.file), self.results)
            return
        with self._opened() as stream, progress("reading prompts", in_bytes=True) as tell:
            status = os.fstat(stream.fileno())
            size = status.st_size if stat.S_ISREG(status.st_mode) else 0
            for count, row in enumerate(_READERS[self._form(stream)](self.name, stream)):
                if size and not count % _EACH:
                    tell(os.lseek(stream.fileno(), 0, os.SEEK_CUR), size)
                yield row

    def _form(self, stream: io.BufferedReader) -> Form:
        form = self.form or _FORM_OF_SUFFIX.get(Path(self.file).suffix.lower())
        if form is not None:
            return form
        start = first_bytes(stream).removeprefix(b"\xef\xbb\xbf").lstrip()
        if not start or start[:1] in b'{["':
            return "jsonl"
        if not start[:1].isascii() or b"\0" in start or not start[:1].decode().isprintable():
            return "text"  # it is refused with the reason
        raise UsageError(f"{self.name}: the form of the prompts is not clear; name it: --format {', '.join(FORMS)}")

    @contextmanager
    def _opened(self) -> Iterator[io.BufferedReader]:
        if self.file == "-":
            if not self.stdin.is_open or self.stdin.is_terminal:
                raise UsageError("`-` reads the prompts from stdin, which is not a pipe or a file; name a file")
            with cast("io.BufferedReader", self.stdin.binary()) as stream:
                yield stream
            return
        if not self.file:
            raise UsageError("the name of the file of prompts is empty; name a file, a folder, or `-` for stdin")
        with _file(self.file) as stream:
            yield stream


def _file(path: str) -> io.BufferedReader:
    try:
        return Path(path).open("rb")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{path} cannot be read: {why}") from None
