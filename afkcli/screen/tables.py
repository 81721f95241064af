"""What the commands besides `run` write: data on stdout, as columns for a person or one object a line."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import unicodedata
from collections.abc import Iterable, Sequence

import click

from afkcli.core.contract.errors import AfkError, UsageError
from afkcli.core.contract.jsonform import dumps
from afkcli.host.signals import die_of
from afkcli.screen.renderers import is_disconnected, one_line, visible, visible_json

GAP = "  "
_WIDEST = 40  # columns that a cell takes on a terminal at most, but for the last of a row
BOLD, DIM, RED, GREEN, YELLOW = "1", "2", "31", "32", "33"

json_option = click.option("--json", "as_json", is_flag=True, help="Write one JSON object a line.")


class Stdout:
    """stdout as UTF-8. It is only data; without a terminal there are no colours and nothing is shortened."""

    def __init__(self) -> None:
        self.is_terminal = os.isatty(1)
        self._colour = self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def write(self, text: str) -> None:
        """Write `text`; the process ends quietly of SIGPIPE if nobody reads any more.

        Raises:
            AfkError: it cannot be written (a full disk).
        """
        data = memoryview(text.encode("utf-8", "replace"))
        while data:
            try:
                data = data[os.write(1, data) :]
            except BlockingIOError:  # somebody made the pipe non-blocking
                select.select([], [1], [])
            except OSError as error:
                if is_disconnected(error):
                    die_of_closed_stdout()
                raise AfkError(f"stdout cannot be written: {error.strerror}") from None

    def lines(self, lines: Iterable[str]) -> None:
        """Write each of `lines` with a newline, all at once."""
        self.write("".join(f"{line}\n" for line in lines))

    def objects(self, objects: Iterable[object]) -> None:
        """Write each object as one line of JSON."""
        self.json_lines(map(dumps, objects))

    def json_lines(self, lines: Iterable[str]) -> None:
        """Write lines of JSON: to the letter, but for a terminal what would move it is escaped."""
        self.lines(map(visible_json, lines) if self.is_terminal else lines)

    def text(self, text: str) -> str:
        """Return text of several lines as it may be written: made visible on a terminal, to the letter elsewhere."""
        return visible(text) if self.is_terminal else text

    def styled(self, text: str, style: str) -> str:
        """Return `text` with an SGR parameter of ECMA-48 where colours are shown."""
        return f"\x1b[{style}m{text}\x1b[0m" if self._colour and text else text

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
        """Write columns. Only a terminal gets the head, and its last column cut to the width.

        Args:
            head: the names of the columns.
            rows: one text a column.
            styles: one SGR parameter a row, "" for none.
        """
        cells = [[one_line(cell) or "-" for cell in row] for row in rows]
        if self.is_terminal:
            cells = [[*(shortened(cell, _WIDEST) for cell in row[:-1]), row[-1]] for row in cells]
        shown = [list(head), *cells] if self.is_terminal else cells
        widths = [max(map(_width, column)) for column in zip(*shown, strict=True)]
        if self.is_terminal:
            widths[-1] = max(10, shutil.get_terminal_size().columns - sum(widths[:-1]) - len(GAP) * (len(widths) - 1))
        lines = [_columns(row, widths, cut=self.is_terminal) for row in shown]
        if self.is_terminal:
            styles = (BOLD, *(styles or [""] * len(rows)))
            lines = [self.styled(line, style) if style else line for line, style in zip(lines, styles, strict=True)]
        self.lines(lines)


def die_of_closed_stdout() -> None:
    """End quietly, as `yes | head` does."""
    die_of(getattr(signal, "SIGPIPE", signal.SIGTERM))


def confirmed(question: str, *, yes: bool) -> bool:
    """Return whether the user agrees: by `--yes`, or asked on the terminal.

    Raises:
        UsageError: there is no terminal to ask on.
    """
    if yes:
        return True
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr is not None and sys.stderr.isatty()):
        raise UsageError(f"nothing was done: there is no terminal to ask {one_line(question)!r} on; give --yes")
    return click.confirm(one_line(question), err=True)


def write_file(path: str, pieces: Iterable[str]) -> None:
    """Write `pieces` to a file that only the user can read, in one step: it is never half there.

    What is no file (a pipe, `/dev/null`) is written to as it is.

    Raises:
        UsageError: it cannot be written.
    """
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target):  # noqa: PTH110, PTH113
        _write_to(target, path, pieces)
        return
    new, created = f"{target}.{os.getpid()}.new", False
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        created = True
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(descriptor)
        os.replace(new, target)  # noqa: PTH105
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        if created and os.path.lexists(new):
            os.unlink(new)  # noqa: PTH108


def _write_to(target: str, path: str, pieces: Iterable[str]) -> None:
    try:
        with open(target, "w", encoding="utf-8", newline="\n") as file:  # noqa: PTH123
            file.writelines(pieces)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None


def _columns(cells: Sequence[str], widths: Sequence[int], *, cut: bool) -> str:
    *first, last = cells
    padded = [cell + " " * (width - _width(cell)) for cell, width in zip(first, widths, strict=False)]
    return GAP.join([*padded, shortened(last, widths[-1]) if cut else last])


def shortened(text: str, width: int) -> str:
    """Return `text` on at most `width` columns of a terminal, with an ellipsis where it is cut."""
    if _width(text) <= width:
        return text
    while text and _width(text) >= width:
        text = text[:-1]
    return f"{text}…"


def _width(text: str) -> int:
    """Return the columns that `text` takes on a terminal: East Asian wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_WIDTHS.get(unicodedata.east_asian_width(char), 1) for char in text if not unicodedata.combining(char))


_WIDTHS = {"W": 2, "F": 2}
