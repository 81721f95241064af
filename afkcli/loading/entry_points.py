"""Reads the entry points of installed distributions in one pass, without their metadata and without an import.

`importlib.metadata.entry_points` finds the same, but it takes ten times as long: it imports the email package, and it
reads the file of every distribution as a section of text. What this pass cannot read itself (a zip file on the path, a
finder of someone else) it asks importlib.metadata for.

The rules are those of importlib.metadata (Python 3.11): the folders `*.dist-info` and `*.egg-info` in each entry of
`sys.path`, and `EGG-INFO` in a `*.egg`; of two distributions with one normalised name the first on the path counts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    import importlib.metadata

_FILE = "entry_points.txt"
_METADATA = ("METADATA", "PKG-INFO", "")
"""Where the name and the version are: of a wheel, of an egg, of an egg that is one file."""


class Distribution:
    """An installed distribution. Its metadata is read when its name or its version is asked for.

    Args:
        path: its folder of metadata, or its file; None where the name is given.
        name, version: its name and its version, if they are known.
    """

    __slots__ = ("_name", "_path", "_version")

    def __init__(self, path: str | None = None, name: str = "", version: str = "") -> None:
        self._path = path
        self._name = name
        self._version = version

    @property
    def name(self) -> str:
        """The name as its metadata has it; as its folder has it where the metadata cannot be read."""
        self._read()
        return self._name

    @property
    def version(self) -> str:
        """The version, "" where it is not known."""
        self._read()
        return self._version

    def _read(self) -> None:
        if self._path is None:
            return
        path, self._path = self._path, None
        headers = _headers(path)
        stem, _, version = os.path.basename(path).rpartition(".")[0].partition("-")  # noqa: PTH119 - pathlib is slow
        self._name = headers.get("name") or stem or "?"
        self._version = headers.get("version") or version


class EntryPoint:
    """One line of a distribution's entry points."""

    __slots__ = ("distribution", "group", "key", "name", "value")

    def __init__(self, group: str, name: str, value: str, key: str, distribution: Distribution) -> None:
        self.group = group
        self.name = name
        self.value = value
        self.key = key
        """The distribution's normalised name."""
        self.distribution = distribution


_kept: tuple[list[str], list[EntryPoint]] | None = None
_GROUPS = ("afk", "afk.models")


def keep_found() -> list[str]:
    """Find the entry points of afk's groups once for this process and its forks.

    Returns:
        The folders and files that they were read from, whether or not these exist: once one of them has changed, what
        is kept is out of date.

    Since: 0.2.
    """
    global _kept
    _kept = None
    places = [entry for entry in sys.path if isinstance(entry, str)]
    for entry in tuple(places):
        try:
            children = os.listdir(entry or ".")  # noqa: PTH208
        except OSError:
            continue
        metadata = [child for child in children if child.lower().endswith((".dist-info", ".egg-info"))]
        places += [os.path.join(entry, child, _FILE) for child in metadata]  # noqa: PTH118
    _kept = list(sys.path), list(_entry_points(_GROUPS))
    return places


def claims(groups: Collection[str]) -> dict[tuple[str, str], list[EntryPoint]]:
    """Return the entry points of these groups by group and name: one for each distribution that claims the name.

    A distribution whose file cannot be read or decoded has none.

    Since: 0.2.
    """
    found: dict[tuple[str, str], dict[str, EntryPoint]] = {}
    for point in _known(groups):
        found.setdefault((point.group, point.name), {})[point.key] = point
    return {claimed: list(points.values()) for claimed, points in found.items()}


def _known(groups: Collection[str]) -> Iterator[EntryPoint]:
    if _kept is None or _kept[0] != sys.path or not set(groups).issubset(_GROUPS):
        return _entry_points(groups)
    return (point for point in _kept[1] if point.group in groups)


