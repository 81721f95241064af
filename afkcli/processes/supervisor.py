"""Runs one command, and stops everything that it leaves running: a process of its own, between afk and the command.

It is started with the arguments CONTROL AFK LIMIT MOST MARK LC_CTYPE POLICY ARGV..., isolated and without
site-packages: it imports only the standard library and what lies beside it. Its environment is the command's.

    CONTROL          the number of a socket to afk
    AFK              the process id of afk
    LIMIT            how long the command may run, in seconds; 0 without a limit
    MOST             how many processes and threads the command may have at once; 0 without a limit
    MARK             the number that marks its processes (see `mark_this_process`); 0 for no mark
    LC_CTYPE         "1" if the environment has this variable
    POLICY           that of confine.py, by marshal, as hexadecimal digits; "" without a sandbox

The supervisor writes these lines to the socket:

    started PID      the process of the command runs, as the leader of a session of its own
    executed 0       it executes the command
    failed ERRNO     the command could not be executed
    refused ERRNO    the system refused a part of the sandbox, so the command was not executed
    ended STATUS     it has ended, with this status as in waitpid(2)
    limit 0          it runs for longer than LIMIT, and is stopped
    crowded NUMBER   it had more processes and threads than MOST, or was refused one more, and is stopped
    stopped NUMBER   the number of its processes that still ran and were stopped
    left NUMBER      the number of processes that could not be stopped

The line `stop SECONDS` from afk asks to stop everything, with so much time to end by itself. The end of the socket (afk
closed it, or died in any way) and the end of the process AFK ask to stop it at once. On Linux the supervisor is the
subreaper of its descendants (prctl(2)), so it still finds a process that leaves its session or loses its parent.

A command has the rights to stop or kill its supervisor. afk notices that, and ends the command by itself
(`afkcli.processes.strays`).
"""

from __future__ import annotations

import contextlib
import errno
import marshal
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # importing it from typing would take longer than all the rest
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from afkcli.processes.confine import confined
    from afkcli.processes.descendants import (
        GIVE_UP_SECONDS,
        STOP_SECONDS,
        all_processes,
        children_of,
        count_below,
        descendants,
        end_all,
        group_of,
        last_process,
        processes,
        running_below,
        send,
        state_of,
    )
    from afkcli.processes.pid_group import PidGroup, make_pid_group
else:  # the folder of this file is on the path
    from confine import confined
    from descendants import (
        GIVE_UP_SECONDS,
        STOP_SECONDS,
        all_processes,
        children_of,
        count_below,
        descendants,
        end_all,
        group_of,
        last_process,
        processes,
        running_below,
        send,
        state_of,
    )
    from pid_group import PidGroup, make_pid_group

AT_ONCE_SECONDS = 0.1
"""How long a command may take to end by itself when afk is gone."""
CROWD_SECONDS = 0.05
"""How often it is looked whether so many processes were made that the command may have more than MOST."""
LOOK_SECONDS = 30.0
"""How often the supervisor looks whether afk is there and is not suspended, beside what the kernel tells it."""
SUSPENDED_SECONDS = 600.0
"""How long afk may be suspended until its commands are stopped. Its lease of the thread has expired long before."""

_QUICK_ROUNDS = 50
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER = 1, 4, 24, 36  # linux/prctl.h
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h
_READING_CAPABILITIES = (17, 19, 21, 38)  # linux/capability.h: SYS_RAWIO, SYS_PTRACE, SYS_ADMIN, PERFMON
_OURS = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGPIPE", "SIGXFSZ", "SIGCHLD")


