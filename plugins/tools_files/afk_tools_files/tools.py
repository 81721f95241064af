"""The tools `files.list`, `files.read`, `files.search` and `files.write`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from afk_tools_files import reading, searching, writing
from afk_tools_files.images import read_image
from afk_tools_files.inside import FORBIDDEN_NAMES, RefusedError, Root, Roots, is_forbidden
from afkcli.plugin import (
    ChangePreview,
    ConfigError,
    FileChange,
    Image,
    Tool,
    ToolError,
    config_dir,
    data_dir,
    expand_user,
    own_places,
    state_dir,
)

if TYPE_CHECKING:
    from afk_tools_files.settings import Settings
    from afkcli.plugin import JsonObject

WHERE = "[tools.files]"
_COUNTS = {"max_output_bytes": 90_000, "max_lines": 100_000, "max_entries": 10_000, "max_hits": 10_000}
"""The largest values of the settings: afk would cut more than this anyway."""

_Path = Annotated[str, Field(description="a file or folder inside the folders, as the tools show it")]


def make_tools(settings: Settings) -> list[Tool]:
    """Return the tools; raises as `afk_tools`."""
    _check(settings)
    own = [os.path.realpath(folder) for folder in (data_dir(), state_dir(), config_dir())]
    roots = [_root(text, own) for text in settings.roots]
    files = Files(roots, settings)
    where = f"Folders: {', '.join(map(repr, settings.roots))}. A path is relative to the first, or begins with one."
    made = [
        _tool("files.list", f"List a folder: names, sizes, when changed. {where}", files.list, settings),
        _tool("files.read", f"Read lines of a text file, or an image. {where}", files.read, settings),
        _tool(
            "files.search",
            f"Find the lines of text files that match a regular expression (Python's). {where}",
            files.search,
            settings,
        ),
    ]
    if settings.write:
        description = f"Write a text file whole: a new one, or one that replaces the old file. {where}"
        preview = ChangePreview(path="path", text="text", change=files.change)
        made.append(_tool("files.write", description, files.write, settings, changes=True, preview=preview))
    return made


def _tool(
    name: str,
    description: str,
    function: object,
    settings: Settings,
    *,
    changes: bool = False,
    preview: ChangePreview | None = None,
) -> Tool:
    return Tool(
        name=name,
        description=description,
        function=function,  # type: ignore[arg-type]
        timeout_s=settings.timeout_s + 2 * searching.MARGIN_SECONDS,  # the tool's own limit comes first: it says more
        idempotent=not changes,
        changes=changes,
        preview=preview,
    )


def _check(settings: Settings) -> None:
    if not settings.roots:
        raise ConfigError(
            f'tools.files has no folder that it may use; name some in the config: {WHERE} roots = ["~/notes"]'
        )
    for name, most in _COUNTS.items():
        if not 1 <= getattr(settings, name) <= most:
            raise ConfigError(f"{WHERE} {name} must be from 1 to {most} (got {getattr(settings, name)})")
    if settings.max_file_mb < 1:
        raise ConfigError(f"{WHERE} max_file_mb must be 1 or more (got {settings.max_file_mb})")
    if not (math.isfinite(settings.timeout_s) and settings.timeout_s > 0):
        raise ConfigError(f"{WHERE} timeout_s must be more than 0 seconds (got {settings.timeout_s})")


def _root(text: str, own: list[str]) -> Root:
    """Return the folder that the config names, with links resolved: this link is the user's own choice."""
    if not text or "\0" in text:
        raise ConfigError(f"{WHERE} roots has {text!r}, which is not a folder")
    given = os.path.abspath(expand_user(text, f"{WHERE} roots"))  # noqa: PTH100
    path = os.path.realpath(given)
    if not os.path.isdir(path):  # noqa: PTH112
        raise ConfigError(
            f"{WHERE} roots has {text!r}, but there is no folder {given}; create it, or remove it from roots"
        )
    if any(is_forbidden(name) for name in path.split("/")):
        raise ConfigError(f"{WHERE} roots has {text!r}; a root cannot be in {' or '.join(FORBIDDEN_NAMES)}")
    if any(f"{path}/".startswith(f"{folder}/") for folder in own):
        raise ConfigError(f"{WHERE} roots has {text!r}, which is afk's own folder and cannot be used")
    label = text.rstrip("/") or "/"
    return Root(label=label, given=given, path=path)


class Files:
    """The tools' functions, for the roots and bounds of the settings."""

    def __init__(self, roots: list[Root], settings: Settings) -> None:
        self._declared = roots
        self._sandboxed = settings.sandbox != "off"
        self._bounds = reading.Bounds(
            max_output_bytes=settings.max_output_bytes,
            max_lines=settings.max_lines,
            max_entries=settings.max_entries,
            max_hits=settings.max_hits,
            max_file_bytes=settings.max_file_mb * 1_000_000,
            timeout_s=settings.timeout_s,
        )

    def _roots(self) -> Roots:
        return Roots(self._declared, _own())

    def list(self, path: _Path = ".") -> str:
        """Return the entries of a folder."""
        roots = self._roots()
        with _told():
            return reading.list_folder(roots, roots.find(path), self._bounds)

    def read(
        self,
        path: _Path,
        start_line: Annotated[int, Field(ge=1, description="the first line, counted from 1")] = 1,
        end_line: Annotated[int | None, Field(ge=1, description="the last line")] = None,
    ) -> str | Sequence[str | Image]:
        """Return lines of a text file, or an image."""
        roots = self._roots()
        with _told():
            place = roots.find(path)
            image = read_image(roots, place, self._bounds)
            if image is not None:
                return [f"{place.shown}: an image of {len(image.data)} bytes", image]
            return reading.read(roots, place, self._bounds, start_line, end_line)

    async def search(
        self,
        pattern: Annotated[str, Field(min_length=1, max_length=1000, description="a regular expression")],
        path: _Path = ".",
        glob: Annotated[
            str | None,
            Field(min_length=1, max_length=200, description="which files: *.md by name, or src/**/*.py by path"),
        ] = None,
        literal: Annotated[bool, Field(description="whether the pattern is plain text instead")] = False,
        ignore_case: bool = False,
    ) -> str:
        """Return the lines of files that match."""
        with _told():
            self._roots().find(path)
            return await searching.search(
                self._declared,
                _own(),
                self._bounds,
                pattern=pattern,
                path=path,
                glob=glob,
                literal=literal,
                ignore_case=ignore_case,
                sandboxed=self._sandboxed,
            )

    def write(self, path: _Path, text: Annotated[str, Field(description="all that the file has then")]) -> str:
        """Write a text file."""
        roots = self._roots()
        with _told():
            return writing.write(roots, roots.find(path), text, self._bounds)

    def change(self, arguments: JsonObject) -> FileChange:
        """Return the change that `files.write` would make, for the person who is asked about it."""
        path, text = str(arguments["path"]), str(arguments["text"])
        roots = self._roots()
        with _told():
            place = roots.find(path)
            before, after = writing.before_and_after(roots, place, text, self._bounds)
        return FileChange(path=os.path.join(place.root.path, *place.parts), before=before, after=after)  # noqa: PTH118


def _own() -> list[str]:
    """Return afk's own places; a store may have been opened since the last call."""
    return [os.path.realpath(place) for place in own_places()]


@contextmanager
def _told() -> Iterator[None]:
    """Raise a refusal as an error for the model."""
    try:
        yield
    except RefusedError as error:
        raise ToolError(str(error)) from None
