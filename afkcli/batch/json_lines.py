"""JSON Lines and plain text: a prompt a line.

Since: 0.2.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from afkcli.batch.rows import Row
from afkcli.batch.text_lines import line_error, text_lines
from afkcli.core.contract.jsonform import JsonError, loads

_WHITE = " \t\r\n\ufeff"


def json_rows(name: str, stream: io.BufferedReader) -> Iterator[Row]:
    """Yield the prompts of a JSON Lines file: a line is a text or an object, an empty one is left out.

    Raises:
        UsageError: a line is neither; as `text_lines`.
    """
    for number, line in text_lines(name, stream):
        text = line.strip(_WHITE)
        if not text:
            continue
        try:
            value = loads(text)
        except JsonError as error:
            what = _why_not_json(text, str(error), number, is_cut=not line.endswith("\n"))
            raise line_error(name, number, what) from None
        if isinstance(value, str):
            value = {"message": value}
        elif not isinstance(value, dict):
            raise line_error(name, number, _ARRAY if isinstance(value, list) else _NEITHER)
        yield Row(f"{name}, line {number}", value)


def message_rows(name: str, stream: io.BufferedReader) -> Iterator[Row]:
    """Yield the prompts of a plain text: each line is a message, an empty one is left out; raises as `text_lines`."""
    for number, line in text_lines(name, stream):
        text = line.rstrip("\r\n")
        if text.strip():
            yield Row(f"{name}, line {number}", {"message": text})


_NEITHER = "a line must be a JSON text or an object with a message (plain text lines: --format text)"
_ARRAY = "it is a JSON array; write one object a line, as with: jq -c '.[]' FILE"
_SPREAD = "a JSON value over several lines; write each object on one line, as with: jq -c . FILE"


def _why_not_json(text: str, error: str, number: int, *, is_cut: bool) -> str:
    """Return what is wrong with a line that is not JSON, and what to do."""
    if number == 1 and text.startswith("["):
        return _ARRAY
    if text in ("{", "}", "},", "]"):
        return _SPREAD
    if text.startswith("{'"):
        return "not JSON: it has single quotes, as Python prints an object; write it with json.dumps"
    if text[0] not in '{"':
        return f"not JSON ({error}); for a file of plain text lines use --format text"
    if is_cut:
        return f"the last line is not complete ({error}); complete it, or delete it"
    if " is not JSON" in error or "too large a number" in error:
        return f"{error}; leave the field out, or give null"
    return f"not JSON: {error}"
