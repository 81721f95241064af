"""The batch workers of this machine: processes that are forked before the event loop begins, and end with their parent.

Each has two pipes. One brings the order to stop; its end means that the parent is dead, and the worker ends at once.
The other one is held open by the worker alone, so that the parent sees its end; it carries why the worker stopped
early. On Linux the system kills a worker whose parent dies, whatever it does at that moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from typing import Any, Final, NoReturn, Protocol

from afkcli.core.contract.structs import Struct
from afkcli.host.threads import other_threads_end

_PR_SET_PDEATHSIG: Final = 1
_DRAIN: Final = b"d"
_MAX_PROBLEM_BYTES: Final = 8192
_THREAD_SECONDS: Final = 2.0


class BatchWorker(Protocol):
    """A worker as the attendant of a batch sees it; `problem` is why it stopped early, once it has ended."""

    is_alive: bool
    problem: str | None

    def drain(self) -> None:
        """Have it begin nothing more, and end."""
        ...

    def kill(self) -> None:
        """End it now."""
        ...

    def watch(self, ended: Callable[[Any], None]) -> None:
        """Have `ended` called in the running event loop once it has ended."""
        ...


class WorkerProcess(Struct):
    """A worker as its parent sees it. `problem` is why it stopped early, once it has ended; None if it did not."""

    pid: int
    orders: int
    said: int
    is_alive: bool = True
    problem: str | None = None
    _words: bytes = b""

    def drain(self) -> None:
        """Have it claim no more, and end when what it has in flight has ended."""
        if self.is_alive:
            with contextlib.suppress(OSError):  # it has just ended
                os.write(self.orders, _DRAIN)

    def kill(self) -> None:
        if self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def watch(self, ended: Callable[[WorkerProcess], None]) -> None:
        """Have `ended` called in the running event loop once the process is dead."""
        asyncio.get_running_loop().add_reader(self.said, self._read, ended)

    def _read(self, ended: Callable[[WorkerProcess], None]) -> None:
        piece = os.read(self.said, _MAX_PROBLEM_BYTES)
        if piece:
            self._words = (self._words + piece)[:_MAX_PROBLEM_BYTES]
            return
        asyncio.get_running_loop().remove_reader(self.said)
        os.close(self.said)
        os.close(self.orders)
        _, status = os.waitpid(self.pid, 0)
        self.is_alive = False
        if self._words:
            self.problem = self._words.decode("utf-8", "replace")
        elif status != 0:
            how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.WEXITSTATUS(status)}"
            self.problem = f"a worker process died ({how})"
        ended(self)


class Orders:
    """The orders that a batch worker gets from its parent, in the worker's event loop."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def listen(self, drain: Callable[[], None]) -> None:
        """Call `drain` when the parent says so; end the process when the parent is dead."""
        asyncio.get_running_loop().add_reader(self._descriptor, self._read, drain)

    def _read(self, drain: Callable[[], None]) -> None:
        if os.read(self._descriptor, 1) == _DRAIN:
            drain()
        else:
            os._exit(0)


Work = Callable[[int, Orders], Coroutine[Any, Any, str | None]]
"""What a worker does, by its number and its orders; it returns why it stopped early, or None."""


@contextlib.contextmanager
def held_back(signals: Collection[int]) -> Iterator[None]:
    """Let signals wait inside the block, until `release_signals` or its end.

    One that comes while workers are forked would be lost, or end this process before it can wait for what they sent.
    So it must not be delivered to another thread either, such as one that wrote to the disk and is just ending.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        other_threads_end(_THREAD_SECONDS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release_signals(signals: Collection[int]) -> None:
    """Let signals come that `held_back` has wait."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def fork_workers(number: int, work: Work) -> list[WorkerProcess]:
    """Start so many workers. No other thread and no event loop may run in this process."""
    gc.collect()
    gc.freeze()  # what the parent has made is looked at by no collection of a worker, so its memory stays shared
    workers: list[WorkerProcess] = []
    parent = os.getpid()
    for index in range(number):
        ordered, orders = os.pipe()
        said, says = os.pipe()
        pid = os.fork()
        if pid == 0:
            for other in workers:
                os.close(other.orders)
                os.close(other.said)
            os.close(orders)
            os.close(said)
            _be_worker(parent, ordered, says, work, index)
        os.close(ordered)
        os.close(says)
        workers.append(WorkerProcess(pid, orders, said))
    gc.unfreeze()
    return workers


def _be_worker(parent: int, ordered: int, says: int, work: Work, index: int) -> NoReturn:
    """Do the work of a worker and end the process, whatever happens."""
    code = 70
    try:
        _die_with(parent)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the parent decides, for all of them
        release_signals((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))  # what a tool starts inherits the mask
        problem = asyncio.run(work(index, Orders(ordered)))
        if problem is not None:
            os.write(says, problem.encode()[:_MAX_PROBLEM_BYTES])
        code = 0
    except BaseException as error:
        from afkcli.core.contract.errors import AfkError

        text = str(error) if isinstance(error, AfkError) else f"{type(error).__name__}: {error}"
        os.write(says, (text or type(error).__name__).encode()[:_MAX_PROBLEM_BYTES])
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # as where it was closed when the process was started
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
        os._exit(code)


def allow_descriptors(number: int) -> None:
    """Raise the limit of open files of this process to `number`, as far as the system lets it."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _die_with(parent: int) -> None:
    """Have the system kill this process when its parent dies, where it can; end it if that has happened."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def drain_all(workers: Sequence[BatchWorker]) -> None:
    for worker in workers:
        worker.drain()


def kill_all(workers: Sequence[BatchWorker]) -> None:
    for worker in workers:
        worker.kill()