class Supervisor:
    """One command and all its descendants."""

    def __init__(
        self, control: int, *, afk: int, limit: float, most: int, mark: int, policy: dict[str, Any] | None
    ) -> None:
        self._control, self._afk, self._mark = control, afk, mark
        self._policy = policy
        self._in_bubblewrap = policy is not None and policy["mechanism"] == "bubblewrap"
        self._temporary = _temporary_folder() if policy is not None else ""
        self._limit = limit
        self._until = float("inf")
        self._most = most + (2 if most and self._in_bubblewrap else 0)  # its own two processes
        self._counted_to = self._crowded_at = 0
        self._group: PidGroup | None = None
        self._told = False
        self._look_at = 0.0
        self._suspended_at = 0.0
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"):  # a command must not get free by `kill $PPID`
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        self._prctl = _find_prctl()
        self._subreaper = _adopt_orphans(self._prctl)
        self._pid = 0
        self._ended = False

    def run(self, argv: list[str]) -> None:
        """Start `argv` and stay until all its processes have ended."""
        try:
            self._run(argv)
        finally:
            if self._group is not None:
                self._group.remove()
            if self._temporary:
                import shutil  # here, because only a sandbox needs it

                shutil.rmtree(self._temporary, ignore_errors=True)

    def _run(self, argv: list[str]) -> None:
        error = self._start(argv)
        if error:
            self._say(error)
            return
        self._say("executed 0")
        if self._limit:
            self._until = time.monotonic() + self._limit
        _let_go_of_streams()
        waiting = select.poll()
        for descriptor in (self._woken, self._control, *_process_descriptor(self._afk)):
            waiting.register(descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in waiting.poll(self._look_after() * 1000)}
            if self._woken in ready:
                os.read(self._woken, 4096)
                if not self._reap() and self._subreaper:
                    return
            if self._is_crowded():
                self._stop(0.0)
                return
            if not ready and time.monotonic() < min(self._look_at, self._until):
                continue
            grace = self._grace(ready - {self._woken})
            if grace is not None:
                self._stop(grace)
                return

    def _look_after(self) -> float:
        """Return how long to wait at most, in seconds."""
        look = min(self._look_at, self._until) - time.monotonic()
        return max(0.0, min(look, CROWD_SECONDS) if self._most else look)

    def _is_crowded(self) -> bool:
        """Return whether there are too many processes and threads; then those of the command's group have been killed.

        They are counted only when the machine has made so many that these may be too many. A control group of the
        kernel tells by itself, but only where one can be made. (A filter that asks here before each fork would do
        everywhere, but it fails a fork that a signal interrupts.)
        """
        if not self._most:
            return False
        number = self._most + 1 if self._group is not None and self._group.was_full else self._count()
        if number <= self._most:
            return False
        with contextlib.suppress(OSError):  # only root has the right
            os.setpriority(os.PRIO_PROCESS, 0, -20)
        self._kill_group()
        if not self._told:
            self._say(f"crowded {number}")
        self._told = True
        return True

    def _count(self) -> int:
        """Return how many there are, at most one more than allowed; 0 if they cannot be too many."""
        made = last_process()
        if made and self._counted_to <= made < self._crowded_at:
            return 0
        number = count_below(os.getpid(), self._most + 1)
        self._counted_to, self._crowded_at = made, made + max(1, self._most - number)
        return number

    def _grace(self, ready: set[int]) -> float | None:
        """Return how long everything may take to end by itself, if it is to end now."""
        if self._control in ready:
            return self._asked()
        if ready or self._afk_is_gone():
            return AT_ONCE_SECONDS
        self._look_at = time.monotonic() + LOOK_SECONDS
        if not self._ended and time.monotonic() >= self._until:
            self._say("limit 0")
            return STOP_SECONDS
        return None

    def _asked(self) -> float:
        try:
            word, _, seconds = os.read(self._control, 64).partition(b" ")
        except OSError:
            return AT_ONCE_SECONDS
        return float(seconds) if word == b"stop" else AT_ONCE_SECONDS

    def _afk_is_gone(self) -> bool:
        """Return whether afk has ended, or has been suspended for so long that nobody will continue it."""
        if os.getppid() != self._afk:
            return True
        if state_of(self._afk) != "T":
            self._suspended_at = 0.0
            return False
        self._suspended_at = self._suspended_at or time.monotonic()
        return time.monotonic() - self._suspended_at >= SUSPENDED_SECONDS

    def _start(self, argv: list[str]) -> str:
        """Start `argv` in a session of its own; return "", or the line that says why it could not be executed."""
        told, tell = os.pipe()
        supervisor = os.getpid()
        self._group = make_pid_group(self._most) if self._most else None
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.setsid()
                self._say(f"started {os.getpid()}")  # before it can do anything, for example to its supervisor
                mark_this_process(self._mark)
                _limit_processes(self._most, self._group)
                if self._prctl is not None:  # whoever kills the supervisor is killed with it
                    self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                for name in _OURS:
                    signal.signal(getattr(signal, name), signal.SIG_DFL)
                argv = self._confined(argv, supervisor)
                if os.getppid() == supervisor:
                    os.execvp(argv[0], argv)  # noqa: S606 - that is the point
            except OSError as error:
                word = "refused" if getattr(error, "of_sandbox", False) else "failed"
                os.write(tell, f"{word} {error.errno}".encode())
            except BaseException:  # never without the sandbox
                os.write(tell, f"refused {errno.ENOSYS}".encode())
            finally:
                os._exit(127)
        os.close(tell)
        said = os.read(told, 32)
        os.close(told)
        return said.decode()

    def _confined(self, argv: list[str], supervisor: int) -> list[str]:
        """Confine this process as the policy says, and return what it is to execute."""
        if not self._in_bubblewrap:  # which needs them, and keeps them from the command
            _drop_capabilities(self._prctl)
        if self._policy is None:
            return argv
        self._policy["guarded"].append(supervisor)
        os.environ["TMPDIR"] = self._temporary
        return confined(self._policy, argv, self._temporary)

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

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # afk is gone; the end of the socket will be noticed
            os.write(self._control, f"{line}\n".encode())

    def _stop(self, seconds: float) -> None:
        """End all processes: with SIGTERM for `seconds`, then with SIGKILL."""
        left = self._running()
        self._say(f"stopped {len(left)}")
        asked = self._without_launchers(left)
        for number in (signal.SIGTERM, signal.SIGCONT):  # a suspended one must continue to end
            for pid in asked:  # parents first: a shell whose child died first would report that, and end in its own way
                send(pid, number)
            if not self._in_bubblewrap:
                self._send_to_group(number)
        self._wait(seconds)
        if not self._is_crowded() and self._group is not None:
            self._group.close()
        left = end_all(self._running_now, time.monotonic() + GIVE_UP_SECONDS, self._kill_quickly)
        self._reap()  # those that have ended since
        if left:
            self._say(f"left {len(left)}")

    def _without_launchers(self, running: list[int]) -> list[int]:
        """Leave out the two processes of bubblewrap: they end with the command, and if one ended first, it would kill
        the command at once."""
        return running[2:] if self._in_bubblewrap and running[:1] == [self._pid] else running

    def _wait(self, seconds: float) -> None:
        """Wait until all processes have ended, at most `seconds`."""
        until = time.monotonic() + seconds
        while self._running_now() and time.monotonic() < until and not self._is_crowded():
            time.sleep(0.002)

    def _running_now(self) -> list[int]:
        has_children = self._reap()
        return self._running() if has_children or not self._subreaper else []

    def _running(self) -> list[int]:
        """Return all running descendants, parents before their children; without adoption of orphans, the processes of
        the command's group."""
        if self._subreaper:
            below = running_below(os.getpid())
            if below:
                return below
        found = list(processes())
        first = [] if self._subreaper else [process.pid for process in found if process.group == self._pid]
        return [*first, *descendants(found, [os.getpid(), *first])]

    def _kill_quickly(self) -> None:
        """Kill the children of this process again and again: also those that go from one process to the next faster
        than the process table can be read. Whoever loses its parent becomes a child."""
        self._send_to_group(signal.SIGKILL)
        for _ in range(_QUICK_ROUNDS):
            found = children_of(os.getpid())
            for pid in found:
                send(pid, signal.SIGKILL)
            self._reap()
            if not found:
                return

    def _kill_group(self) -> None:
        """Kill the command's groups, each in one call, which reaches every process in them, also one that is being
        forked."""
        if self._group is not None:
            self._group.close()
        is_ours = not self._ended or any(group_of(pid) == self._pid for pid in running_below(os.getpid()))
        if is_ours:  # so its number cannot belong to another group
            with contextlib.suppress(OSError):
                os.killpg(self._pid, signal.SIGKILL)

    def _send_to_group(self, number: int) -> None:
        """Send a signal to the command's group, which reaches processes that are being forked at this moment too."""
        if not self._ended:  # its number cannot belong to another process yet
            with contextlib.suppress(OSError):
                os.killpg(self._pid, number)


