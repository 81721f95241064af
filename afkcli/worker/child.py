"""A child of the worker: it stands by, takes one command of a client, and runs it as a process of its own would."""

from __future__ import annotations

import _thread
import atexit
import contextlib
import io
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from afkcli.host.invocation import Invocation
from afkcli.worker import wire
from afkcli.worker.caller import Caller
from afkcli.worker.deciding import Decision, decide
from afkcli.worker.serving import FOLLOWING, MAX_REASON, SPENT, STALE, TAKEN

if TYPE_CHECKING:
    from afkcli.host.ending import Ending
    from afkcli.worker.identity import Identity

LOOK_SECONDS = 0.2
"""How often a child looks whether its client was stopped: SIGSTOP cannot be passed on by it."""

REHEARSAL_SECONDS = 60.0
"""After so long a child that still rehearses ends by SIGALRM; it takes a few hundredths of a second."""

_MAX_DESCRIPTORS = 4
_ALWAYS_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""Python ignores them from its start on."""


class StandBy:
    """One child, from its fork to its end.

    Args:
        listener: the worker's socket.
        identity: what the worker keeps, and of which state.
        command: runs the command line of an invocation, and returns how it ended.
        rehearse: runs what a command runs, without an effect: the memory that a command writes to is this child's then.
    """

    def __init__(
        self,
        listener: socket.socket,
        identity: Identity,
        command: Callable[[Callable[[], Invocation]], Ending],
        rehearse: Callable[[], None],
    ) -> None:
        self._listener = listener
        self._identity = identity
        self._command = command
        self._rehearse = rehearse

    def run(self, worker: socket.socket, running: int) -> NoReturn:
        """Wait for a client, and run its command if it may run warm.

        Args:
            worker: the pipe to the worker.
            running: how many other commands run in the worker.
        """
        code = 0
        try:
            self._serve(worker, running)
        except BaseException:
            code = 1
        finally:
            os._exit(code)

    def _serve(self, worker: socket.socket, running: int) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # until there is a command, of which it is
        if not _is_readable(self._listener):
            # A turn that hangs, as one may that gets no thread, would keep the place of the worker for ever.
            signal.setitimer(signal.ITIMER_REAL, REHEARSAL_SECONDS)
            self._rehearse()
            signal.setitimer(signal.ITIMER_REAL, 0)
        connection = self._accepted(worker)
        if connection is None:
            return
        connection.settimeout(wire.ANSWER_SECONDS)
        try:
            order = receive(connection)
        except (OSError, ValueError):
            _say(worker, SPENT)
            return
        caller = Caller.of(connection, order)
        decision = Decision.cold("the client has ended")
        if caller is not None:
            decision = decide(order, caller, self._identity, running)
        if caller is None or not decision.is_warm:
            said = STALE if decision.is_stale else SPENT
            _say(worker, said + decision.reason.encode("utf-8", "replace")[:MAX_REASON])
            connection.send(wire.COLD)
            return
        os.setpgid(0, 0)
        connection.send(wire.WARM + os.getpid().to_bytes(4, "little"))
        socket.send_fds(worker, [TAKEN], [connection.fileno()])
        worker.close()
        self._listener.close()
        said, descriptors, _, _ = socket.recv_fds(connection, 1, _MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        if said != wire.GO:
            return
        connection = become(order, descriptors, connection)
        os.environ.update(self._identity.added)
        Watch(connection, caller).start()
        connection.send(wire.BEGUN)
        run_command(connection, caller, self._command)

    def _accepted(self, worker: socket.socket) -> socket.socket | None:
        """Return the connection of a client; None once the worker does not want one any more."""
        poll = select.poll()
        for one in (self._listener, worker):
            poll.register(one, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if worker.fileno() in ready:
                return None
            try:
                return self._listener.accept()[0]
            except (BlockingIOError, ConnectionAbortedError):
                continue


def receive(connection: socket.socket) -> wire.Order:
    """Receive a frame.

    Raises:
        ValueError: it is not one.
        OSError: it did not come in time.
    """
    data = connection.recv(1 << 18)
    begin = len(wire.MAGIC) + 4
    if data[: len(wire.MAGIC)] != wire.MAGIC[: len(data)]:
        raise ValueError("not a frame")
    while len(data) < begin or len(data) < begin + _length(data):
        piece = connection.recv(1 << 18)
        if not piece:
            raise ValueError("the frame ends too early")
        data += piece
    return wire.order_of(data[begin:])


def _length(data: bytes) -> int:
    length = int.from_bytes(data[len(wire.MAGIC) : len(wire.MAGIC) + 4], "little")
    if length > wire.MAX_PAYLOAD:
        raise ValueError("the frame is too long")
    return length


def become(order: wire.Order, descriptors: list[int], connection: socket.socket) -> socket.socket:
    """Make this process what one is that was started with `order`; return the connection, under another number."""
    number = _take_descriptors(order, descriptors, connection.detach())
    os.umask(order.umask)
    os.environb.clear()
    os.environb.update(order.environment)
    time.tzset()
    sys.argv[:] = [os.fsdecode(text) for text in order.arguments]
    tempfile: Any = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile.tempdir = None  # it is found by the environment, once
    streams = [_standard_stream(at) if order.has(at) else None for at in (0, 1, 2)]
    sys.stdin, sys.stdout, sys.stderr = streams  # None where it is closed, as Python has it
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = streams  # type: ignore[misc]
    _take_signals(order)
    return socket.socket(fileno=number)


def _take_descriptors(order: wire.Order, descriptors: list[int], connection: int) -> int:
    """Put the received descriptors in their places, close all others, and enter the folder; return the connection's."""
    import fcntl

    wanted = [at for at in (0, 1, 2) if order.has(at)]
    if len(descriptors) != len(wanted) + bool(order.flags & wire.HAS_FOLDER):
        raise ValueError("other descriptors than the frame says")
    if order.flags & wire.HAS_FOLDER:
        os.fchdir(descriptors[-1])
    above = max(*descriptors, 10, connection) + 1
    kept = fcntl.fcntl(connection, fcntl.F_DUPFD_CLOEXEC, above)
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, above) for descriptor in descriptors[: len(wanted)]]
    os.closerange(0, 3)
    for descriptor, at in zip(moved, wanted, strict=True):
        os.dup2(descriptor, at, inheritable=True)
    os.closerange(3, kept)
    os.closerange(kept + 1, kept + 1 + max(64, len(descriptors)))
    return kept


