"""The JSON of a request's body, to the byte as the SDKs write it, in a part of their time.

The messages of a long conversation are nearly all of a body, and nearly all of them are objects of texts. msgspec
writes these to the same bytes as the `json` of Python. It writes some numbers in another way, so all else is left to
`json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby

from afkcli.core.contract.jsonform import Json, JsonObject
from afkcli.core.contract.structs import msgspec


def body_json(body: JsonObject) -> bytes:
    """Return the JSON of a body, as UTF-8.

    Raises:
        ValueError: it holds NaN, infinity or a lone surrogate.
        TypeError: it holds what has no JSON form.

    Since: 0.2.
    """
    return b"".join(_pieces(body))


def _pieces(body: JsonObject) -> Iterator[bytes | memoryview]:
    before = b"{"
    for name, value in body.items():
        yield b"%b%b:" % (before, _encode(name))
        if type(value) is list:
            yield from _pieces_of_list(value)
        else:
            yield _encode(value)
        before = b","
    yield b"}" if body else b"{}"


def _pieces_of_list(values: list[Json]) -> Iterator[bytes | memoryview]:
    before = b"["
    for of_text, group in groupby(values, _is_of_text):
        items = list(group)
        yield before
        yield memoryview(_encode_text(items) if of_text else _encode(items))[1:-1]
        before = b","
    yield b"]" if values else b"[]"


def _is_of_text(value: Json) -> bool:
    """Return whether a value is a text, or an object or a list of such values."""
    kind = type(value)
    if kind is str:
        return True
    if kind is not dict and kind is not list:
        return False
    for item in value.values() if kind is dict else value:  # a generator takes twice as long
        if type(item) is str:
            continue
        if type(item) is list and len(item) == 1 and type(item[0]) is dict:  # the one block of a message
            for inner in item[0].values():
                if type(inner) is not str and not _is_of_text(inner):
                    return False
        elif not _is_of_text(item):
            return False
    return True


_encode_text = msgspec.json.Encoder().encode
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _encode(value: Json) -> bytes:
    return _encoder.encode(value).encode()