def mark_this_process(mark: int) -> None:
    """Mark this process and all that will come from it, as far as the platform can do that; 0 is no mark.

    The mark is the hard limit of real-time CPU time (RLIMIT_RTTIME, setrlimit(2)), which a process has from its parent
    whatever else it changes: its session, its parent, its environment, its program. `mark` is so many microseconds that
    nothing is limited.
    """
    if not mark:
        return
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_RTTIME)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_RTTIME, (mark if soft == resource.RLIM_INFINITY else min(soft, mark), mark))


def _process_descriptor(pid: int) -> list[int]:
    """Return a descriptor that becomes readable when a process ends (pidfd_open(2)); [] where there is none."""
    try:
        return [os.pidfd_open(pid)]
    except (AttributeError, OSError):
        return []


def _limit_processes(most: int, group: PidGroup | None) -> None:
    """Have the kernel bound how many processes and threads come from this process, if it can.

    Without a group it bounds what is made before the supervisor notices: all those of the user, so the limit is above
    the number that the whole machine has. Root has no such limit.
    """
    if group is not None:
        with contextlib.suppress(OSError):
            group.join()
            return
    everything = all_processes() if most else 0
    if everything:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
        most = everything + 2 * most
        if hard == resource.RLIM_INFINITY or most < hard:
            resource.setrlimit(
                resource.RLIMIT_NPROC, (most if soft == resource.RLIM_INFINITY else min(soft, most), most)
            )