def _standard_stream(number: int) -> io.TextIOWrapper:
    """Open a standard stream as the interpreter does at its start."""
    as_started = (sys.__stdin__, sys.__stdout__, sys.__stderr__)[number]
    assert as_started is not None
    raw = io.FileIO(number, "r" if number == 0 else "w", closefd=False)
    raw.name = as_started.name
    unbuffered = number != 0 and as_started.write_through  # PYTHONUNBUFFERED
    buffer: Any = raw if unbuffered else io.BufferedReader(raw) if number == 0 else io.BufferedWriter(raw)
    text = io.TextIOWrapper(
        buffer,
        encoding=as_started.encoding,
        errors=as_started.errors,
        newline="\n",
        line_buffering=not unbuffered and (number == 2 or raw.isatty()),
        write_through=unbuffered,
    )
    text.mode = as_started.mode  # type: ignore[misc]
    return text


def _take_signals(order: wire.Order) -> None:
    """Ignore and block what the client does; everything else is as Python has it at its start."""
    for number in sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}):
        ignored = bool(order.ignored >> (number - 1) & 1) or number in _ALWAYS_IGNORED
        if number == signal.SIGINT and not ignored:
            signal.signal(number, signal.default_int_handler)
        else:
            with contextlib.suppress(OSError, ValueError):  # those of the C library itself
                signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    blocked = {number for number in signal.valid_signals() if order.blocked >> (number - 1) & 1}
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


class Watch:
    """Does to this process what happens to its client: signals, stopping, its death.

    It is a thread that Python does not know of, so that the end of the command does not wait for it.
    """

    def __init__(self, connection: socket.socket, caller: Caller) -> None:
        self._connection = connection
        self._caller = caller
        self._worker = os.getppid()

    def start(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        _thread.start_new_thread(self._run, ())
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        while True:
            if not poll.poll(LOOK_SECONDS * 1000):
                if self._caller.is_stopped():
                    os.kill(os.getpid(), FOLLOWING)
                continue
            data = self._received()
            if not data:
                os.kill(os.getpid(), signal.SIGKILL)
            for number in data[1::2]:
                self._on_signal(number)

    def _received(self) -> bytes:
        data = b""
        with contextlib.suppress(OSError):
            while piece := self._connection.recv(64):
                data += piece
                if len(data) % 2 == 0:
                    break
        return data

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGTSTP and os.getppid() != self._worker:
            # The worker has died, so that this process is in no one's job: the system discards the signal, and there
            # is no one who would tell the client.
            _say(self._connection, wire.STOPPING)
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            self._caller.passed_on[number] = self._caller.passed_on.get(number, 0) + 1
            os.kill(os.getpid(), number)


def run_command(
    connection: socket.socket, caller: Caller, command: Callable[[Callable[[], Invocation]], Ending]
) -> NoReturn:
    """Run the command, tell the client how it ended, and end."""
    code, number = 1, None
    try:
        ending = command(caller.invocation)
        code, number = ending.code, ending.signal
        if number is None and not ending.at_once:
            finish()
    except SystemExit as ending_:
        code = ending_.code if isinstance(ending_.code, int) else 1
        finish()
    if number is None:
        _say(connection, wire.EXITED + bytes([code & 0xFF]))
        os._exit(code & 0xFF)
    from afkcli.host.signals import die_of

    _say(connection, wire.KILLED + bytes([number]))
    die_of(number)


def finish() -> None:
    """Do what the interpreter does at its end, but for taking the modules apart."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()


def _say(there: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        there.send(data, socket.MSG_NOSIGNAL)


def _is_readable(listener: socket.socket) -> bool:
    return bool(select.select([listener], [], [], 0)[0])
