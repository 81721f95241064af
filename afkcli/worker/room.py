"""Whether the system has room for what a warm run takes beside that of a cold one.

Processes and threads have places in tables with limits: those of the user (`ulimit -u`), of a control group and of the
machine. A warm run takes some places more than a cold one: a client, a thread that watches it, and the next child that
stands by, with the threads of its rehearsal. So where few are free, nothing runs warm, and the worker ends, so that a
cold run has its places too.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

from afkcli.processes.descendants import all_processes

PLACES = 64
"""How many places have to be free for a warm run."""
PLACES_OF_RUN = 16
"""How many more for each run that goes on in the worker, which may not have started all its threads yet."""
FULL = "the table of processes is nearly full"

_TREE = "/sys/fs/cgroup"
_OF_MACHINE = ("/proc/sys/kernel/threads-max", "/proc/sys/kernel/pid_max")
_WITHOUT_LIMIT = 1 << 21 | 1 << 24
"""CAP_SYS_ADMIN and CAP_SYS_RESOURCE, whose holders the limit of a user does not bind (getrlimit(2))."""
_ALL_USERS = [b"0", b"0", b"4294967295"]
"""/proc/self/uid_map of the first user namespace: in others capabilities do not count for the limit."""


def is_ample(running: int = 0) -> bool:
    """Return whether there is room for a warm run.

    Args:
        running: how many commands run in the worker.
    """
    wanted = PLACES + PLACES_OF_RUN * running
    everything = all_processes()
    return (
        all(everything + wanted <= limit for limit in map(_number_in, _OF_MACHINE) if limit)
        and all(_number_in(current) + wanted <= limit for current, limit in _group_limits())
        and _has_user_room(wanted, everything)
    )


def _has_user_room(wanted: int, everything: int) -> bool:
    """Return whether the user may have so many processes and threads more.

    The user has at most those of the machine: only where that leaves a doubt they are counted, which takes a while.
    """
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if limit == resource.RLIM_INFINITY or (everything and everything + wanted <= limit) or not _is_bound():
        return True
    return _tasks_of(os.getuid()) + wanted <= limit


def _is_bound() -> bool:
    """Return whether the limit of the user counts for this process: not for root, nor with some capabilities."""
    if _content("/proc/self/uid_map").split() != _ALL_USERS:
        return True
    capabilities = _status_of("self").get(b"CapEff", b"0")
    return os.getuid() != 0 and not int(capabilities, 16) & _WITHOUT_LIMIT


def _tasks_of(user: int) -> int:
    """Return how many processes and threads a user has."""
    found = 0
    with os.scandir("/proc") as entries:
        for entry in entries:
            with contextlib.suppress(OSError, ValueError, KeyError):  # it has ended
                # The folder of a process that hides its memory is root's.
                if entry.name.isdecimal() and entry.stat().st_uid in (user, 0):
                    status = _status_of(entry.name)
                    found += int(status[b"Threads"]) if int(status[b"Uid"].split()[0]) == user else 0
    return found


def _status_of(pid: str) -> dict[bytes, bytes]:
    """Return the lines of /proc/PID/status by their names; none of a process that has ended."""
    return dict(line.split(b":", 1) for line in _content(f"/proc/{pid}/status").splitlines() if b":" in line)


def _group_limits() -> Iterator[tuple[str, int]]:
    """Return the limits of the control groups of this process (cgroups(7)), each with the file of what counts."""
    for group, top in _groups():
        while group.startswith(top):
            limit = _number_in(f"{group}/pids.max")
            if limit:
                yield f"{group}/pids.current", limit
            group = group.rpartition("/")[0]


def _groups() -> Iterator[tuple[str, str]]:
    """Return the folders of the control groups of this process that may have limits, each with the top of its tree."""
    for line in _content("/proc/self/cgroup").decode(errors="surrogateescape").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or "pids" in controllers.split(","):
            top = f"{_TREE}/{controllers}".rstrip("/")
            yield f"{top}{path}".rstrip("/"), top


def _number_in(path: str) -> int:
    """Return the number in a file; 0 where it has another word ("max"), or cannot be read."""
    content = _content(path)
    return int(content) if content.rstrip().isdigit() else 0


def _content(path: str) -> bytes:
    """Return what a file of the kernel has; nothing where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
