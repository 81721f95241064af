"""What was typed in the chat before: one file for each user, which no other user can read.

Since: 0.2.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from afkcli.host.files import make_private_folder, replace_file

KEPT = 1000
"""How many texts are kept; the file is shortened to them when it has twice as many."""
_MAX_CHARS = 20_000
"""A longer text is a paste, and is not kept."""


class TypedTexts:
    """The texts that were typed, in a file with one JSON string on a line, the oldest first.

    A text that begins with a blank is not kept, as in a shell. A file that cannot be read or written is no error: the
    chat works without it.

    Args:
        path: the file; None keeps nothing.
        mask: returns a text without the secrets that are known.
    """

    def __init__(self, path: Path | None, mask: Callable[[str], str]) -> None:
        self._path = path
        self._mask = mask

    def read(self) -> list[str]:
        """Return the texts, the oldest first; lines that are damaged are left out."""
        texts: list[str] = []
        if self._path is None:
            return texts
        try:
            lines = self._path.read_text("utf-8", "replace").splitlines()
        except OSError:
            return texts
        for line in lines:
            with contextlib.suppress(ValueError):
                text = json.loads(line)
                if isinstance(text, str):
                    texts.append(text)
        if len(lines) > 2 * KEPT:
            texts = texts[-KEPT:]
            with contextlib.suppress(OSError):
                replace_file(self._path, (f"{json.dumps(text)}\n" for text in texts))
        return texts[-KEPT:]

    def add(self, text: str) -> None:
        """Keep a text."""
        if self._path is None or not text.strip() or text[0].isspace() or len(text) > _MAX_CHARS:
            return
        line = f"{json.dumps(self._mask(text))}\n".encode()
        with contextlib.suppress(OSError):
            make_private_folder(self._path.parent)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(self._path, flags, 0o600)
            try:
                if os.name == "posix":
                    os.fchmod(descriptor, 0o600)
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
