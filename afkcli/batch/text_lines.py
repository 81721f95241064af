"""The lines of a file of prompts, one at a time: decoded, numbered, and bounded in length.

Since: 0.2.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import suppress

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import MAX_LINE_BYTES
from afkcli.core.contract.text import in_mb

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_UNPACK = "it is compressed; unpack it first, as with: {} FILE | afk batch run - -o RESULTS.jsonl"
_OTHER_FORMS = {
    b"\x1f\x8b": _UNPACK.format("gunzip -c"),
    b"BZh": _UNPACK.format("bunzip2 -c"),
    b"\xfd7zXZ": _UNPACK.format("xzcat"),
    b"\x28\xb5\x2f\xfd": _UNPACK.format("zstdcat"),
    b"PK\x03\x04": "it is an archive or a spreadsheet; unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "it is a spreadsheet; save the sheet as CSV",
    b"PAR1": "it is a Parquet file; write its rows as JSON Lines",
    b"ARROW1": "it is an Arrow file; write its rows as JSON Lines",
    b"SQLite format": "it is a database; write its rows as JSON Lines",
    b"%PDF-": "it is a PDF; attach it to a prompt, or name the folder that it is in",
    **dict.fromkeys(_UTF32, "it is UTF-32; save it as UTF-8"),
}
"""What people name in the place of a text, by its first bytes."""


def line_error(name: str, line: int, what: str) -> UsageError:
    """Return the error for a line of the file `name`."""
    return UsageError(f"{name}, line {line}: {what}")


def first_bytes(stream: io.BufferedReader) -> bytes:
    """Return some bytes at the beginning of a stream, which stay there."""
    return stream.peek(512)[:512]


def text_lines(name: str, stream: io.BufferedReader) -> Iterator[tuple[int, str]]:
    """Yield the lines of a stream with their numbers from 1, each as it is, with its end.

    The text is UTF-8 with or without a byte order mark, or UTF-16 with one.

    Raises:
        UsageError: a line is too long or is not such a text, or the stream cannot be read.
    """
    start = first_bytes(stream)
    for magic, what in _OTHER_FORMS.items():
        if start.startswith(magic):
            raise UsageError(f"{name}: {what}")
    reader = _utf16_lines if start.startswith(_UTF16) else _utf8_lines
    try:
        yield from reader(name, stream)
    except OSError as error:
        raise UsageError(f"{name} cannot be read any further: {error.strerror}") from None


def _utf8_lines(name: str, stream: io.BufferedReader) -> Iterator[tuple[int, str]]:
    number = 0
    while data := stream.readline(MAX_LINE_BYTES + 2):
        number += 1
        _check_length(name, number, len(data.rstrip(b"\r\n")))
        if number == 1:
            data = data.removeprefix(codecs.BOM_UTF8)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            byte = f"0x{data[error.start]:02x}"
            how = "save it as UTF-8, as with: iconv -f latin1 -t utf-8 FILE (or -f cp1252, as it was written)"
            raise line_error(name, number, f"not UTF-8 text (byte {byte}); {how}") from None
        _check_nul(name, number, text)
        yield number, text


def _utf16_lines(name: str, stream: io.BufferedReader) -> Iterator[tuple[int, str]]:
    reader = io.TextIOWrapper(stream, encoding="utf-16", newline="\n")
    number = 0
    try:
        while text := reader.readline(MAX_LINE_BYTES + 2):
            number += 1
            _check_length(name, number, len(text.rstrip("\r\n")))
            _check_nul(name, number, text)
            yield number, text
    except UnicodeDecodeError:
        raise line_error(
            name, number + 1, "not UTF-16 text, as the beginning of the file says; save it as UTF-8"
        ) from None
    finally:
        with suppress(ValueError):  # a reader that gave up has closed it
            reader.detach()


def _check_length(name: str, line: int, size: int) -> None:
    if size > MAX_LINE_BYTES:
        raise line_error(name, line, f"longer than {in_mb(MAX_LINE_BYTES)}; attach large contents as files")


def _check_nul(name: str, line: int, text: str) -> None:
    if "\0" in text:
        raise line_error(name, line, "it has NUL bytes, so it is not text, or UTF-16 without a mark; save it as UTF-8")
