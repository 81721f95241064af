"""The names of threads, and their titles."""

from __future__ import annotations

import unicodedata

from afkcli.core.contract.errors import InvalidNameError
from afkcli.core.contract.text import collapsed

MAX_NAME = 200
MAX_TITLE = 80


def check_name(name: str) -> str:
    """Return `name` in NFC if it is a valid thread name: 1 to 200 printable characters, not blank, no leading `-`.

    Raises:
        InvalidNameError: it is not; the message says what is wrong with it.
    """
    name = unicodedata.normalize("NFC", name)
    rule = "1 to 200 printable characters, no leading '-'"
    if not name.strip():
        raise InvalidNameError(f"the thread name is empty; use {rule}")
    if len(name) > MAX_NAME:
        raise InvalidNameError(f"the thread name is too long ({len(name)} characters); use {rule}")
    if name.startswith("-"):
        raise InvalidNameError(f"the thread name {name!r} starts with '-'; use {rule}")
    if not name.isprintable():
        raise InvalidNameError(f"the thread name {name!a} contains a character that is not printable; use {rule}")
    return name


def title_of(text: str) -> str | None:
    """Return the title of a thread whose first message is `text`: its first `MAX_TITLE` characters, as one line.

    Returns None if `text` is blank. Since: 0.2.
    """
    return collapsed(text, MAX_TITLE) or None
