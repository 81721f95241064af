"""A control group for one command, in which the kernel bounds the number of processes and threads (cgroups(7)).

It can be made by root, and by a user in a part of the tree that was delegated (as systemd does for the programs of a
desktop). The supervisor loads this file, so it imports only the standard library.
"""

from __future__ import annotations

import contextlib
import errno
import os

TYPE_CHECKING = False  # importing it from typing would take longer than all the rest
if TYPE_CHECKING:
    from collections.abc import Iterator

_TREE = "/sys/fs/cgroup"
_REMOVE_TRIES = 100


class PidGroup:
    """A group that has no processes yet."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def join(self) -> None:
        """Put the calling process into it, and so all that will come from it; `OSError` if that is refused."""
        self._write("cgroup.procs", "0")

    @property
    def was_full(self) -> bool:
        """Whether the kernel has refused to make a process in it."""
        with contextlib.suppress(OSError, ValueError), open(f"{self._folder}/pids.events", "rb") as file:  # noqa: PTH123
            return int(file.read().split()[1]) > 0
        return False

    def close(self) -> None:
        """Kill all processes in it where the kernel can do that (version 2, Linux 5.14); have it make no others."""
        for name, value in (("pids.max", "0"), ("cgroup.kill", "1")):
            with contextlib.suppress(OSError):
                self._write(name, value)

    def remove(self) -> bool:
        """Remove it; return whether it is gone. It has to be empty."""
        for _ in range(_REMOVE_TRIES):
            try:
                os.rmdir(self._folder)  # noqa: PTH106 - pathlib is slow to import
            except OSError as error:
                if error.errno != errno.EBUSY:  # a process that has ended is still in it for a moment
                    return error.errno == errno.ENOENT
            else:
                return True
        return False

    def _write(self, name: str, value: str) -> None:
        descriptor = os.open(f"{self._folder}/{name}", os.O_WRONLY)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)


def make_pid_group(most: int) -> PidGroup | None:
    """Return a new group that has `most` processes and threads at once, or None if none can be made here.

    The group of this process comes first as the parent. Version 2 does not let it have limits for its parts while it
    has processes itself, so the one above it comes next.
    """
    for parent in _parents():
        folder = f"{parent}/afk-{os.getpid()}"
        group = PidGroup(folder)
        try:
            _remove_left(parent)
            os.mkdir(folder)  # noqa: PTH102
            group._write("pids.max", str(most))
        except OSError:
            group.remove()
            continue
        return group
    return None


def _parents() -> Iterator[str]:
    with contextlib.suppress(OSError), open("/proc/self/cgroup", encoding="utf-8") as file:  # noqa: PTH123
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if "pids" in controllers.split(","):
                tree = f"{_TREE}/{controllers}"
            elif not controllers:
                tree = _TREE
            else:
                continue
            own = f"{tree}{path}".rstrip("/")
            yield own
            if path != "/":
                yield own.rpartition("/")[0]


def _remove_left(parent: str) -> None:
    """Remove what a supervisor that was killed has left: the group of a process that there is no more."""
    for name in os.listdir(parent):  # noqa: PTH208
        number = name.removeprefix("afk-")
        if number != name and number.isdigit() and not os.path.exists(f"/proc/{number}"):  # noqa: PTH110
            with contextlib.suppress(OSError):
                os.rmdir(f"{parent}/{name}")  # noqa: PTH106
