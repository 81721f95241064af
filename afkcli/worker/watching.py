"""Has the kernel tell when one of many files changes, so that not each of them is asked at each hand-over.

inotify(7) tells of a change of a file whoever makes it, on file systems of this machine; on others nothing is watched.
What a path leads to cannot change unbeknown either: the folder in which it is has the same entries as before, if its
own state is the same, and that is asked.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Iterable

_MODIFY, _ATTRIB, _CLOSE_WRITE, _DELETE_SELF, _MOVE_SELF = 0x2, 0x4, 0x8, 0x400, 0x800  # linux/inotify.h
_EVENTS = _MODIFY | _ATTRIB | _CLOSE_WRITE | _DELETE_SELF | _MOVE_SELF
_LOCAL = ("ext2", "ext3", "ext4", "xfs", "tmpfs", "f2fs")


class Watch:
    """Watches files. `asked` are the paths of which the state has to be asked all the same: folders, links, others."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.asked: list[str] = []
        self._descriptor = -1
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
        local = _local_devices()
        folders: dict[str, None] = {}
        for path in paths:
            if not _is_local_file(path, local):
                self.asked.append(path)
                continue
            if libc.inotify_add_watch(descriptor, os.fsencode(path), _EVENTS) < 0:
                raise OSError(ctypes.get_errno(), "inotify_add_watch")
            folders[os.path.dirname(path)] = None  # noqa: PTH120
        self.asked += folders

    @property
    def is_quiet(self) -> bool:
        """Whether no watched file has changed; False where nothing is watched."""
        return self._descriptor >= 0 and not select.select([self._descriptor], [], [], 0)[0]

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def _is_local_file(path: str, devices: set[int]) -> bool:
    """Return whether a path is that of a file, no link, on one of these devices."""
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_dev in devices


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
