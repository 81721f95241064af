"""The names of threads, their titles and their tags."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from afkcli.core.contract.errors import InvalidNameError, UsageError
from afkcli.core.contract.text import collapsed

MAX_NAME = 200
MAX_TITLE = 80
MAX_TAG = 50


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


def check_tag(tag: str) -> str:
    """Return `tag` in NFC if it is a valid tag: 1 to 50 printable characters without blanks and commas, no leading `-`.

    Raises:
        UsageError: it is not.

    Since: 0.2.
    """
    tag = unicodedata.normalize("NFC", tag)
    wrong = not tag or len(tag) > MAX_TAG or tag.startswith("-") or not tag.isprintable()
    if wrong or any(char.isspace() or char == "," for char in tag):
        rule = f"1 to {MAX_TAG} printable characters, no blank, no comma, no leading '-'"
        raise UsageError(f"{tag!a} cannot be a tag; use {rule}")
    return tag


def title_of(text: str) -> str | None:
    """Return the title of a thread whose first message is `text`: its first `MAX_TITLE` characters, as one line.

    Returns None if `text` is blank. Since: 0.2.
    """
    return collapsed(text, MAX_TITLE) or None


def numbered_names(name: str) -> Iterator[str]:
    """Yield `name` with the numbers from 2 on (`name-2`), each a valid thread name. Since: 0.2."""
    for number in range(2, 10_000):
        yield f"{name[: MAX_NAME - len('-9999')]}-{number}"