def _entry_points(groups: Collection[str]) -> Iterator[EntryPoint]:
    seen: set[str] = set()
    for finder in sys.meta_path:
        if not hasattr(finder, "find_distributions"):
            continue
        if finder.__module__ != "_frozen_importlib_external":  # not Python's own, which looks on the path
            yield from _found_by(finder, None, groups, seen)
            continue
        for entry in sys.path:
            if not isinstance(entry, str):  # Python's import passes over it
                continue
            try:
                children = os.listdir(entry or ".")  # noqa: PTH208 - pathlib is slow to import
            except NotADirectoryError:
                yield from _found_by(finder, [entry], groups, seen)
            except (OSError, TypeError, ValueError):
                continue
            else:
                yield from _found_in(entry, children, groups, seen)


def _found_in(folder: str, children: list[str], groups: Collection[str], seen: set[str]) -> Iterator[EntryPoint]:
    """Yield the entry points of the distributions in a folder of the path."""
    is_egg = folder.lower().endswith(".egg")
    eggs = []
    for child in children:
        low = child.lower()
        if low.endswith((".dist-info", ".egg-info")):
            key = _normalised(low.rpartition(".")[0].partition("-")[0])
            if key not in seen:
                seen.add(key)
                path = os.path.join(folder, child)  # noqa: PTH118 - pathlib is slow to import
                yield from _of_text(_bytes_of(path, _FILE), groups, key, Distribution(path))
        elif is_egg and low == "egg-info":
            eggs.append(child)
    for child in eggs:
        path = os.path.join(folder, child)  # noqa: PTH118 - pathlib is slow to import
        name = _headers(path).get("name") or os.path.basename(folder).rpartition(".")[0].partition("-")[0]  # noqa: PTH119
        key = _normalised(name)
        if key not in seen:
            seen.add(key)
            yield from _of_text(_bytes_of(path, _FILE), groups, key, Distribution(path))


def _found_by(finder: object, path: list[str] | None, groups: Collection[str], seen: set[str]) -> Iterator[EntryPoint]:
    """Yield the entry points of the distributions that a finder finds; those of `path` if that is given."""
    from importlib.metadata import DistributionFinder

    context = DistributionFinder.Context() if path is None else DistributionFinder.Context(path=path)
    found: Iterator[importlib.metadata.Distribution] = finder.find_distributions(context)  # type: ignore[attr-defined]
    for one in found:
        try:
            name, version, text = one.metadata["Name"] or "?", one.metadata["Version"] or "", one.read_text(_FILE) or ""
        except Exception:  # noqa: S112 - its metadata is damaged, and the others are to be found
            continue
        key = _normalised(name)
        if key not in seen:
            seen.add(key)
            yield from _of_text(text.encode(), groups, key, Distribution(None, name, version))


def _of_text(data: bytes, groups: Collection[str], key: str, distribution: Distribution) -> Iterator[EntryPoint]:
    """Yield the entry points in the bytes of an entry_points.txt."""
    if not any(group.encode() in data for group in groups):
        return
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError:
        return
    group = ""
    for line in map(str.strip, lines):
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            group = line.strip("[]")
        elif group in groups:
            name, equals, value = line.partition("=")
            if equals:
                yield EntryPoint(group, name.strip(), value.strip(), key, distribution)


def _headers(path: str) -> dict[str, str]:
    """Return the headers of a distribution's metadata by their names in lower case; none if it cannot be read."""
    data = next(filter(None, (_bytes_of(path, name) for name in _METADATA)), b"")
    headers: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        if not line:
            break
        name, _, value = line.partition(":")
        headers.setdefault(name.lower(), value.strip())
    return headers


def _bytes_of(path: str, name: str) -> bytes:
    """Return the bytes of a file in a distribution's folder; none if it cannot be read."""
    try:
        with open(os.path.join(path, name) if name else path, "rb") as file:  # noqa: PTH118, PTH123
            return file.read()
    except (OSError, ValueError):
        return b""


def _normalised(name: str) -> str:
    """Return a name in lower case, each run of `-`, `_` and `.` one underscore, as importlib.metadata does."""
    name = name.lower().replace("-", "_").replace(".", "_")
    while "__" in name:
        name = name.replace("__", "_")
    return name
