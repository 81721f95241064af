"""Has the kernel tell when one of many files changes, so that not each of them is asked at each hand-over.

inotify(7) tells of a change of a file whoever makes it, on file systems of this machine; on others nothing is watched.
What a path leads to cannot change unbeknown either. Each folder above a file is watched too, up to one whose state is
asked: that one has the same entries as before. What is mounted over a folder is told of in no folder, so the kernel is
asked for new mounts, or the folders for their state.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

_MODIFY, _ATTRIB, _CLOSE_WRITE, _DELETE_SELF, _MOVE_SELF = 0x2, 0x4, 0x8, 0x400, 0x800  # linux/inotify.h
_EVENTS = _MODIFY | _ATTRIB | _CLOSE_WRITE | _DELETE_SELF | _MOVE_SELF
_CREATE, _DELETE, _MOVED_FROM, _MOVED_TO = 0x100, 0x200, 0x40, 0x80
_ONLY_FOLDER, _NO_LINK = 0x1000000, 0x2000000
_ENTRIES = _CREATE | _DELETE | _MOVED_FROM | _MOVED_TO | _ATTRIB | _DELETE_SELF | _MOVE_SELF | _ONLY_FOLDER | _NO_LINK
_LOCAL = ("ext2", "ext3", "ext4", "xfs", "tmpfs", "f2fs")


class Watch:
    """Watches files, and the folders in which they are.

    `asked` are the paths of which the state has to be asked all the same: folders, links, others. `folders` are the
    watched ones; they have to be asked where something may have been mounted over one: see `has_same_mounts`.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.asked: list[str] = []
        self.folders: list[str] = []
        self._descriptor = -1
        self._mounts = -1
        try:
            self._watch(list(paths))
        except (ImportError, OSError, AttributeError):
            self.close()

    def _watch(self, paths: list[str]) -> None:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._descriptor = descriptor

        def add(path: str, events: int) -> None:
            if libc.inotify_add_watch(descriptor, os.fsencode(path), events) < 0:
                raise OSError(ctypes.get_errno(), "inotify_add_watch")

        local = _local_devices()
        files = [path for path in paths if _is_local(path, stat.S_IFREG, local)]
        for path in files:
            add(path, _EVENTS)
        known = set(files)
        others = [path for path in paths if path not in known]
        tops = set(others)
        for folder in others:
            below = _up_to(os.path.dirname(folder), tops, local)  # noqa: PTH120
            if below is None or not _is_local(folder, stat.S_IFDIR, local):
                self.asked.append(folder)
            else:
                self.folders += [*below, folder]
                tops.update(below)
        for folder in {os.path.dirname(path): None for path in files}:  # noqa: PTH120
            below = _up_to(folder, tops, local)
            if below is None:
                self.asked.append(folder)
            else:
                self.folders += below
                tops.update(below)
        for folder in self.folders:
            add(folder, _ENTRIES)

    @property
    def is_on(self) -> bool:
        """Whether files are watched."""
        return self._descriptor >= 0

    @property
    def is_quiet(self) -> bool:
        """Whether no watched file or folder has changed; False where nothing is watched."""
        return self.is_on and not select.select([self._descriptor], [], [], 0)[0]

    def watch_mounts(self) -> None:
        """Have the kernel tell this process of changes of its mounts from here on (proc(5), /proc/PID/mounts)."""
        try:
            self._mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._mounts = -1

    @property
    def has_same_mounts(self) -> bool:
        """Whether nothing was mounted or unmounted since `watch_mounts`; False where that is not known."""
        if self._mounts < 0:
            return False
        poll = select.poll()
        poll.register(self._mounts, select.POLLPRI)
        return not poll.poll(0)

    def close(self) -> None:
        for descriptor in (self._descriptor, self._mounts):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._mounts = -1


def _up_to(folder: str, tops: AbstractSet[str], devices: set[int]) -> list[str] | None:
    """Return the folders from one of `tops` down to `folder`, without the first.

    None where they lead to no top, or by a link or a file system of which no change is told.
    """
    found: list[str] = []
    while folder not in tops:
        above = os.path.dirname(folder)  # noqa: PTH120
        if above == folder or not _is_local(folder, stat.S_IFDIR, devices):
            return None
        found.insert(0, folder)
        folder = above
    return found


def _is_local(path: str, kind: int, devices: set[int]) -> bool:
    """Return whether a path is that of a file, or of a folder, on one of these devices; it is no link."""
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return False
    return stat.S_IFMT(status.st_mode) == kind and status.st_dev in devices


def _local_devices() -> set[int]:
    """Return the devices of mounted file systems whose changes are all made by this kernel."""
    found = set()
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        for line in file:
            before, _, after = line.partition(" - ")
            if after.split(" ", 1)[0] in _LOCAL:
                major, _, minor = before.split()[2].partition(":")
                found.add(os.makedev(int(major), int(minor)))
    return found