def _find_prctl() -> Callable[..., int] | None:
    """Return prctl(2), or None where there is none."""
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None
    prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    return prctl


def _adopt_orphans(prctl: Callable[..., int] | None) -> bool:
    """Become the parent of descendants that lose theirs; return whether the platform can do that.

    This also hides this process from the command, which could otherwise make it write any line.
    """
    if prctl is None:
        return False
    prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def _drop_capabilities(prctl: Callable[..., int] | None) -> None:
    """Take from root's commands the capabilities with which they could read the memory of afk."""
    if prctl is None:
        return
    for capability in _READING_CAPABILITIES:
        prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # refused to all users but root, and only root needs it
    _drop_inheritable()


def _temporary_folder() -> str:
    """Make a temporary folder for the command alone."""
    path = f"{os.environ.get('TMPDIR') or '/tmp'}/afk-{os.getpid()}-{os.urandom(6).hex()}"  # noqa: S108
    os.mkdir(path, 0o700)  # noqa: PTH102
    return path


def _drop_inheritable() -> None:
    """Take the same capabilities out of the set that a program of root gets beside its bounds (capabilities(7))."""
    import ctypes

    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable; once for the low 32 bits, once for the rest
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        if libc.capget(header, sets) != 0:
            return
        for capability in _READING_CAPABILITIES:
            sets[2 + 3 * (capability // 32)] &= ~(1 << capability % 32) & 0xFFFFFFFF
        libc.capset(header, sets)


def _let_go_of_streams() -> None:
    """Close the command's streams, so that they end with the command."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


def main(arguments: list[str]) -> None:
    """Run a command, as the module says."""
    control, afk, limit, most, mark, has_ctype, said, *argv = arguments
    os.set_inheritable(int(control), False)
    if has_ctype != "1":
        os.environ.pop("LC_CTYPE", None)  # Python itself sets it if the locale is C (PEP 538)
    policy = marshal.loads(bytes.fromhex(said)) if said else None  # noqa: S302 - of afk, and quicker than JSON
    Supervisor(int(control), afk=int(afk), limit=float(limit), most=int(most), mark=int(mark), policy=policy).run(argv)
    os._exit(0)  # nothing is buffered, and afk waits for the end
