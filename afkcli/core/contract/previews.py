"""How the call of a tool reads when a person is asked about it: as a command, as a change of a file, or as fields.

A tool plugin says which of its arguments are what. All other arguments are shown as fields, so that a preview hides
nothing.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.structs import FrozenStruct


class CommandPreview(FrozenStruct, kw_only=True):
    """The call runs a command: `Tool(preview=CommandPreview(argv="argv", folder="cwd"))`.

    Args:
        argv: the argument that has the program and its arguments, a list of texts. No shell reads them.
        line: instead of `argv`, the argument that has a text which a shell reads.
        folder: the argument that has the folder in which it runs, if there is one.
        where: the folder that is used without that argument, or to which it is relative; "" for the working folder.
    """

    argv: str = ""
    line: str = ""
    folder: str = ""
    where: str = ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments that it shows."""
        return tuple(name for name in (self.argv, self.line, self.folder) if name)


class FileChange(FrozenStruct, kw_only=True):
    """A file before and after a call.

    Args:
        path: the file, as a person knows it.
        before: its bytes; None if there is no file.
        after: its bytes after the call; None if the call deletes it.
    """

    path: str
    before: bytes | None
    after: bytes | None


class ChangePreview(FrozenStruct, kw_only=True):
    """The call changes a file: `Tool(preview=ChangePreview(path="path", text="text"))`.

    Args:
        path: the argument that has the path of the file; without `change`, it is relative to the working folder.
        text: the argument that has the whole text of the file after the call.
        shows: further arguments that the difference shows, such as the two texts of a replacement.
        change: returns the change that a call makes, for its arguments; it changes nothing itself. It may read files,
            on a thread of its own. It raises `ToolError` where the call would fail; then the question says why. Without
            it, `text` is compared with the file at `path`.
    """

    path: str
    text: str = ""
    shows: tuple[str, ...] = ()
    change: Callable[[JsonObject], FileChange] | None = None

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments that it shows."""
        return tuple(name for name in (self.path, self.text, *self.shows) if name)


Preview: TypeAlias = CommandPreview | ChangePreview


def preview_problem(preview: object, parameters: JsonObject) -> str | None:
    """Return what is wrong with the preview of a tool whose arguments have the JSON Schema `parameters`, or None."""
    if not isinstance(preview, (CommandPreview, ChangePreview)):
        return f"is a {type(preview).__name__}; use CommandPreview or ChangePreview"
    if isinstance(preview, CommandPreview) and bool(preview.argv) == bool(preview.line):
        return "needs argv or line, not both"
    if isinstance(preview, ChangePreview) and not (preview.text or preview.change):
        return "needs text or change"
    properties = parameters.get("properties")
    known = properties.keys() if isinstance(properties, dict) else ()
    unknown = next((name for name in preview.arguments if name not in known), None)
    return None if unknown is None else f"names the argument {unknown!r}, which the tool does not have"
