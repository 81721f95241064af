"""Strict JSON: how everything of ours is written and read.

UTF-8, no NaN or infinity, no lone surrogates, bounded depth and bounded length, both ways: what is written can be
read again. If a key occurs twice in one object, the last value counts, as in most readers (RFC 8259, section 4).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum, StrEnum
from functools import cache
from typing import Any, NoReturn, TypeAlias

from afkcli.core.contract.structs import FrozenStruct, msgspec

Json: TypeAlias = Any  # the JSON edge: None, bool, int, float, str, list or dict of these
JsonObject: TypeAlias = dict[str, Any]

MAX_DEPTH = 64
MAX_LINE_BYTES = 64 * 1024 * 1024
_SLICE = 1 << 20


class JsonError(ValueError):
    """Text or a value that is not JSON as afk accepts it."""


def clean_text(text: str) -> str:
    """Return `text` with surrogate pairs joined and lone surrogates replaced by U+FFFD."""
    if text.isascii():
        return text
    try:
        for _ in utf8_slices(text):
            pass
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def utf8_slices(text: str) -> Iterator[bytes]:
    """Yield a text as UTF-8 in slices, so that a large one is never there a second time as a whole."""
    for start in range(0, len(text), _SLICE):
        yield text[start : start + _SLICE].encode("utf-8")


def _utf8_size(text: str) -> int:
    return (
        len(text)
        if text.isascii()
        else sum(len(text[start : start + _SLICE].encode("utf-8", "replace")) for start in range(0, len(text), _SLICE))
    )


def dumps(value: object) -> str:
    """Return `value` as one line of strict JSON.

    Args:
        value: JSON values, structs, dataclasses, enums, tuples and mappings with text keys, nested at will.

    Raises:
        JsonError: for NaN, infinity, a type that has no JSON form, nesting deeper than `MAX_DEPTH`, or a length that
            could not be read again.
    """
    try:
        text = _encoded(value)
    except RecursionError:
        raise JsonError(f"nested deeper than {MAX_DEPTH}") from None
    except (ValueError, TypeError) as error:
        raise JsonError(str(error)) from None
    if text.count("[") + text.count("{") > MAX_DEPTH:
        to_plain(value)  # raises where it is nested too deeply
    if len(text) > MAX_LINE_BYTES // 4 and _utf8_size(text) > MAX_LINE_BYTES:
        raise JsonError(f"longer than {MAX_LINE_BYTES} bytes")
    return clean_text(text)


def _encoded(value: object) -> str:
    """Return the JSON of a value, by the writer that is several times as fast where both write the same."""
    if not traits(value) & UNLIKE:
        try:
            return _encode_fast(value).decode()
        except ValueError:  # a lone surrogate
            pass
    return _python().encode(value)


CHANGEABLE, LONG, UNLIKE = 1, 2, 4
"""What `traits` tells: it can be changed in place; a text in it is so long that its JSON is better made in pieces;
msgspec does not write it to the same bytes as the encoder of Python's library."""


def traits(value: Any) -> int:
    """Return `CHANGEABLE`, `LONG` and `UNLIKE`, added up, as far as they hold for anything in `value`.

    msgspec has another form for very small and very large numbers with a fraction, and writes types that have no JSON
    form here. Since: 0.2.
    """
    kind: Any = type(value)
    if kind is str:
        return LONG if len(value) > _SLICE else 0
    if kind in _ALIKE:
        return 0
    if kind is int:
        return 0 if -_MOST_WHOLE <= value < _MOST_WHOLE else UNLIKE
    if kind is float:
        return 0 if value == 0 or 1e-4 <= abs(value) < 1e16 else UNLIKE
    if isinstance(value, FrozenStruct):
        return _traits_of(msgspec.structs.astuple(value))
    return _traits_of_other(value)


