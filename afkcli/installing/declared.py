"""What a distribution declares, read from its wheel or from where it was unpacked; none of its code is run.

Since: 0.2.
"""

from __future__ import annotations

import email.parser
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.structs import FrozenStruct
from afkcli.installing.environment import normalised

_MAX_BYTES = 5_000_000
"""More metadata than any distribution has is not read: a small wheel may unpack to gigabytes."""


class Declared(FrozenStruct, kw_only=True):
    """What a distribution declares.

    Args:
        name, version, summary, licence: as its metadata says.
        requires: its requirements without extras.
        python: the versions of Python that it needs.
        points: its entry points by group and name.
        files: the paths of its files, as they are below the folder of packages. Those of a folder `NAME.data`, which
            an installer puts elsewhere, are named by where they come to.
        programs: the files that it puts into the folder of commands, besides those of its entry points.
        record: its RECORD, which has the hash of each file.
    """

    name: str
    version: str
    summary: str
    licence: str
    requires: tuple[str, ...]
    python: str
    points: Mapping[str, Mapping[str, str]]
    files: tuple[str, ...]
    record: str
    programs: tuple[str, ...] = ()

    @property
    def plugins(self) -> list[str]:
        """The ids of its plugins: `tools.files`."""
        return sorted(self.points.get("afk", {}))

    @property
    def prefixes(self) -> list[str]:
        """The beginnings of model names that it claims."""
        return sorted(self.points.get("afk.models", {}))

    @property
    def scripts(self) -> list[str]:
        """The commands that it installs for the shell."""
        points = {*self.points.get("console_scripts", {}), *self.points.get("gui_scripts", {})}
        return sorted({*points, *self.programs})


def read_wheel(path: Path) -> Declared:
    """Return what a wheel declares.

    Raises:
        UsageError: it is not a wheel, or its metadata is not that of the file's name.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            found = _declared(names, lambda name: _unpacked(archive, name), str(path))
    except (OSError, zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise UsageError(f"{path} cannot be read as a wheel: {error}") from None
    if normalised(path.name.partition("-")[0]) != normalised(found.name):
        raise UsageError(f"{path} has the metadata of another distribution, {found.name}; it is not used")
    return found


def read_unpacked(folder: Path) -> Declared:
    """Return what the only distribution in a folder declares; raises as `read_wheel`."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return _declared(names, lambda name: (folder / name).read_bytes()[:_MAX_BYTES], str(folder))


def _unpacked(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as file:
        return file.read(_MAX_BYTES)


def _declared(names: Sequence[str], read: Callable[[str], bytes], where: str) -> Declared:
    infos = {name.partition("/")[0] for name in names if name.partition("/")[0].endswith(".dist-info")}
    outside = next((name for name in names if not _is_inside(name)), None)
    if outside is not None:
        raise UsageError(f"{where} has the file {outside!r}, which is outside of it; it is not used")
    if len(infos) != 1 or f"{(info := infos.pop())}/METADATA" not in names:
        raise UsageError(f"{where} is not a wheel: it has no metadata")
    text = read(f"{info}/METADATA").decode("utf-8", "replace")
    headers = email.parser.HeaderParser().parsestr(text)
    points = read(f"{info}/entry_points.txt").decode("utf-8", "replace") if f"{info}/entry_points.txt" in names else ""
    record = read(f"{info}/RECORD").decode("utf-8", "replace") if f"{info}/RECORD" in names else ""
    placed = [_placed(name) for name in names if not name.startswith(f"{info}/") and not name.endswith("/")]
    requires = [str(line) for line in headers.get_all("Requires-Dist") or ()]
    return Declared(
        name=str(headers.get("Name", "")),
        version=str(headers.get("Version", "")),
        summary=str(headers.get("Summary", "")),
        licence=str(headers.get("License-Expression") or headers.get("License") or ""),
        requires=tuple(line for line in requires if "extra ==" not in line.replace("'", '"').replace("==", " == ", 1)),
        python=str(headers.get("Requires-Python", "")),
        points=_points(points),
        files=tuple(name for is_program, name in placed if not is_program),
        programs=tuple(sorted({name.removesuffix(".exe") for is_program, name in placed if is_program})),
        record=record,
    )


def _is_inside(name: str) -> bool:
    """Return whether the path of a file in an archive says where it is, and that is below its folder."""
    parts = name.removesuffix("/").split("/")
    return not any(part in ("", ".", "..") for part in parts) and "\\" not in name and ":" not in parts[0]


def _placed(name: str) -> tuple[bool, str]:
    """Return whether an installer puts a file into the folder of commands, and its path there or below the packages.

    The folder `NAME-VERSION.data` of a wheel has a folder for each place of an environment: `purelib` and `platlib` for
    packages, `scripts` for commands, `data` for the environment itself.
    """
    parts = name.split("/")
    if parts[0].endswith(".data") and len(parts) > 2:
        if parts[1] == "scripts":
            return True, "/".join(parts[2:])
        parts = parts[2:]
    folder = next((at for at, part in enumerate(parts) if part in ("site-packages", "dist-packages")), -1)
    if folder >= 0:
        return False, "/".join(parts[folder + 1 :])
    if len(parts) == 2 and parts[0] in ("bin", "Scripts"):  # of `data`, or where uv unpacked a wheel
        return True, parts[1]
    return False, "/".join(parts)


def _points(text: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            group = line.strip("[]").strip()
        elif "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            found.setdefault(group, {})[name.strip()] = value.strip()
    return found
