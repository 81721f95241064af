"""CSV: the header names fields of a prompt and variables of the prompt file, each further row is a prompt.

Since: 0.2.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

from afkcli.batch.rows import Row
from afkcli.batch.text_lines import line_error, text_lines
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import MAX_LINE_BYTES, JsonObject

_SEPARATORS = ",;\t|"
_EXCEL_HINT = "sep="
"""A first line `sep=;` tells a spreadsheet the separator."""


def table_rows(name: str, stream: io.BufferedReader, separator: str | None = None) -> Iterator[Row]:
    """Yield the prompts of a table; an empty cell is a field that is not given, an empty row is left out.

    A column `options.temperature` is the field `temperature` of `options`. The separator is the one that the header
    has most of, if it is not given: a comma, a semicolon, a tab or a vertical bar.

    Raises:
        UsageError: it has no header, a row does not fit it, or a quote is not closed; as `text_lines`.
    """
    csv.field_size_limit(MAX_LINE_BYTES)  # 128 KiB by default
    numbered = _Numbered(text_lines(name, stream))
    first = next(numbered, None)
    if first is not None and first.lower().startswith(_EXCEL_HINT) and len(first.strip()) == len(_EXCEL_HINT) + 1:
        separator, first = first.strip("\r\n")[-1], next(numbered, None)
    while first is not None and not first.strip():
        first = next(numbered, None)
    if first is None:
        raise UsageError(f"{name} has no prompts: a table needs a header, such as: id,message")
    separator = separator or max(_SEPARATORS, key=lambda item: _outside_quotes(first).count(item))
    records = _records(name, _again(first, numbered), numbered, separator)
    line, cells = next(records)
    columns = _columns(name, line, cells)
    for line, cells in records:
        if any(cell.strip() for cell in cells):
            yield Row(f"{name}, line {line}", _fields(name, line, columns, cells), loose=True)


class _Numbered:
    """Lines without their numbers; `line` is the number of the last one."""

    def __init__(self, lines: Iterator[tuple[int, str]]) -> None:
        self.line = 0
        self._lines = lines

    def __iter__(self) -> _Numbered:
        return self

    def __next__(self) -> str:
        self.line, text = next(self._lines)
        return text


def _again(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def _outside_quotes(text: str) -> str:
    return "".join(text.split('"')[::2])


def _records(name: str, lines: Iterator[str], numbered: _Numbered, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each row, with the number of its first line."""
    reader = csv.reader(lines, delimiter=separator, strict=True)
    line = numbered.line
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise line_error(name, line, f"not CSV: {_in_words(str(error))}") from None
        yield line, cells
        line = numbered.line + 1


def _in_words(error: str) -> str:
    if "unexpected end of data" in error:
        return "a quote that opens here is never closed"
    if "expected after" in error:
        return "text follows a closing quote; a quote within a quoted cell is doubled"
    if "field larger than" in error:
        return "a cell is longer than 64 MB, or a quote that opens here is never closed"
    return error


def _columns(name: str, line: int, cells: list[str]) -> list[str]:
    columns = [cell.strip().strip("\ufeff") for cell in cells]
    twice = next((item for item in columns if item and columns.count(item) > 1), None)
    if twice is not None:
        raise line_error(name, line, f"the column {twice!r} is there twice; rename one")
    if not any(columns):
        raise line_error(name, line, "the header is empty; name the columns, such as: id,message")
    return columns


def _fields(name: str, line: int, columns: list[str], cells: list[str]) -> JsonObject:
    """Return the fields of a row."""
    if any(cell.strip() for cell in cells[len(columns) :]):
        count = f"{len(cells)} cells, but the header has {len(columns)}"
        raise line_error(name, line, f"{count}; put quotes around a text with the separator in it")
    fields: JsonObject = {}
    for number, (column, cell) in enumerate(zip(columns, cells, strict=False), 1):
        if not cell.strip():
            continue
        if not column:
            how = "name it, or leave it out (pandas writes one for its index: use index=False)"
            raise line_error(name, line, f"the column {number} has no name in the header; {how}")
        _place(name, line, fields, column, cell)
    return fields


def _place(name: str, line: int, fields: JsonObject, column: str, cell: str) -> None:
    outer, dot, inner = column.partition(".")
    if not dot:
        fields[column] = cell
        return
    part: Any = fields.setdefault(outer, {})
    if not isinstance(part, dict):
        raise line_error(name, line, f"the columns {outer!r} and {column!r} exclude each other")
    part[inner] = cell