def _traits_of_other(value: Any) -> int:
    kind = type(value)
    if kind is tuple:
        return _traits_of(value)
    if kind is list:
        return CHANGEABLE | _traits_of(value)
    if kind is dict:
        names = 0 if all(map(_is_text, value)) else UNLIKE
        return CHANGEABLE | names | _traits_of(value.values())
    if isinstance(value, StrEnum):
        return 0
    if isinstance(value, Enum):
        return UNLIKE
    return CHANGEABLE | UNLIKE | (LONG if is_long(value) else 0)


def _is_text(name: object) -> bool:
    return type(name) is str


def _traits_of(values: Iterable[object]) -> int:
    found = 0
    for value in values:
        if type(value) is str:  # most are; not one more call for each
            if len(value) > _SLICE:
                found |= LONG
        elif value is not None:
            found |= traits(value)
    return found


def is_long(value: object) -> bool:
    """Return whether a text anywhere in `value` is so long that its JSON is better made in pieces."""
    if isinstance(value, str):
        return len(value) > _SLICE
    return any(map(is_long, _items(value)))


def json_pieces(value: object) -> Iterator[str]:
    """Yield what `dumps` returns, in pieces: a long text in `value` is never there a second time as a whole.

    Args:
        value: as of `dumps`.

    Raises:
        JsonError: as `dumps`, before the first piece.
    """
    pieces = list(_pieces(value, 0))
    if sum(len(text.encode("utf-8", "replace")) for piece in pieces for text in _slices(piece)) > MAX_LINE_BYTES:
        raise JsonError(f"longer than {MAX_LINE_BYTES} bytes")
    for piece in pieces:
        yield from _slices(piece)


class _LongText:
    """A long text that is still to be written as JSON."""

    def __init__(self, text: str) -> None:
        self.text = clean_text(text)


def _pieces(value: object, depth: int) -> Iterator[str | _LongText]:
    """Yield the JSON of `value`, but its long texts as they are."""
    if depth > MAX_DEPTH:
        raise JsonError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, str) and is_long(value):
        yield _LongText(value)
    elif not is_long(value):
        to_plain(value, depth)  # raises where it is nested too deeply
        yield dumps(value)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield "," if number else "["
            yield from _pieces(item, depth + 1)
        yield "]"
    else:
        yield from _pieces_of_object(_fields(value), depth)


def _pieces_of_object(fields: Mapping[str, object], depth: int) -> Iterator[str | _LongText]:
    for number, (name, item) in enumerate(fields.items()):
        yield f"{',' if number else '{'}{dumps(name)}:"
        yield from _pieces(item, depth + 1)
    yield "}"


def _slices(piece: str | _LongText) -> Iterator[str]:
    """Yield JSON as it is, and a long text as JSON, a slice at a time: each of its characters is written on its own."""
    if isinstance(piece, str):
        yield piece
        return
    encode = _python().encode
    yield '"'
    for start in range(0, len(piece.text), _SLICE):
        yield encode(piece.text[start : start + _SLICE])[1:-1]
    yield '"'


def _items(value: object) -> Iterable[object]:
    return value if isinstance(value, (list, tuple)) else _fields(value).values()


def _fields(value: object) -> Mapping[str, object]:
    """Return the fields of an object, a struct or a dataclass by their names; no fields for anything else."""
    if isinstance(value, dict):
        return value
    kind: Any = type(value)
    names = field_names(kind) or ()
    return {name: getattr(value, name) for name in names}


def canonical(value: object) -> str:
    """Return `value` as JSON that is the same for equal values, whatever the order of their keys; raises as `dumps`."""
    import json

    return json.dumps(json.loads(dumps(value)), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def loads(text: str | bytes, *, exactly: bool = False) -> Any:
    """Return the value of one strict JSON text.

    Args:
        text: the JSON.
        exactly: refuse what would be changed by reading it: a duplicate key, a lone surrogate.

    Raises:
        JsonError: if it is not JSON in UTF-8, holds NaN or infinity, is too long or nested too deeply.
    """
    if len(text) > MAX_LINE_BYTES:
        raise JsonError(f"longer than {MAX_LINE_BYTES} bytes")
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        value = _python().decode_exactly(clean_text(text)) if exactly else _decoded(text)
    except RecursionError:
        raise JsonError(f"nested deeper than {MAX_DEPTH}") from None
    except ValueError as error:
        raise JsonError(str(error)) from None
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value, 0)
    if "\\ud" in text or "\\uD" in text:
        cleaned = _without_surrogates(value)
        if exactly and cleaned != value:
            raise JsonError("a lone surrogate is not valid text")
        value = cleaned
    return value


