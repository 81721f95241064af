"""Puts an environment back as it was after an install or uninstall that failed half way.

An installer that fails may leave some files of a distribution, with metadata that makes it look installed. uv then
fails at every later install, because it cannot remove what it did not write. So the state before and after is compared,
and what differs is put back by the tool of the environment. What that tool cannot remove is removed here.

Since: 0.2.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from afkcli.core.contract.structs import FrozenStruct
from afkcli.installing.environment import DISTRIBUTION, Environment, normalised
from afkcli.installing.installer import Installer, InstallError

_MOST_NAMED = 5


class State(FrozenStruct, kw_only=True):
    """What is in the folders of packages of an environment.

    Args:
        files: size, time and inode of each file by path, without compiled files.
        versions: the versions of the distributions by normalised name.
        infos: the folders of their metadata by normalised name.
        records: the hashes of their files by path, as their metadata says; by normalised name.
    """

    files: Mapping[Path, tuple[int, int, int]]
    versions: Mapping[str, str]
    infos: Mapping[str, Path]
    records: Mapping[str, Mapping[Path, str]]

    @property
    def owners(self) -> dict[Path, str]:
        """The distribution that each file belongs to, as the metadata says."""
        return {path: name for name, record in self.records.items() for path in record}


def state_of(environment: Environment) -> State:
    """Return what is in an environment now."""
    infos = {
        normalised(info.name.partition("-")[0]): info for site in environment.sites for info in site.glob("*.dist-info")
    }
    records = {name: _record(info) for name, info in infos.items()}
    return State(files=dict(_files(environment)), versions=environment.installed, infos=infos, records=records)


def put_back(installer: Installer, before: State, names: Iterable[str], files: Iterable[str] = ()) -> list[str]:
    """Put an environment back as it was; return what still differs, in words: nothing if it is as it was.

    Args:
        installer: what installs into the environment.
        before: what was there.
        names: the normalised names of the distributions that were to be installed; others that came are left alone.
        files: the paths, below the folders of packages, of the files that were to be installed.
    """
    environment = installer.environment
    now = state_of(environment)
    new = {name for name in names if name in now.infos and before.infos.get(name) != now.infos[name]}
    whole = {name for name in new if now.records[name] and all(path.exists() for path in now.records[name])}
    broken = new - whole
    written = [path for name in broken for path in now.records[name]]
    written += [site / name for site in environment.sites for name in files]
    owners = now.owners
    _remove([path for path in written if path not in before.files and owners.get(path) in {None, *broken}], environment)
    for name in broken:
        shutil.rmtree(now.infos[name], ignore_errors=True)
    owners = before.owners
    lost = {name for name, info in before.infos.items() if not info.is_dir()}
    lost |= {owners[path] for path in _changed(before, environment) if path in owners}
    said = _by_tool(installer, sorted(whole - lost), {name: before.versions[name] for name in lost - {DISTRIBUTION}})
    left = _left(before, environment)
    return [*left, *said] if left else []


def in_part(environment: Environment) -> list[str]:
    """Return the distributions of which files are missing, each with the folder to remove."""
    state = state_of(environment)
    return [
        f"{name} {state.versions[name]} is installed only in part; remove the folder {state.infos[name]}"
        for name, record in sorted(state.records.items())
        if name != DISTRIBUTION and not all(path.exists() for path in record)
    ]


def _by_tool(installer: Installer, more: list[str], lost: Mapping[str, str]) -> list[str]:
    """Have the tool uninstall what came and install what went; return what it said where it failed."""
    said = []
    for names, work in ((more, installer.remove), (sorted(lost), installer.reinstall)):
        try:
            if names:
                work([f"{name}=={lost[name]}" if name in lost else name for name in names])
        except InstallError as error:
            said.append(str(error))
    return said


def _left(before: State, environment: Environment) -> list[str]:
    now = state_of(environment)
    names = sorted({*before.versions, *now.versions})
    said = [
        f"{name} {before.versions.get(name, 'new')} -> {now.versions.get(name, 'removed')}"
        for name in names
        if before.versions.get(name) != now.versions.get(name)
    ]
    changed = [str(path) for path in _changed(before, environment)]
    known = {*before.files, *now.owners}
    added = [str(path) for path in now.files if path not in known and path.parent not in now.infos.values()]
    for what, paths in (("changed or missing files", changed), ("files that were not there", added)):
        if paths:
            more = f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else ""
            said.append(f"{what}: {', '.join(sorted(paths)[:_MOST_NAMED])}{more}")
    return said


def _changed(before: State, environment: Environment) -> list[Path]:
    """Return the files that are missing, or have not what they had; without metadata, which has other times anyway."""
    now = dict(_files(environment))
    infos = set(before.infos.values())
    suspects = [path for path, stat in before.files.items() if now.get(path) != stat and path.parent not in infos]
    hashes = {path: digest for record in before.records.values() for path, digest in record.items()} if suspects else {}
    return [path for path in suspects if path not in now or _digest(path) != hashes.get(path)]


def _remove(paths: Iterable[Path], environment: Environment) -> None:
    """Remove files that are in the folders of packages, and the folders that are then empty."""
    sites = {site.resolve() for site in environment.sites}
    for path in paths:
        folder = path.parent.resolve()
        if not sites & {folder, *folder.parents}:
            continue  # a wheel may name any file
        with contextlib.suppress(OSError):  # it is a folder, or lies below a file; what stays is named afterwards
            path.unlink(missing_ok=True)
            while folder not in sites and not any(folder.iterdir()):
                folder.rmdir()
                folder = folder.parent


def _files(environment: Environment) -> Iterator[tuple[Path, tuple[int, int, int]]]:
    for site in dict.fromkeys(environment.sites):
        for folder, folders, names in os.walk(site):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for name in names:
                path = Path(folder, name)
                try:
                    stat = path.lstat()
                except OSError:
                    continue
                yield path, (stat.st_size, stat.st_mtime_ns, stat.st_ino)


def _record(info: Path) -> dict[Path, str]:
    """Return the hashes of a distribution's files by path, as its metadata says, without compiled ones."""
    try:
        lines = (info / "RECORD").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    rows = [row for row in csv.reader(lines) if len(row) > 1 and not row[0].endswith(".pyc")]
    return {Path(os.path.normpath(info.parent / row[0])): row[1] for row in rows}


def _digest(path: Path) -> str:
    try:
        digest = hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return ""
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
