"""The worker's own loop: a child stands by ahead of time, and the next one is forked when it is taken.

The worker reads nothing of a client. It gets a copy of each connection, so that it can tell a client how its child
ended where the child could not: `waitpid` knows what a killed process cannot say.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from afkcli.worker import wire
from afkcli.worker.caller import stat_of

if TYPE_CHECKING:
    from types import FrameType

TAKEN, STALE, SPENT = b"t", b"s", b"c"
"""What a child says to the worker: it runs a command, the worker is out of date, or it has ended without a run."""

FOLLOWING = signal.SIGTTIN
"""By what a child stops because its client was stopped, so that the worker can tell it from all other stops."""

MAX_REASON = 500
MAX_FAILED = 20
"""How often in a row the worker forks a child in vain: the system does not fork, or the child ends without a word."""

LOOK_SECONDS = 5.0
"""How often the worker looks whether its socket is still there."""


class Serving:
    """Has a child stand by, until the worker is idle for too long, out of date, or not wanted any more.

    Args:
        listener: the socket that clients connect to; it does not block.
        stand_by: what a child does, with its end of the pipe to the worker and the number of commands that run; it does
            not return.
        is_wanted: whether the socket is still this worker's.
        obstacle: called with the number of commands that run; returns why no other child is to stand by, or "".
        idle_s: after so many seconds without a command, the worker ends.
        leave: gives the place of the worker free; called once, with why no child can stand by, or "".
        note: called with the number of commands that were run, and why the last one that was not ran cold.
    """

    def __init__(
        self,
        listener: socket.socket,
        stand_by: Callable[[socket.socket, int], NoReturn],
        *,
        is_wanted: Callable[[], bool],
        obstacle: Callable[[int], str],
        idle_s: float,
        leave: Callable[[str], None],
        note: Callable[[int, str], None],
    ) -> None:
        self._listener = listener
        self._stand_by = stand_by
        self._is_wanted = is_wanted
        self._obstacle = obstacle
        self._idle_s = idle_s
        self._leave = leave
        self._note = note
        self._served = 0
        self._ends = False
        self._used = time.monotonic()
        self._child: int | None = None
        self._says: socket.socket | None = None
        self._running: dict[int, socket.socket] = {}
        self._stopped: set[int] = set()
        self._failed = 0
        self._failure = ""

    def run(self) -> None:
        """Serve until the end; return once no child runs any more."""
        woken, wake = os.pipe()
        for end in (woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_stop)
        while True:
            self._reap()
            self._look()
            if self._ends and not self._running:
                return
            self._fork_if_needed(woken, wake)
            self._wait(woken)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._ends = True

    def _look(self) -> None:
        """End where nothing was run for long, or the socket is not there any more."""
        idle = not self._running and time.monotonic() - self._used >= self._idle_s
        if not self._ends and (idle or self._failed > MAX_FAILED or not self._is_wanted() or self._has_obstacle()):
            self._ends = True
        if self._ends and self._listener.fileno() >= 0:
            self._leave(self._failure if self._failed > MAX_FAILED else "")
            self._listener.close()
            self._dismiss()

    def _has_obstacle(self) -> bool:
        """Return whether no other child is to stand by; asked before each one is forked."""
        found = self._obstacle(len(self._running)) if self._child is None else ""
        if found:
            self._note(self._served, found)
        return bool(found)

    def _dismiss(self) -> None:
        """Have the child that stands by end: its pipe to the worker ends."""
        if self._says is not None:
            self._says.close()
        self._says = None

    def _fork_if_needed(self, woken: int, wake: int) -> None:
        if self._ends or self._child is not None:
            return
        if self._failed:
            time.sleep(0.05)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            child = fork_alone()
        except OSError as error:  # the table of processes is full, or the memory: commands run cold meanwhile
            ours.close()
            theirs.close()
            self._failed += 1
            self._failure = f"fork: {error.strerror or error}"
            return
        if child == 0:
            signal.set_wakeup_fd(-1)
            for descriptor in (woken, wake):
                os.close(descriptor)
            ours.close()
            for connection in self._running.values():
                connection.close()
            self._stand_by(theirs, len(self._running))
        theirs.close()
        self._child, self._says = child, ours

    def _wait(self, woken: int) -> None:
        poll = select.poll()
        poll.register(woken, select.POLLIN)
        if self._says is not None:
            poll.register(self._says, select.POLLIN)
        stopped = {self._running[child].fileno(): child for child in self._stopped & self._running.keys()}
        for descriptor in stopped:
            poll.register(descriptor, 0)  # its client has ended
        seconds = LOOK_SECONDS if self._ends or self._child is not None else 0.0  # a fork that failed is tried again
        for descriptor, _ in poll.poll(seconds * 1000):
            if descriptor in stopped:  # the child sees it as soon as it runs again, and ends
                self._stopped.discard(stopped[descriptor])
                os.kill(stopped[descriptor], signal.SIGCONT)
        with contextlib.suppress(BlockingIOError):
            os.read(woken, 4096)
        self._listen_to_child()

    def _listen_to_child(self) -> None:
        if self._says is None or not select.select([self._says], [], [], 0)[0]:
            return
        try:
            said, descriptors, _, _ = socket.recv_fds(self._says, MAX_REASON + 1, 1, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            said, descriptors = b"", []
        self._failed = 0 if said else self._failed + 1
        if not said:
            self._failure = "the child that stands by ends at once"
        if said == TAKEN and descriptors and self._child is not None:
            self._running[self._child] = socket.socket(fileno=descriptors.pop())
            self._used = time.monotonic()
            self._served += 1
        if said == TAKEN or said[1:]:  # else it was not a command, or the one that shows the last reason
            self._note(self._served, said[1:].decode("utf-8", "replace"))
        for descriptor in descriptors:
            os.close(descriptor)
        if said[:1] == STALE:
            self._ends = True
        self._child = None
        self._dismiss()

    def _reap(self) -> None:
        """Take note of children that have ended, and tell their clients how."""
        while True:
            try:
                child, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if child == 0:
                return
            if os.WIFSTOPPED(status):
                self._tell_stop(child, os.WSTOPSIG(status))
                self._stopped.add(child)
                continue
            self._stopped.discard(child)
            if child == self._child:
                self._listen_to_child()  # it may have been taken before it ended
                self._child = None
            connection = self._running.pop(child, None)
            if connection is not None:
                tell_end(connection, status)

    def _tell_stop(self, child: int, number: int) -> None:
        """Have the client of a child stop too, unless the child has followed its client."""
        connection = self._running.get(child)
        if connection is None:
            return
        if number != FOLLOWING:
            _send(connection, wire.SUSPENDED if number == signal.SIGSTOP else wire.STOPPING)
        elif not _has_stopped_client(connection):  # it was continued before its child had stopped
            os.kill(child, signal.SIGCONT)


def _has_stopped_client(connection: socket.socket) -> bool:
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    fields = stat_of(int.from_bytes(peer[:4], sys.byteorder))
    return bool(fields) and fields[0] == "T"


def tell_end(connection: socket.socket, status: int) -> None:
    """Tell a client how its child ended, by the status of `waitpid`; the child may have told it already."""
    code = os.waitstatus_to_exitcode(status)
    said = wire.EXITED + bytes([code]) if code >= 0 else wire.KILLED + bytes([-code])
    with connection:
        _send(connection, said)


def _send(connection: socket.socket, said: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.send(said, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def fork_alone() -> int:
    """Fork this process, which must have no other thread: a lock that one held would be held for ever in the child.

    Raises:
        OSError: there are threads, or the system does not fork.
    """
    if len(os.listdir("/proc/self/task")) != 1:  # noqa: PTH208
        raise OSError("the worker has threads")
    sys.stdout.flush()
    return os.fork()