def _decoded(text: str) -> Any:
    """Return the value of a JSON text, by the reader that is several times as fast where it takes the text."""
    try:
        return _decode_fast(text)
    except (
        ValueError,
        TypeError,
    ):  # no JSON, a lone surrogate, a subclass of str: the other reader takes it or says why
        return _python().decode(clean_text(text))


def loads_object(text: str | bytes, *, exactly: bool = False) -> JsonObject:
    """Return the JSON object in `text`, read as `loads` does; `JsonError` if it is anything else."""
    value = loads(text, exactly=exactly)
    if not isinstance(value, dict):
        raise JsonError("not a JSON object")
    return value


def to_plain(value: object, depth: int = 0) -> Json:
    """Return `value` as plain JSON values: structs and dataclasses become objects, tuples arrays, enums their value."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, str):
        return value
    if depth >= MAX_DEPTH:
        raise JsonError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, (list, tuple)):
        return [to_plain(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {str(key): to_plain(item, depth + 1) for key, item in value.items()}
    kind: Any = type(value)
    names = field_names(kind)
    if names is not None:
        return {name: to_plain(getattr(value, name), depth + 1) for name in names}
    raise JsonError(f"{type(value).__name__} has no JSON form")


def _leaf_to_plain(value: object) -> Json:
    """Return what the encoder, which does the rest faster, takes instead of a value that it does not know."""
    if isinstance(value, Enum):
        return value.value
    kind: Any = type(value)
    names = field_names(kind)
    if names is not None:
        return {name: getattr(value, name) for name in names}
    raise TypeError(f"{type(value).__name__} has no JSON form")


@cache
def field_names(kind: Any) -> tuple[str, ...] | None:
    """Return the names of the fields of a struct or a dataclass, in their order; None for another type. Since: 0.2."""
    names = getattr(kind, "__struct_fields__", None)
    if isinstance(names, tuple):  # its metaclass has another thing of that name
        return names
    if not hasattr(kind, "__dataclass_fields__"):
        return None
    import dataclasses

    return tuple(field.name for field in dataclasses.fields(kind))


def _refuse_constant(name: str) -> NoReturn:
    raise JsonError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):  # 1e999, for instance
        raise JsonError(f"{digits[:40]} is too large a number")
    return number


def _unique_keys(pairs: list[tuple[str, Json]]) -> JsonObject:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise JsonError("duplicate key in an object")
    return value


_encode_fast = msgspec.json.Encoder().encode
_ALIKE = (bool, type(None))
_MOST_WHOLE = 2**63
_decode_fast = msgspec.json.Decoder().decode


class _Python:
    """The writer and the readers of Python's library, which few values need.

    They are made once: `json.dumps` and `json.loads` with options of one's own make them anew for every call.
    """

    def __init__(self) -> None:
        import json

        self.encode = json.JSONEncoder(
            ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_leaf_to_plain
        ).encode
        self.decode = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite).decode
        self.decode_exactly = json.JSONDecoder(
            parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_unique_keys
        ).decode


@cache
def _python() -> _Python:
    return _Python()


def _check_depth(value: Json, depth: int) -> None:
    if not isinstance(value, (dict, list)):
        return
    if depth >= MAX_DEPTH:
        raise JsonError(f"nested deeper than {MAX_DEPTH}")
    for item in value.values() if isinstance(value, dict) else value:
        _check_depth(item, depth + 1)


def _without_surrogates(value: Json) -> Json:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {clean_text(key): _without_surrogates(item) for key, item in value.items()}
    return value
