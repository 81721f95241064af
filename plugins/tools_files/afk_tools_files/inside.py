"""Opens files and folders inside the roots, and no others. It imports only the standard library: the search needs it.

A path is opened component by component, each relative to the folder that was opened before it and without following a
symbolic link (openat(2), O_NOFOLLOW). So a link that is put into the path at any moment ends the walk; no
path is looked up twice. afk's own files are known by their inodes, so that no other name of them (a hard link, a bind
mount) can be used.
"""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

FORBIDDEN_NAMES = (".git", "afk.toml")
_SYSTEM_FOLDERS = ("/proc", "/sys")
_SEARCH = getattr(os, "O_PATH", os.O_RDONLY)  # Linux: a folder may allow passing through it, but not listing it
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link; links are not followed",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class RefusedError(Exception):
    """A refused request, with the reason for the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A declared folder: `label` as it is written in the config, `given` absolute, `path` without symbolic links."""

    label: str
    given: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The place that a path names: a root, and the names of the folders and the file below it."""

    root: Root
    parts: tuple[str, ...]
    first: bool = True

    @property
    def shown(self) -> str:
        """The path in a form that the model can use again."""
        inside = "/".join(self.parts)
        if self.first:
            return inside or "."
        return f"{self.root.label.rstrip('/')}/{inside}" if inside else self.root.label

    def below(self, name: str) -> Place:
        """Return the place of `name` in this folder."""
        return Place(root=self.root, parts=(*self.parts, name), first=self.first)


class Roots:
    """The declared folders, without those parts of them that belong to afk, to git or to the system; made for one call.

    What belongs to afk is looked up when the first file is opened: later files of afk are not in it.
    """

    def __init__(
        self, roots: Sequence[Root], own: Sequence[str], own_identities: Iterable[tuple[int, int]] | None = None
    ) -> None:
        """Take the roots and afk's own places, which must have no symbolic link in their paths if they exist.

        A process that cannot read afk's own folders is given the devices and inodes of what is in them.
        """
        self._roots = tuple(roots)
        self._own = tuple(own)
        self._own_identities = None if own_identities is None else set(own_identities)

    def find(self, path: str) -> Place:
        """Return the place that `path` names: absolute, with a root's label in front, or relative to the first root.

        Raises:
            RefusedError: it is in no root, or contains `..`.
        """
        if not path or "\0" in path:
            raise RefusedError("a path may not be empty or have a NUL character")
        if ".." in path.split("/"):
            raise RefusedError(f"{path!r} has .. in it; name a file or folder inside: {self.labels}")
        root, rest = self._root_of(path)
        parts = tuple(part for part in rest.split("/") if part not in ("", "."))
        return Place(root=root, parts=parts, first=root is self._roots[0])

    @property
    def labels(self) -> str:
        return ", ".join(root.label for root in self._roots)

    def _root_of(self, path: str) -> tuple[Root, str]:
        given = ((base, root) for root in self._roots for base in (root.label, root.given, root.path))
        for base, root in sorted(given, key=lambda item: len(item[0]), reverse=True):
            front = base.rstrip("/")
            if path == base or path.startswith(f"{front}/"):
                return root, path[len(front) :]
        if path.startswith(("/", "~")):
            raise RefusedError(f"{path!r} is outside the folders: {self.labels}")
        return self._roots[0], path

    @contextmanager
    def folder(self, place: Place, *, create: bool = False) -> Iterator[int]:
        """Open the folder `place`, to open files relative to it; `create` makes missing folders.

        Raises:
            RefusedError: it does not exist, is not a folder, or may not be used.
        """
        self.check_path(place)
        descriptor = self._open_root(place.root)
        try:
            for depth, name in enumerate(place.parts):
                at = Place(root=place.root, parts=place.parts[: depth + 1], first=place.first)
                inner = _open_folder(name, descriptor, at, create=create)
                os.close(descriptor)
                descriptor = inner
                self.check_folder(os.fstat(descriptor), at)
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def file(self, place: Place) -> Iterator[int]:
        """Open the file `place` for reading.

        Raises:
            RefusedError: it does not exist, is not a regular file, or may not be used.
        """
        if not place.parts:
            raise RefusedError(f"{place.shown!r} is a folder")
        parent = Place(root=place.root, parts=place.parts[:-1], first=place.first)
        self.check_path(place)
        with self.folder(parent) as folder:
            descriptor = self.open_file(place.parts[-1], folder, place)
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    def check_folder(self, status: os.stat_result, place: Place) -> None:
        """Refuse afk's own folders, by every name for them, and those of the system."""
        self._check_owner(status, place)

    def check_file(self, status: os.stat_result, place: Place) -> None:
        """Refuse everything but a regular file, afk's own files by every name for them, and files of the system."""
        if not stat.S_ISREG(status.st_mode):
            raise RefusedError(f"{place.shown!r} is {kind_of(status.st_mode)}")
        self._check_owner(status, place)

    def open_file(self, name: str, folder: int, place: Place) -> int:
        """Open the regular file `name` of the open folder for reading.

        Raises:
            RefusedError: it does not exist, is not a regular file, or may not be used. A device, a FIFO or a file of
                afk is not even opened: closing the store's database would end the locks that this process has on it.
        """
        check_name(name)
        try:
            self.check_file(os.stat(name, dir_fd=folder, follow_symlinks=False), place)
            descriptor = os.open(name, _FILE, dir_fd=folder)
        except OSError as error:
            raise RefusedError(why(error, place)) from None
        try:
            self.check_file(os.fstat(descriptor), place)
        except RefusedError:
            os.close(descriptor)
            raise
        return descriptor

    def _check_owner(self, status: os.stat_result, place: Place) -> None:
        if self._own_identities is None:
            self._own_identities = set(identities(self._own))
        if (status.st_dev, status.st_ino) in self._own_identities:
            raise RefusedError(f"{place.shown!r} belongs to afk and cannot be used")
        if status.st_dev in _system_devices():
            raise RefusedError(f"{place.shown!r} belongs to the system and cannot be used")

    def check_path(self, place: Place) -> None:
        """Refuse a path that may never be used, even if it does not exist yet."""
        for name in place.parts:
            check_name(name)
        path = "/".join((place.root.path.rstrip("/"), *place.parts, "")).casefold()
        if any(path.startswith(own.casefold().rstrip("/") + "/") for own in self._own):
            raise RefusedError(f"{place.shown!r} belongs to afk and cannot be used")

    def _open_root(self, root: Root) -> int:
        """Open a root, from the top of the file system and without following a link."""
        try:
            if _SEARCH == os.O_RDONLY:  # not Linux: a folder above it may not be listed
                descriptor = os.open(root.path, os.O_RDONLY | _FOLDER)
            else:
                descriptor = os.open("/", _SEARCH | _FOLDER)
                for name in root.path.strip("/").split("/") if root.path != "/" else ():
                    inner = os.open(name, _SEARCH | _FOLDER, dir_fd=descriptor)
                    os.close(descriptor)
                    descriptor = inner
        except OSError as error:
            raise RefusedError(f"the folder {root.label!r} cannot be opened: {error.strerror}") from None
        self.check_folder(os.fstat(descriptor), Place(root=root, parts=()))
        return descriptor


