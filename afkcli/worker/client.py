"""Hands a command to the worker, and does what its process would do: passes signals on, stops, ends in the same way.

Each start of afk imports this, so that it imports as little as can be: `_socket` and not `socket`, for instance.
"""

from __future__ import annotations

import os
import signal
import sys

from afkcli.worker import place, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_AF_UNIX, _SCM_RIGHTS, _SO_PEERCRED = 1, 1, 17  # linux/socket.h, asm-generic/socket.h


def hand_over() -> None:
    """Have the worker run this command, and end as it ends. Where the command runs cold, this returns.

    The compiled client has asked the worker already when it starts Python, with `-c`.
    """
    if sys.platform != "linux" or sys.orig_argv[1:2] == ["-c"] or place.is_off(os.environ) or is_looked_into():
        return
    path = place.socket_path(os.environ, sys.argv[0])
    if path is None or not place.is_own(path.rpartition("/")[0]):
        return
    connection = _connected(path)
    if connection is None:
        return
    try:
        _Client(connection).run()
    except OSError:
        pass
    finally:
        connection.close()


def is_looked_into() -> bool:
    """Return whether a debugger or a coverage tool looks into this process, or its interpreter was given an option."""
    flags = sys.flags
    if flags.isolated or flags.ignore_environment or flags.no_site or flags.dev_mode or flags.optimize or flags.inspect:
        return True
    if sys.warnoptions or sys._xoptions or sys.gettrace() is not None or sys.getprofile() is not None:
        return True
    tools = getattr(sys, "monitoring", None)  # Python 3.12
    if tools is not None and any(tools.get_tool(number) for number in range(6)):
        return True
    return any(map(place.keeps_cold, os.environ))


def _connected(path: str) -> Any:
    """Return a connection to the worker, whose user is this one; None if there is none."""
    if not os.path.exists(path):  # noqa: PTH110 - before `_socket` is imported: most often, it is not there
        return None
    import _socket

    connection = _socket.socket(_AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(wire.ANSWER_SECONDS)
        connection.connect(path)
        there = connection.getsockopt(_socket.SOL_SOCKET, _SO_PEERCRED, 12)
    except OSError:
        connection.close()
        return None
    pid, user = int.from_bytes(there[:4], sys.byteorder), int.from_bytes(there[4:8], sys.byteorder)
    if user != os.getuid() or not _may_look_into(pid):
        connection.close()
        return None
    return connection


def _may_look_into(pid: int) -> bool:
    """Return whether this process may look into another one.

    It may not from within a sandbox of Landlock (landlock(7)), of which nothing else tells: a command that ran in a
    process outside would get past it.
    """
    try:
        os.readlink(f"/proc/{pid}/ns/mnt")  # noqa: PTH115
    except OSError:
        return False
    return True


class _Client:
    """One hand-over."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._child = 0
        self._before: dict[int, Any] = {}

    def run(self) -> None:
        """Run the command warm, and end this process as it ended; return where it has to run cold."""
        flags, descriptors = _descriptors()
        try:
            if not self._is_warm(flags):
                return
            from afkcli.host.nondumpable import hide_memory  # not at the top: `afk --version` runs cold, most often

            hide_memory()  # as the one that runs the command does where tools start processes: they find this one too
            self._listen()
            packed = b"".join(descriptor.to_bytes(4, sys.byteorder) for descriptor in descriptors)
            self._connection.sendmsg([wire.GO], [(1, _SCM_RIGHTS, packed)])
            if self._next(1) != wire.BEGUN:
                return
            self._follow()
        finally:
            if flags & wire.HAS_FOLDER:
                os.close(descriptors[-1])
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _is_warm(self, flags: int) -> bool:
        """Send what this process was started with; return whether the worker takes it."""
        order = wire.Order(
            pid=os.getpid(),
            flags=flags,
            umask=_umask(),
            ignored=_mask(b"SigIgn"),
            blocked=_mask(b"SigBlk"),
            arguments=[os.fsencode(text) for text in sys.argv],
            environment=os.environb,
        )
        try:
            data = wire.frame(order)
            self._connection.sendall(data)
        except (ValueError, OSError):
            return False
        answer = self._connection.recv(5)
        if answer[:1] != wire.WARM:
            return False
        answer += self._next(5 - len(answer))
        self._child = int.from_bytes(answer[1:], "little")
        self._connection.settimeout(None)
        return True

    def _next(self, count: int) -> bytes:
        """Return so many bytes that come next, fewer at the end."""
        data = b""
        while len(data) < count:
            piece = self._connection.recv(count - len(data))
            if not piece:
                break
            data += piece
        return data

    def _listen(self) -> None:
        """Pass signals on from here, but not those that are ignored."""
        for name in wire.FORWARDED:
            number = getattr(signal, name)
            handler = signal.getsignal(number)
            if handler is not signal.SIG_IGN:
                self._before[number] = handler
                signal.signal(number, self._forward)

    def _forward(self, number: int, frame: object) -> None:
        if number == signal.SIGCONT:
            self._wake()
        try:  # noqa: SIM105 - contextlib is one more import
            self._connection.send(wire.SIGNAL + bytes([number]))
        except OSError:  # it has ended, which is read next
            pass

    def _wake(self) -> None:
        try:  # noqa: SIM105 - as above
            os.kill(self._child, signal.SIGCONT)
        except OSError:
            pass

    def _follow(self) -> NoReturn:
        """Wait for the end of the command, and end in the same way."""
        while True:
            said = self._next(1)
            if said == wire.STOPPING:
                self._stop()
            elif said == wire.SUSPENDED:
                os.kill(os.getpid(), signal.SIGSTOP)
                self._wake()
            elif said == wire.EXITED and (code := self._next(1)):
                os._exit(code[0])
            elif said == wire.KILLED and (number := self._next(1)):
                _die_of(number[0])
            else:
                _die_of(signal.SIGKILL)

    def _stop(self) -> None:
        """Stop as the command did, and continue it when this process is continued."""
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        if signal.SIGTSTP in self._before:
            signal.signal(signal.SIGTSTP, self._forward)
        self._wake()


def _die_of(number: int) -> NoReturn:
    """End this process by a signal, without a core file: the command has left its own."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def _descriptors() -> tuple[int, list[int]]:
    """Return the flags about descriptors, and those that are sent."""
    flags, found = 0, []
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            continue
        flags |= 1 << number
        found.append(number)
    if any(int(name) > 2 and os.get_inheritable(int(name)) for name in _open()):
        flags |= wire.HAS_OTHERS
    try:
        found.append(os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        flags |= wire.HAS_FOLDER
    except OSError:  # it was deleted
        pass
    return flags, found


def _open() -> list[str]:
    """Return the numbers of open descriptors, without the one by which they are read."""
    names = os.listdir("/proc/self/fd")  # noqa: PTH208 - pathlib is slow to import
    return [name for name in names if os.path.exists(f"/proc/self/fd/{name}")]  # noqa: PTH110


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _mask(name: bytes) -> int:
    """Return a mask of signals of this process; SIGPIPE and SIGXFSZ are ignored by Python itself."""
    with open("/proc/self/status", "rb") as file:  # noqa: PTH123
        for line in file:
            if line.startswith(name):
                return int(line.split()[1], 16)
    return 0
