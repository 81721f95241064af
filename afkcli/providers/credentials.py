"""The texts by which a secret can show up again: as it was given, as it is sent, and as a server says it back."""

from __future__ import annotations


def secret_forms(value: str) -> list[str]:
    """Return the forms of a secret: without the blanks around it, and of `Bearer TOKEN` and the like the token too."""
    words = value.split()
    return [value, value.strip(), *(words[1:] if len(words) == 2 else [])]


def user_info(url: str) -> str:
    """Return what stands before the last `@` of an address, or "".

    An address that is not well-formed counts too: `http://user:a/b@host`, or without a scheme `user:password@host`.
    """
    head, at, _ = url.rpartition("@")
    _, slashes, info = head.partition("//")
    if slashes:
        return info
    return head if at and ":" in head else ""


def user_info_forms(url: str) -> list[str]:
    """Return the forms of the user and password in an address: to the letter, decoded, and as Basic (RFC 7617)."""
    info = user_info(url)
    if not info:
        return []
    from base64 import b64encode
    from urllib.parse import unquote

    user, _, password = info.partition(":")
    basic = b64encode(f"{unquote(user)}:{unquote(password)}".encode("utf-8", "replace")).decode()
    return [info, unquote(info), password or user, unquote(password or user), basic]
