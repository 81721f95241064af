"""What a tool call would change in a file, for the person who is asked about it; nothing is changed here.

Since: 0.2.
"""

from __future__ import annotations

import errno
import os
import stat

from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.previews import ChangePreview, FileChange
from afkcli.core.contract.tools import ToolError

MAX_BYTES = 10_000_000
"""A larger file is not compared."""

_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)


def planned_change(preview: ChangePreview, arguments: JsonObject, folder: str) -> FileChange:
    """Return the change that a call makes.

    Args:
        preview: how the tool says that its calls read.
        arguments: the arguments as the tool takes them.
        folder: the working folder, to which a path is relative where the tool does not say what it changes.

    Raises:
        ToolError: the change cannot be told, and why.
        Exception: whatever the function of the tool raises.
    """
    if preview.change is not None:
        return preview.change(arguments)
    path, text = arguments.get(preview.path), arguments.get(preview.text)
    if not isinstance(path, str) or not isinstance(text, str) or "\0" in path:
        raise ToolError(f"{preview.path} or {preview.text} is not text")
    place = os.path.join(folder, path)  # noqa: PTH118
    return FileChange(path=place, before=_bytes_of(place), after=text.encode(errors="replace"))


def _bytes_of(path: str) -> bytes | None:
    """Return the bytes of a regular file, None if nothing is there; a link is not followed."""
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        return None
    except OSError as error:
        what = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror or str(error)
        raise ToolError(f"{path}: {what}") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ToolError(f"{path} is not a regular file")
        if status.st_size > MAX_BYTES:
            raise ToolError(f"{path} has {status.st_size:,} bytes, and at most {MAX_BYTES:,} are compared")
        return file.read(MAX_BYTES + 1)
