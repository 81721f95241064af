"""Runs one command, and stops everything that it leaves running: a process of its own, between afk and the command.

Started as `python -I -S -B supervisor.py CONTROL LC_CTYPE ARGV...`, so it imports only the standard library. Its
environment is the command's; LC_CTYPE is "1" if that has the variable. CONTROL is the number of a socket to afk. The
supervisor writes these lines to it:

    started PID      the process of the command runs, as the leader of a session of its own
    executed 0       it executes the command
    failed ERRNO     the command could not be executed
    ended STATUS     it has ended, with this status as in waitpid(2)
    stopped NUMBER   the number of its processes that still ran and were stopped
    left NUMBER      the number of processes that could not be stopped

The line `stop SECONDS` from afk asks to stop everything, with so much time to end by itself. The end of the socket (afk
closed it, or died in any way) asks to stop it at once. On Linux the supervisor is the subreaper of its descendants
(prctl(2)), so it still finds a process that leaves its session or loses its parent.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator

AT_ONCE_SECONDS = 0.1
"""How long a command may take to end by itself, after SIGTERM, when afk is gone."""
GIVE_UP_SECONDS = 5.0
"""How long the supervisor tries to kill a process that waits for a broken disk, or belongs to another user."""

_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER = 4, 24, 36  # linux/prctl.h
_READING_CAPABILITIES = (17, 19, 21, 38)  # linux/capability.h: SYS_RAWIO, SYS_PTRACE, SYS_ADMIN, PERFMON
_OURS = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGPIPE", "SIGXFSZ", "SIGCHLD")


class Supervisor:
    """One command and all its descendants."""

    def __init__(self, control: int) -> None:
        self._control = control
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"):  # a command must not get free by `kill $PPID`
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        self._subreaper = _adopt_orphans()
        self._pid = 0
        self._ended = False

    def run(self, argv: list[str]) -> None:
        """Start `argv` and stay until all its processes have ended."""
        error = self._start(argv)
        if error:
            self._say(f"failed {error}")
            return
        self._say("executed 0")
        _let_go_of_streams()
        wanted = select.poll()
        wanted.register(self._woken, select.POLLIN)
        wanted.register(self._control, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in wanted.poll()]
            if self._woken in ready:
                os.read(self._woken, 4096)
                if not self._reap() and self._subreaper:
                    return
            if self._control in ready:
                self._stop(self._grace())
                return

    def _start(self, argv: list[str]) -> int:
        """Start `argv` in a session of its own; return 0, or the error number if it could not be executed."""
        told, tell = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.setsid()
                self._say(f"started {os.getpid()}")  # before it can do anything, for example to its supervisor
                for name in _OURS:
                    signal.signal(getattr(signal, name), signal.SIG_DFL)
                os.execvp(argv[0], argv)  # noqa: S606 - that is the point
            except OSError as error:
                os.write(tell, str(error.errno).encode())
            finally:
                os._exit(127)
        os.close(tell)
        said = os.read(told, 16)
        os.close(told)
        return int(said) if said else 0

    def _reap(self) -> bool:
        """Note the processes that have ended; return whether any child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._pid:
                self._ended = True
                self._say(f"ended {status}")

    def _grace(self) -> float:
        """Return how long everything may take to end by itself, now that afk asks for the end or is gone."""
        try:
            word, _, seconds = os.read(self._control, 64).partition(b" ")
        except OSError:
            return AT_ONCE_SECONDS
        return float(seconds) if word == b"stop" else AT_ONCE_SECONDS

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # afk is gone; the end of the socket will be noticed
            os.write(self._control, f"{line}\n".encode())

    def _stop(self, seconds: float) -> None:
        """End all processes: with SIGTERM for `seconds`, then with SIGKILL."""
        left = self._running()
        self._say(f"stopped {len(left)}")
        for number in (signal.SIGTERM, signal.SIGCONT):  # a suspended one must continue to end
            self._signal(left, number)
        left = self._wait(seconds)
        until = time.monotonic() + GIVE_UP_SECONDS
        while left and time.monotonic() < until:
            self._signal(left, signal.SIGKILL)
            left = self._wait(0.005)
        if left:
            self._say(f"left {len(left)}")

    def _wait(self, seconds: float) -> list[int]:
        """Wait until all processes have ended, at most `seconds`; return those that still run."""
        until = time.monotonic() + seconds
        while True:
            self._reap()
            left = self._running()
            if not left or time.monotonic() >= until:
                self._reap()  # those that have ended since
                return left
            time.sleep(0.002)

    def _signal(self, pids: list[int], number: int) -> None:
        for pid in pids:  # parents first: a shell whose child died first would report that, and end in its own way
            _kill(pid, number)
        if not self._ended:  # its number cannot belong to another process yet
            with contextlib.suppress(OSError):
                os.killpg(self._pid, number)  # also reaches processes that are being forked at this moment

    def _running(self) -> list[int]:
        """Return all running descendants, parents before their children; without adoption of orphans, the processes of
        the command's group."""
        children: dict[int, list[int]] = {}
        found: dict[int, None] = {}  # a set that keeps the order
        for pid, parent, group in _processes():
            children.setdefault(parent, []).append(pid)
            if group == self._pid and not self._subreaper:
                found[pid] = None
        new = [os.getpid(), *found]
        while new:
            new = [pid for parent in new for pid in children.get(parent, ()) if pid not in found]
            found.update(dict.fromkeys(new))
        return list(found)


def _processes() -> Iterator[tuple[int, int, int]]:
    """Yield (process id, its parent's, its group) of all running processes that this one may see."""
    if not os.path.exists("/proc/self/stat"):  # noqa: PTH110 - pathlib is slow to import
        yield from _processes_by_ps()
        return
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                    fields = file.read().rpartition(b")")[2].split()  # after the name, which may contain any byte
            except OSError:
                continue
            if fields[0] not in (b"Z", b"X"):
                yield int(name), int(fields[1]), int(fields[2])


def _processes_by_ps() -> Iterator[tuple[int, int, int]]:
    """The same as `_processes`, for systems without /proc (macOS)."""
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
            yield int(pid), int(parent), int(group)


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):  # it has ended, or belongs to another user now
        os.kill(pid, number)


def _adopt_orphans() -> bool:
    """Become the parent of descendants that lose theirs; return whether the platform can do that.

    This also hides this process from the command, which could otherwise make it write any line, and takes from root's
    commands the capabilities with which they could read the memory of afk.
    """
    if sys.platform != "linux":
        return False
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return False
    prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    for capability in _READING_CAPABILITIES:
        prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # refused to all users but root, and only root needs it
    return bool(prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def _let_go_of_streams() -> None:
    """Close the command's streams, so that they end with the command."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


def main() -> None:
    """Run the command of `sys.argv`."""
    control = int(sys.argv[1])
    os.set_inheritable(control, False)
    if sys.argv[2] != "1":
        os.environ.pop("LC_CTYPE", None)  # Python itself sets it if the locale is C (PEP 538)
    Supervisor(control).run(sys.argv[3:])


if __name__ == "__main__":
    main()
