"""How a call that a person is asked about is shown: a command, the change of a file, or fields, and what to look at.

Since: 0.2.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from afkcli.core.contract.jsonform import Json, JsonObject
from afkcli.core.contract.previews import CommandPreview, FileChange, Preview
from afkcli.screen.diffs import Difference, diff_lines
from afkcli.screen.fields import field_lines
from afkcli.screen.risks import (
    Risk,
    risks_of_command,
    risks_of_fields,
    risks_of_file,
    risks_of_folder,
    risks_of_script,
    risks_of_text,
)
from afkcli.screen.shell_lines import command_lines, script_lines
from afkcli.screen.shown import shown
from afkcli.screen.styles import BOLD, DIM, GREEN, RED, YELLOW
from afkcli.screen.wrapping import wrapped

_MOST_RISKS = 12
_STYLES = {"+": GREEN, "-": RED, "@": DIM}


class Line(NamedTuple):
    """A line, and the SGR parameters in which it is shown."""

    text: str
    style: str = ""


class ShownCall(NamedTuple):
    """A call as a person is asked about it.

    Args:
        tool: the name of the tool.
        arguments: the arguments as they were given.
        preview: how the tool says that its calls read.
        folder: the working folder.
        change: for a change of a file, what it changes; a text if that cannot be said, which says why.
    """

    tool: str
    arguments: JsonObject
    preview: Preview | None = None
    folder: str = ""
    change: FileChange | str | None = None

    def title(self) -> str:
        """Return what the call asks for, without the name of the tool."""
        if self._command() is not None or self._script() is not None:
            return "asks to run this command"
        if isinstance(self.change, FileChange):
            return "asks to change a file"
        return "asks to be called with" if self.arguments else "asks to be called, without arguments"

    def lines(self, columns: int, *, whole: bool = False) -> list[Line]:
        """Return the call in lines of at most `columns` columns.

        Args:
            columns: the width of the terminal.
            whole: whether long texts are shown to their end.
        """
        lines = [*self._body(columns)]
        rest = {name: value for name, value in self.arguments.items() if name not in self._shown()}
        return [*lines, *map(Line, field_lines(rest, columns, whole=whole))]

    def risk_lines(self, columns: int) -> list[Line]:
        """Return what to look at, each with a `!` in front."""
        risks = self.risks()
        lines = [
            Line(f"{'    ' if number else '  ! '}{part}", YELLOW)
            for risk in risks[:_MOST_RISKS]
            for number, part in enumerate(wrapped(shown(risk.line), columns - 4))
        ]
        if len(risks) > _MOST_RISKS:
            lines += _indented("  ! ", f"and {len(risks) - _MOST_RISKS} more", columns, YELLOW)
        return lines

    def risks(self) -> list[Risk]:
        command, script, where = self._command(), self._script(), self._where()
        found: list[Risk] = []
        if command is not None:
            found += risks_of_command(command, where)
        if script is not None:
            found += risks_of_script(script, where)
        if isinstance(self.preview, CommandPreview) and self.preview.folder in self.arguments:
            asked = str(self.arguments[self.preview.folder])
            found += [*risks_of_file(asked, self.folder), *risks_of_folder(asked, where, self.folder)]
        if isinstance(self.change, FileChange):
            found += risks_of_file(self.change.path, self.folder)
            found += risks_of_text((self.change.after or b"").decode(errors="replace"))
        rest: dict[str, Json] = {key: value for key, value in self.arguments.items() if key not in self._shown()}
        return list(dict.fromkeys([*found, *risks_of_text(self.tool), *risks_of_fields(rest)]))

    def _shown(self) -> Iterable[str]:
        """Return the arguments that the preview shows; all others are fields."""
        if self.preview is None or not self._fits():
            return ()
        if isinstance(self.preview, CommandPreview):
            return self.preview.arguments
        return self.preview.arguments if isinstance(self.change, FileChange) else ()

    def _fits(self) -> bool:
        return not isinstance(self.preview, CommandPreview) or (
            self._command() is not None or self._script() is not None
        )

    def _command(self) -> list[str] | None:
        if not isinstance(self.preview, CommandPreview) or not self.preview.argv:
            return None
        argv = self.arguments.get(self.preview.argv)
        return [str(word) for word in argv] if argv and _are_texts(argv) else None

    def _script(self) -> str | None:
        if not isinstance(self.preview, CommandPreview) or not self.preview.line:
            return None
        line = self.arguments.get(self.preview.line)
        return line if isinstance(line, str) and line else None

    def _where(self) -> str:
        if not isinstance(self.preview, CommandPreview):
            return self.folder
        asked = self.arguments.get(self.preview.folder)
        parts = (self.preview.where, asked if isinstance(asked, str) else "")
        if not any(parts):
            return self.folder
        expanded = map(os.path.expanduser, parts)
        # A link is followed, as it is when the command runs: behind one, `..` leads elsewhere.
        whole = os.path.realpath(os.path.join(self.folder, *expanded))  # noqa: PTH118
        return self.folder if whole == os.path.realpath(self.folder) else whole

    def _body(self, columns: int) -> Iterable[Line]:
        command, script = self._command(), self._script()
        if command is not None or script is not None:
            lines = command_lines(command, columns) if command is not None else script_lines(script or "", columns)
            yield from (Line(line, BOLD) for line in lines)
            if self._where() != self.folder:
                yield from _indented("  in ", self._where(), columns)
        elif isinstance(self.change, FileChange):
            difference = Difference(self.change)
            where = os.path.relpath(self.change.path, self.folder or "/")
            path = os.path.normpath(self.change.path) if where.startswith("..") else where
            yield from _indented("  ", f"{shown(path)} ({difference.summary})", columns, BOLD)
            yield from (Line(text, _STYLES.get(sign, "")) for sign, text in diff_lines(difference, columns))
            for note in difference.notes:
                yield from _indented("  (", f"{note})", columns)
        elif isinstance(self.change, str):
            yield from _indented("  ! ", f"the change cannot be shown: {self.change}", columns, YELLOW)


def bounded(lines: Sequence[Line], most: int, columns: int) -> list[Line]:
    """Return lines, from the middle of which some are left out and counted if they are more than `most`."""
    if len(lines) <= max(most, 4):
        return list(lines)
    kept = max(most, 4) - 1
    head = kept - kept // 2
    left = len(lines) - kept
    note = _indented("  ", f"... {left} more lines; v shows all ...", columns, YELLOW)
    return [*lines[:head], *note, *lines[len(lines) - kept // 2 :]]


def _indented(front: str, text: str, columns: int, style: str = "") -> list[Line]:
    parts = wrapped(shown(text), columns - len(front))
    return [Line(f"{' ' * len(front) if number else front}{part}", style) for number, part in enumerate(parts)]


def _are_texts(value: Json) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)
