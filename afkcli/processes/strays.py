"""Ends the processes of a supervisor that was suspended or killed: afk is the watcher of the watcher."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator

from afkcli.processes.descendants import (
    GIVE_UP_SECONDS,
    Process,
    children_of,
    descendants,
    end_all,
    processes,
    running_below,
    send,
    stat_of,
)

if sys.platform == "linux":
    import resource

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_START_TIME = 19  # field 22 of /proc/PID/stat, counted from behind the name
_SMALLEST_LIMIT = 1 << 40
_SURE_LOOKS = 2

_supervisors: set[int] = set()
_adopts = False


def adopt_orphans() -> bool:
    """Become the parent of descendants that lose theirs; return whether the platform can do that.

    For a process that is afk's own: in a program that uses afk as a library, other children would come to it too.
    """
    global _adopts
    if sys.platform != "linux" or _adopts:
        return _adopts
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        prctl = ctypes.CDLL(None).prctl
        prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
        _adopts = prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    return _adopts


def new_mark() -> int:
    """Return a number that marks the processes of one supervisor, 0 where the platform has no marks.

    See `afkcli.processes.supervisor.mark_this_process`.
    """
    if sys.platform != "linux":
        return 0
    highest = resource.getrlimit(resource.RLIMIT_RTTIME)[1]
    if highest == resource.RLIM_INFINITY:
        highest = 1 << 63
    return 0 if highest < _SMALLEST_LIMIT else highest // 2 + secrets.randbelow(highest // 2)


class Tree:
    """The processes of one supervisor, which is a child of this process.

    Attributes:
        command: the process id of the command while its number cannot belong to another process, else 0.
    """

    def __init__(self, supervisor: int, mark: int) -> None:
        self._supervisor, self._mark = supervisor, mark
        self._began = _start_time(supervisor)
        self._seen: set[int] = set()
        self.command = 0
        _supervisors.add(supervisor)

    def end(self) -> None:
        """Kill the supervisor and all its processes. It may run, be suspended, or have ended."""
        until = time.monotonic() + GIVE_UP_SECONDS
        for _ in range(_SURE_LOOKS):  # a process that was just being started is there at the second look
            end_all(self._running, until, self._kill_quickly)
        send(self._supervisor, signal.SIGKILL)

    def end_strays(self) -> None:
        """Kill what is left of a supervisor that has ended, and was waited for."""
        _supervisors.discard(self._supervisor)
        self._supervisor = 0
        until = time.monotonic() + GIVE_UP_SECONDS
        for _ in range(_SURE_LOOKS):
            end_all(self._running, until)
        for pid in self._seen:  # those that this process has adopted
            with contextlib.suppress(OSError):
                os.waitpid(pid, os.WNOHANG)

    def forget(self) -> None:
        """The supervisor has ended in the regular way, after all its processes."""
        _supervisors.discard(self._supervisor)

    def _running(self) -> list[int]:
        below = running_below(self._supervisor) if self._supervisor else []
        if below:
            return below
        found = list(processes())
        roots = list(self._roots(found))
        ancestors = [self._supervisor] if self._supervisor else []
        running = list(dict.fromkeys([*roots, *descendants(found, [*ancestors, *roots])]))
        self._seen.update(running)
        return running

    def _roots(self, found: list[Process]) -> Iterator[int]:
        """Yield the processes that are known without their parents: by the command's session and group, by the mark,
        and those that this process has adopted."""
        for process in found:
            if process.began < self._began:
                continue
            of_command = self.command and self.command in (process.pid, process.group, process.session)
            if of_command or self._is_adopted(process) or has_mark(process.pid, self._mark):
                yield process.pid

    def _is_adopted(self, process: Process) -> bool:
        """Return whether this process is the parent of one that it did not start: children of ours that are no
        supervisors have our session."""
        return (
            _adopts
            and not self._supervisor
            and process.parent == os.getpid()
            and process.session != os.getsid(0)
            and process.pid not in _supervisors
        )

    def _kill_quickly(self) -> None:
        for pid in children_of(self._supervisor):
            send(pid, signal.SIGKILL)


def has_mark(pid: int, mark: int) -> bool:
    """Return whether a process has this mark; 0 is the mark of none."""
    if not mark:
        return False
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:  # noqa: PTH123
            return str(mark).encode() in file.read().split()
    except OSError:
        return False


def _start_time(pid: int) -> int:
    """Return when a process started, in ticks of the kernel since the boot; 0 if it is unknown."""
    fields = stat_of(pid)
    return int(fields[_START_TIME]) if len(fields) > _START_TIME else 0
