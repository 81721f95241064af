"""The texts by which a secret can show up again: as it was given, as it is sent, and as a server says it back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from afkcli.core.contract.lazy_pattern import LazyPattern

if TYPE_CHECKING:
    from afkcli.core.contract.spellings import Spellings

MASK = "***"
"""The text in the place of a secret."""

SECRET_NAME = LazyPattern(
    r"(^|[^a-z])((api|access)?[_-]?key|(access|auth)?[_-]?token|secret|password|passwd|auth|authorization|credentials?"
    r"|cookie|sig|signature)([^a-z]|$)",
    re.IGNORECASE,
)
"""Names that tell a secret where no plugin says so: `headers.Authorization`, `?apiKey=`; not `max_output_tokens`."""


def mask(text: str, forms: Iterable[str]) -> str:
    """Return `text` with each of `forms` replaced by `MASK`, in every spelling that `Spellings` knows."""
    known = frozenset(forms)
    return _spellings(known).mask(text, MASK) if known else text


@lru_cache(maxsize=16)
def _spellings(forms: frozenset[str]) -> Spellings:
    from afkcli.core.contract.spellings import Spellings

    return Spellings(forms)


def secret_forms(value: str) -> list[str]:
    """Return the forms of a secret: without the blanks around it, and of `Bearer TOKEN` and the like the token too.

    Of a connection string only what is secret in it: messages name its host, its user and its database.
    """
    if "=" in value.rstrip("=") or "://" in value:
        from afkcli.core.contract.connection_strings import connection_secrets

        found = connection_secrets(value)
        if found is not None:
            return found
    words = value.split()
    return [value, value.strip(), *(words[1:] if len(words) == 2 else [])]


def user_info(url: str) -> str:
    """Return the part before the last `@` of an address, or "".

    An address that is not well-formed counts too: `http://user:a/b@host`, or without a scheme `user:password@host`.
    """
    head, at, _ = url.rpartition("@")
    _, slashes, info = head.partition("//")
    if slashes:
        return info
    return head if at and ":" in head else ""


def query_secrets(url: str) -> list[str]:
    """Return the values in the query of an address, as they stand there, whose names tell that they are secret."""
    scheme, slashes, rest = url.partition("://")
    if not slashes or not scheme.isalpha():
        return []
    pairs = [pair.partition("=") for pair in rest.partition("?")[2].partition("#")[0].split("&")]
    return [value for name, _, value in pairs if value and SECRET_NAME.compiled.search(name)]


def address_secrets(url: str) -> list[str]:
    """Return the forms of what is secret in an address: its user and password to the letter, decoded, and as Basic
    (RFC 7617), and the values of its query whose names tell that they are, to the letter and decoded."""
    info, values = user_info(url), query_secrets(url)
    if not info and not values:
        return []
    from base64 import b64encode
    from urllib.parse import unquote, unquote_plus

    forms = [form for value in values for form in (value, unquote_plus(value))]
    if info:
        user, _, password = info.partition(":")
        basic = b64encode(f"{unquote(user)}:{unquote(password)}".encode("utf-8", "replace")).decode()
        forms += [info, unquote(info), password or user, unquote(password or user), basic]
    return forms
