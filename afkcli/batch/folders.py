"""A folder of files: each file is a prompt, whose id is the path of the file in the folder.

Since: 0.2.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from afkcli.batch.rows import Row
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import clean_text
from afkcli.core.contract.media_types import TAKEN, TEXT, media_type_of
from afkcli.core.contract.text import decoded, in_mb
from afkcli.core.thread.attachments import MAX_BYTES, MAX_TEXT_BYTES

_SKIPPED = frozenset({"Thumbs.db", "desktop.ini"})


def folder_rows(folder: Path, but: Path | None = None) -> Iterator[Row]:
    """Yield the prompts of the files in a folder and the folders in it, sorted by their paths.

    A text is the message of its prompt; an image or a PDF is attached to it. Files and folders whose names begin with a
    point are left out, and folders that are links.

    Args:
        folder: the folder.
        but: a file that is left out, such as that of the results.

    Raises:
        UsageError: a file cannot be read, or is of another type.
    """
    left_out = but.resolve() if but is not None else None
    for path in _files(folder):
        if path.name == getattr(left_out, "name", None) and path.resolve() == left_out:
            continue
        where = clean_text(str(path))
        if where != str(path):
            raise UsageError(f"{where}: the name of the file is not UTF-8; rename it")
        data = _read(path)
        try:
            text = decoded(data)
        except UnicodeDecodeError:
            text = "\0"
        fields: dict[str, object] = {"attachments": [str(path)]}
        if "\0" not in text:
            if len(data) > MAX_TEXT_BYTES:
                raise UsageError(f"{where}: longer than {in_mb(MAX_TEXT_BYTES)}, more than any model takes; shorten it")
            if not text.strip():
                raise UsageError(f"{where}: the file is empty; delete it, or move it out of the folder")
            fields = {"message": text.rstrip("\r\n")}
        elif media_type_of(data) in (None, TEXT):
            raise UsageError(f"{where}: unsupported type; supported: {TAKEN}")
        yield Row(where, fields, id=path.relative_to(folder).as_posix())


def _files(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise UsageError(f"the folder {folder} cannot be read: {error.strerror}") from None
    for entry in entries:
        if entry.name.startswith(".") or entry.name in _SKIPPED:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        elif entry.is_file():
            yield Path(entry.path)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path}: larger than {in_mb(MAX_BYTES)}; shorten it")
    return data