def check_name(name: str) -> None:
    """Refuse names that are never used, in every spelling that a file system may accept for them.

    Raises:
        RefusedError: `name` is such a name.
    """
    if is_forbidden(name):
        raise RefusedError(f"{name!r} is never used, wherever it is")


def is_forbidden(name: str) -> bool:
    """Return whether `name` may be another spelling of a forbidden one: by case, width, characters that some file
    systems ignore, dots and blanks at the end, or the short form of Windows."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    folded = "".join(letter for letter in folded if unicodedata.category(letter) != "Cf").rstrip(". ")
    return folded in FORBIDDEN_NAMES or folded.startswith("git~")


def kind_of(mode: int) -> str:
    """Return the kind of a file that is not a regular one, in words."""
    return _KINDS.get(stat.S_IFMT(mode), "no file")


def why(error: OSError, place: Place) -> str:
    """Return the reason why something could not be opened, in words."""
    if error.errno == errno.ENOENT:
        return f"there is no {place.shown!r}"
    if error.errno == errno.ELOOP:
        return f"{place.shown!r} is {_KINDS[stat.S_IFLNK]}"
    return f"{place.shown!r} cannot be used: {error.strerror}"


def _open_folder(name: str, folder: int, place: Place, *, create: bool) -> int:
    if create:
        with suppress(FileExistsError):
            try:
                os.mkdir(name, dir_fd=folder)
            except FileExistsError:
                raise
            except OSError as error:
                raise RefusedError(why(error, place)) from None
    try:
        return os.open(name, _SEARCH | _FOLDER, dir_fd=folder)
    except OSError as error:
        with suppress(OSError):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                raise RefusedError(f"{place.shown!r} is {_KINDS[stat.S_IFLNK]}") from None
            if not stat.S_ISDIR(status.st_mode):
                raise RefusedError(f"{place.shown!r} is not a folder") from None
        raise RefusedError(why(error, place)) from None


def identities(folders: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the device and inode of each folder and of all in it, also of the file that a link in it leads to."""
    waiting = list(folders)
    while waiting:
        folder = waiting.pop()
        with suppress(OSError):
            yield _identity(os.stat(folder))  # noqa: PTH116 - pathlib is slow to import
            with os.scandir(folder) as found:
                for entry in found:
                    with suppress(OSError):
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                        elif not entry.is_dir():
                            yield _identity(entry.stat())


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _system_devices() -> set[int]:
    found = set()
    for folder in _SYSTEM_FOLDERS:
        with suppress(OSError):
            found.add(os.stat(folder).st_dev)  # noqa: PTH116
    return found - {os.stat("/").st_dev}  # noqa: PTH116
