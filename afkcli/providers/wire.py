"""JSON that comes from a model server: an event, the arguments of a tool call, a token count."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from afkcli.core.contract.jsonform import MAX_LINE_BYTES, Json, JsonObject, clean_text, loads_object
from afkcli.core.contract.lazy_pattern import LazyPattern
from afkcli.core.contract.messages import ToolCallPart
from afkcli.core.contract.result import Usage, whole_count
from afkcli.core.contract.sizes import Extent
from afkcli.core.contract.structs import msgspec

LIGHT_CHARS = 1_000_000
MAX_VALUES = 500_000
"""How many objects, arrays and texts longer JSON may have: an empty object takes 64 bytes, and two in the JSON."""

MAX_COMMAS = 4_000_000

INVALID_ARGUMENTS = "invalid_arguments"
"""The field under which arguments that were no JSON object go back to the model."""


def tool_call(id: str, name: str, arguments: str | None, **fields: Any) -> ToolCallPart:  # noqa: A002  (the part's own name)
    """Return the call for a model's argument text.

    No text, blanks and `null` mean no arguments. What is anything else than a JSON object is kept as
    `invalid_arguments`, for the error result that says what came.
    """
    text = (arguments or "").strip()
    if text in ("", "null"):
        return ToolCallPart(id=id, name=name, arguments={}, **fields)
    try:
        check_weight(text)
        return ToolCallPart(id=id, name=name, arguments=loads_object(text), **fields)
    except ValueError:  # `JsonError` is one
        return ToolCallPart(id=id, name=name, arguments={}, invalid_arguments=arguments, **fields)


def sent_arguments(call: ToolCallPart) -> JsonObject:
    """Return the arguments of a call as they go back; what was no JSON object is wrapped, because servers parse it."""
    if call.invalid_arguments is not None:
        return {INVALID_ARGUMENTS: call.invalid_arguments}
    return call.arguments


def check_weight(text: str) -> None:
    """Raise `ValueError` for JSON of so many values that it would take many times its length in memory. Since: 0.2."""
    if len(text) > LIGHT_CHARS:
        texts = (text.count('"') - text.count('\\"')) // 2
        if text.count("[") + text.count("{") + texts > MAX_VALUES or text.count(",") > MAX_COMMAS:
            raise ValueError(f"more than {MAX_VALUES} values")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)
_decode = _decoder.decode
_decode_fast = msgspec.json.Decoder().decode
_BETWEEN = re.compile(r"(?:[\s,]|data:)*")
_DONE = "[DONE]"


def decode_event(data: str) -> JsonObject:
    """Return the JSON object of one event; `ValueError` if it is not one.

    This is on the path of every delta, so it does without the checks of `loads` in `afkcli.core.contract.jsonform`: the
    texts taken out of an event are cleaned one by one.
    """
    check_weight(data)
    value = _value_of(data)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _value_of(data: str) -> Json:
    if len(data) <= LIGHT_CHARS:  # of a longer text msgspec would keep a copy
        try:
            return _decode_fast(data)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            pass  # the slower decoder takes halves of characters, and says what is wrong
    try:
        return _decode(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def decode_events(data: str) -> Sequence[JsonObject]:
    """Return the JSON objects of one event; `ValueError` if it holds anything else.

    It is nearly always one. Some servers forget the line between two events, write `data:` twice, or send an array.

    Since: 0.2.
    """
    try:
        return (decode_event(data),)
    except ValueError:
        several = _several(data)
        if not several:
            raise
        return several


def _several(data: str) -> list[JsonObject]:
    """Return the objects in a text of several JSON values, or of an array; an empty list if it has anything else."""
    found: list[JsonObject] = []
    try:
        check_weight(data)
        end = _end_of_gap(data, 0)
        while end < len(data) and not data.startswith(_DONE, end):
            value, end = _decoder.raw_decode(data, end)
            found += _objects(value)
            end = _end_of_gap(data, end)
    except (ValueError, RecursionError):
        return []
    return found


def _end_of_gap(data: str, start: int) -> int:
    gap = _BETWEEN.match(data, start)
    return gap.end() if gap is not None else start


def _objects(value: Json, depth: int = 0) -> list[JsonObject]:
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list) or depth > 1:
        raise ValueError("not a JSON object")
    return [item for inner in value for item in _objects(inner, depth + 1)]


_WORD_FIELDS = ("reason", "type", "finish_reason", "stop_reason", "value", "name")


def word_of(value: Json) -> str:
    """Return the word that says how an answer ended, "" where there is none.

    Some servers put it in an object or a list. What has no word is returned as JSON, for the message that names it.

    Since: 0.2.
    """
    told = value
    for _ in range(3):
        if isinstance(told, dict):
            fields = told
            told = next((fields[name] for name in _WORD_FIELDS if fields.get(name)), None)
        elif isinstance(told, list):
            told = next((item for item in told if item), None)
    if isinstance(told, str):
        return clean_text(told)
    is_blank = not any(value.values()) if isinstance(value, dict) else not value
    return "" if is_blank else clean_text(json.dumps(value))[:200]


def json_size(value: Json) -> int:
    """Return how many bytes a value takes as JSON, about. Since: 0.2."""
    extent = Extent()
    extent.add_value(value, MAX_LINE_BYTES)
    return extent.json


def replace_values(kept: JsonObject, values: Mapping[str, Json]) -> int:
    """Put `values` in place of those that are kept under the same names; return by how many bytes that grew, about.

    Since: 0.2.
    """
    grown = 0
    for name, value in values.items():
        grown += json_size(value) - (json_size(kept[name]) if name in kept else -len(name))
        kept[name] = value
    return grown


def count(usage: Mapping[str, Json], *path: str) -> int:
    """Return the token count at `path` in a usage object; 0 where a server leaves it out, or tells none."""
    return whole_count(_at(usage, path)) or 0


def index_of(value: Json) -> int | None:
    """Return an index as servers write it (0, 0.0 or "0"), None if there is no index. Since: 0.2."""
    return whole_count(value)


class TokenCounts:
    """Reads the counts of a server's usage object, and says which of those of `Usage` it does not tell.

    Since: 0.2.
    """

    def __init__(self, usage: Mapping[str, Json]) -> None:
        self._usage = usage
        self._unknown: list[str] = []

    def read(self, name: str, *paths: str) -> int | None:
        """Return the first count at one of `paths`, whose steps are separated by points; None if there is no count.

        A value that is not a count makes the field `name` of `Usage` unknown.
        """
        told = [value for path in paths if (value := _at(self._usage, path.split("."))) is not None]
        found = next((number for value in told if (number := whole_count(value)) is not None), None)
        if told and found is None:
            self._unknown.append(name)
        return found

    def usage(
        self,
        *,
        sent: int | None,
        said: int | None,
        total: int | None = None,
        cache_read: int | None = None,
        cache_written: int | None = None,
        cache_written_1h: int | None = None,
        reasoning: int | None = None,
    ) -> Usage:
        """Return the usage. Of input, output and total the one that is missing follows from the others."""
        if sent is None and None not in (said, total):
            sent = _difference(total, said)
        elif said is None and None not in (sent, total):
            said = _difference(total, sent)
        if total is None and sent is not None and said is not None:
            total = sent + said
        missing = {"input_tokens": sent, "output_tokens": said, "total_tokens": total}
        unknown = [name for name, value in missing.items() if value is None]
        unknown += [name for name in self._unknown if name not in missing]
        return Usage(
            input_tokens=sent or 0,
            output_tokens=said or 0,
            total_tokens=total or 0,
            cache_read_input_tokens=cache_read or 0,
            cache_creation_input_tokens=cache_written or 0,
            reasoning_output_tokens=reasoning or 0,
            cache_creation_1h_input_tokens=cache_written_1h or 0,
            unknown=tuple(dict.fromkeys(unknown)),
        )


def _difference(total: int | None, part: int | None) -> int | None:
    return total - part if total is not None and part is not None and total >= part else None


def _at(value: Json, path: Sequence[str]) -> Json:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


_HALF = LazyPattern(
    "(?:[\ud800-\udbff]|(?<![\ud800-\udbff])(?:[\udcc2-\udcf4]|[\udce0-\udcf4][\udc80-\udcbf]|[\udcf0-\udcf4][\udc80-\udcbf]{2}))\\Z"
)
"""The beginning of a character at the end of a text: half of a surrogate pair, or the first bytes of UTF-8."""
_BYTES = LazyPattern("[\udc80-\udcff]+")


def readable(text: str) -> str:
    """Return a text of the server without surrogates.

    Pairs are joined. What stands for bytes that are not UTF-8 (`surrogateescape`) is decoded with its neighbours. The
    rest becomes U+FFFD.

    Since: 0.2.
    """
    cleaned = clean_text(text)
    if cleaned is text:
        return text
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return clean_text(_BYTES.compiled.sub(_decoded, joined))


def _decoded(run: re.Match[str]) -> str:
    return run[0].encode("ascii", "surrogateescape").decode("utf-8", "replace")


class TextPieces:
    """Makes text that can be encoded of pieces that may cut a character in two, as some gateways do."""

    def __init__(self) -> None:
        self.half = ""
        """The beginning of a character that waits for its rest."""

    def take(self, piece: str) -> str:
        """Return `piece` with the half that was held back before it; a half at its end waits for the next piece."""
        text = self.half + piece
        self.half = ""
        if text.isascii():
            return text
        found = _HALF.compiled.search(text[-4:])
        if found is not None:
            self.half = found[0]
            text = text[: -len(self.half)]
        return readable(text)

    def rest(self) -> str:
        """Return the replacement for a half without its other half, "" if there is no half. Since: 0.2."""
        half, self.half = self.half, ""
        return readable(half)
