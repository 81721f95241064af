"""What /proc says of a client: its process is asked, because what a frame says of it could be of another time."""

from __future__ import annotations

import os
import socket
import stat
import struct
from functools import cached_property

from afkcli.host.invocation import Invocation
from afkcli.worker.wire import Order

_STATE, _GROUP, _TERMINAL, _FOREGROUND, _NICE, _PRIORITY, _POLICY = 0, 2, 4, 5, 16, 37, 38
"""Fields 3, 5, 7, 8, 19, 40 and 41 of /proc/PID/stat (proc(5)), counted from behind the name."""
_STOPPED = "T"
"""Not "t": what a debugger stops is continued without a signal."""

_IOPRIO_GET = {"x86_64": 252, "aarch64": 31, "riscv64": 31}
_OF_PROCESS = 1
"""The number of the call in the tables of the kernel, and the kind of its id (linux/ioprio.h)."""


class Caller:
    """The process of a client.

    Args:
        pid: its process id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.passed_on: dict[int, int] = {}
        """How often each signal that it got was passed on to this process."""

    @classmethod
    def of(cls, connection: socket.socket, order: Order) -> Caller | None:
        """Return the process at the other end; None if it is another user's, or not the one that the order names."""
        there = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, user, group = struct.unpack("3i", there)
        if pid <= 0 or pid != order.pid or (user, group) != (os.getuid(), os.getgid()):
            return None
        return cls(pid)

    @cached_property
    def began(self) -> list[str]:
        """The fields of its status when it was first asked for."""
        return stat_of(self.pid)

    @property
    def has_terminal(self) -> bool:
        """Whether it has a controlling terminal."""
        return bool(self.began) and self.began[_TERMINAL] != "0"

    @property
    def terminal(self) -> str | None:
        """The path of its controlling terminal; None if it has none."""
        number = int(self.began[_TERMINAL])
        return terminal_path(number) if number else None

    def is_in_foreground(self) -> bool:
        """Return whether it is in the foreground of its terminal now."""
        fields = stat_of(self.pid)
        return bool(fields) and fields[_GROUP] == fields[_FOREGROUND]

    def is_stopped(self) -> bool:
        """Return whether it was stopped by a signal."""
        fields = stat_of(self.pid)
        return bool(fields) and fields[_STATE] == _STOPPED

    def may_be_terminal(self, descriptor: int) -> bool:
        """Return whether an open descriptor of it may be a terminal: it is another device than the null device."""
        try:
            status = os.stat(f"/proc/{self.pid}/fd/{descriptor}")  # noqa: PTH116
        except OSError:
            return True
        return stat.S_ISCHR(status.st_mode) and status.st_rdev != os.stat(os.devnull).st_rdev  # noqa: PTH116

    def is_traced(self) -> bool:
        """Return whether a debugger or strace looks into it, which has to see what the command does."""
        try:
            with open(f"/proc/{self.pid}/status", "rb") as file:  # noqa: PTH123
                return b"\nTracerPid:\t0\n" not in file.read()
        except OSError:
            return True

    def foreground_of(self, descriptor: int) -> bool:
        """Return whether it is in the foreground of the terminal of a descriptor.

        Raises:
            OSError: that is not its controlling terminal.
        """
        if os.fstat(descriptor).st_rdev != int(self.began[_TERMINAL]) or not int(self.began[_TERMINAL]):
            raise OSError("it is not the terminal of the session")
        return self.is_in_foreground()

    def invocation(self) -> Invocation:
        """Return the invocation of this process, which does the work of the client, with the terminal of that one."""
        invocation = Invocation.of_process(owns_process=True)
        invocation.terminal = self.terminal or NO_TERMINAL
        invocation.foreground_of = self.foreground_of
        invocation.passed_on = self.passed_on
        return invocation


NO_TERMINAL = "/dev/tty"
"""Which cannot be opened by a process that has no controlling terminal, as the worker's children are."""


def stat_of(pid: int | str) -> list[str]:
    """Return the fields of /proc/PID/stat after the name; [] where there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def scheduling_of(pid: int | str) -> tuple[str, ...]:
    """Return the nice value, the priority in real time and the scheduling policy of a process; () if not known."""
    fields = stat_of(pid)
    return (fields[_NICE], fields[_PRIORITY], fields[_POLICY]) if len(fields) > _POLICY else ()


def disk_priority_of(pid: int | str) -> int:
    """Return with which class and level the disk serves a process, as ioprio_get(2) has it; -1 if it is not known."""
    import ctypes

    number = _IOPRIO_GET.get(os.uname().machine)
    if number is None:
        return -1
    return int(ctypes.CDLL(None).syscall(number, _OF_PROCESS, os.getpid() if pid == "self" else int(pid)))


def terminal_path(number: int) -> str | None:
    """Return the path of the terminal with a device number, as /proc/PID/stat has it; None if it is not found."""
    major, minor = number >> 8 & 0xFFF, (number & 0xFF) | (number >> 12 & 0xFFF00)
    paths = [f"/dev/pts/{minor + 256 * (major - 136)}"] if 136 <= major <= 143 else [f"/dev/tty{minor}"]
    for path in paths:
        try:
            if os.stat(path).st_rdev == os.makedev(major, minor):  # noqa: PTH116
                return path
        except OSError:
            continue
    return None
