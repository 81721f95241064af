"""Finds the processes that come from another one, and ends them; the supervisor and afk itself use it.

It imports only the standard library, and no module that is not needed: the supervisor of each command loads it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

TYPE_CHECKING = False  # importing it from typing would take longer than all the rest
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STOP_SECONDS = 1.0
"""How long a command that ran for too long may take to end by itself, after SIGTERM."""
GIVE_UP_SECONDS = 5.0
"""How long it is tried to kill a process that waits for a broken disk, or belongs to another user."""

_FIELDS = (1, 2, 3, 19)  # of /proc/PID/stat, counted from behind the name: parent, group, session, start time
_FREEZE_ROUNDS = 20


def end_all(find: Callable[[], list[int]], until: float, kill_quickly: Callable[[], None] | None = None) -> list[int]:
    """Kill all processes that `find` returns, until it returns none or the time (of the monotonic clock) has come.

    All of them are suspended first: they can start no more processes then, and do not notice the end of the others.

    Args:
        find: lists those that run.
        until: when to give up.
        kill_quickly: kills once more what `find` may be too slow for.

    Returns:
        Those that still run.
    """
    suspended: set[int] = set()
    rounds = 0
    while True:
        found = find()
        if not found or time.monotonic() >= until:
            return found
        new = [pid for pid in found if pid not in suspended]
        if new and rounds < _FREEZE_ROUNDS:
            rounds += 1
            suspended.update(new)
            for pid in new:
                send(pid, signal.SIGSTOP)
            continue
        for pid in found:
            send(pid, signal.SIGKILL)
        if kill_quickly is not None:
            kill_quickly()
        time.sleep(0.002)


class Process:
    """A running process: its id, its parent's, its group, its session, and when it began, in ticks since the boot; 0
    where the platform does not tell."""

    __slots__ = ("began", "group", "parent", "pid", "session")

    def __init__(self, pid: int, parent: int, group: int, session: int = 0, began: int = 0) -> None:
        self.pid, self.parent, self.group, self.session, self.began = pid, parent, group, session, began


def descendants(found: list[Process], ancestors: list[int]) -> list[int]:
    """Return the descendants of `ancestors` among `found`, parents before their children."""
    children: dict[int, list[int]] = {}
    for process in found:
        children.setdefault(process.parent, []).append(process.pid)
    known = dict.fromkeys(ancestors)  # a set that keeps the order
    new = list(known)
    while new:
        new = [pid for parent in new for pid in children.get(parent, ()) if pid not in known]
        known.update(dict.fromkeys(new))
    return list(known)[len(dict.fromkeys(ancestors)) :]


def processes() -> Iterator[Process]:
    """Yield all running processes that this one may see."""
    if not os.path.exists("/proc/self/stat"):  # noqa: PTH110 - pathlib is slow to import
        yield from _processes_by_ps()
        return
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            fields = stat_of(int(name))
            if fields and fields[0] not in ("Z", "X"):
                yield Process(int(name), *(int(fields[number]) for number in _FIELDS))


def stat_of(pid: int) -> list[str]:
    """Return the fields of a process behind its name (state, parent, group, session ...; proc(5)); [] if unknown."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return file.read().rpartition(b")")[2].decode("ascii").split()  # the name may contain any byte
    except OSError:
        return []


def state_of(pid: int) -> str:
    """Return the state of a process, "T" for a suspended one; "" if it is unknown."""
    return "".join(stat_of(pid)[:1])


def running_below(pid: int) -> list[int]:
    """Return the running descendants of a process, parents before their children.

    It reads nothing of other processes. The list is empty where the kernel does not tell (CONFIG_PROC_CHILDREN), and
    may lack some that are starting or ending at this moment.
    """
    found: dict[int, None] = {}  # a set that keeps the order
    new = [pid]
    while new:
        new = [child for parent in new for child in children_of(parent) if child not in found]
        found.update(dict.fromkeys(new))
    return [pid for pid in found if state_of(pid) not in ("Z", "X", "")]


def last_process() -> int:
    """Return the number of the process or thread that the machine has made last, 0 if it does not tell."""
    return _of_loadavg()[1]


def all_processes() -> int:
    """Return how many processes and threads the machine has, 0 if it does not tell."""
    return _of_loadavg()[0]


def _of_loadavg() -> tuple[int, int]:
    try:
        with open("/proc/loadavg", "rb") as file:  # noqa: PTH123
            *_, numbers, last = file.read().split()  # proc(5): `1.20 0.80 0.50 RUNNING/ALL LAST`
            return int(numbers.split(b"/")[1]), int(last)
    except (OSError, ValueError, IndexError):
        return 0, 0


def group_of(pid: int) -> int:
    """Return the process group of a process, 0 if it is unknown."""
    fields = stat_of(pid)
    return int(fields[2]) if fields else 0


def count_below(pid: int, most: int) -> int:
    """Return how many processes and threads come from a process, with those that have ended and are not waited for.

    It counts to `most`, or a little further: counting takes time, in which more may be made.
    """
    number, waiting = 0, children_of(pid)
    if not waiting:  # none, or the kernel does not tell
        return len(descendants(list(processes()), [pid]))
    while waiting and number < most:
        child = waiting.pop()
        waiting += children_of(child)
        with contextlib.suppress(OSError):  # it has ended
            number += len(os.listdir(f"/proc/{child}/task"))  # noqa: PTH208
    return number


def children_of(pid: int) -> list[int]:
    """Return the children of a process, those that have ended included; [] if the kernel does not tell."""
    children: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123
                children += map(int, file.read().split())
    except OSError:  # it has ended
        pass
    return children


def send(pid: int, number: int) -> None:
    """Send a signal to a process, if it is there."""
    with contextlib.suppress(OSError):  # it has ended, or belongs to another user now
        os.kill(pid, number)


def _processes_by_ps() -> Iterator[Process]:
    """The same as `processes`, for systems without /proc (macOS)."""
    told, tell = os.pipe()
    try:
        arguments = ["ps", "-A", "-o", "pid=,ppid=,pgid=,stat="]
        ours = os.posix_spawn("/bin/ps", arguments, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, tell, 1)])
    finally:
        os.close(tell)
    with open(told, encoding="ascii") as lines:  # noqa: PTH123
        listed = [line.split() for line in lines]
    os.waitpid(ours, 0)
    for pid, parent, group, state in listed:
        if int(pid) != ours and not state.startswith("Z"):
            yield Process(int(pid), int(parent), int(group))
