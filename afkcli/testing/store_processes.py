"""Processes that open a store of their own, for tests of stores that several processes share. Since: 0.2.

They are forked, so that a step may be any function. A process that has a database open must not fork and use it in
both, so a test makes all its processes before it opens the store itself.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import struct
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from afkcli.core.contract.protocols import Store

CAN_FORK = hasattr(os, "fork")

Step = Callable[..., Any]
"""Takes the store of its process, and the argument of `begin` if it has one; its result is pickled."""

_SIZE = struct.Struct("<Q")


class OtherProcess:
    """A process that opens a store and takes steps in their order, each when it is told to.

    Args:
        open_store: opens the store, when the first step begins.
        steps: what the process does.

    Since: 0.2.
    """

    def __init__(self, open_store: Callable[[], Store], *steps: Step) -> None:
        orders, self._orders = os.pipe()
        self._results, results = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # other threads of this process are not needed there
            self.pid = os.fork()
        if self.pid == 0:
            _obey(open_store, steps, orders, results)
        os.close(orders)
        os.close(results)
        self._is_over = False

    def begin(self, *arguments: object) -> None:
        """Let the process take its next step, and do not wait for it."""
        _write(self._orders, arguments)

    def result(self) -> Any:
        """Wait for the end of the step that was begun, and return what it returned.

        Raises:
            AssertionError: the step failed, with what it raised.
        """
        failed, value = _read(self._results)
        assert not failed, value
        return value

    def step(self, *arguments: object) -> Any:
        """Let the process take its next step, and return what that returns."""
        self.begin(*arguments)
        return self.result()

    def kill(self) -> None:
        """Kill the process as it is (SIGKILL)."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """End the process, if it has not ended."""
        self._end(signal.SIGKILL)

    def _end(self, by: int) -> None:
        if not self._is_over:
            self._is_over = True
            os.kill(self.pid, by)
            os.waitpid(self.pid, 0)
            os.close(self._orders)
            os.close(self._results)


class OtherProcesses:
    """Several processes that take the same steps, at once.

    Args:
        open_store: opens the store in each.
        count: how many.
        steps: what each does; a step is given the store, the number of its process and `meet`, which waits until all
            of them call it.

    Since: 0.2.
    """

    def __init__(self, open_store: Callable[[], Store], count: int, *steps: Step) -> None:
        meeting = multiprocessing.get_context("fork").Barrier(count)

        def numbered(step: Step, number: int) -> Step:
            return lambda store, *arguments: step(store, number, lambda: meeting.wait(60), *arguments)

        self._processes = [
            OtherProcess(open_store, *(numbered(step, number) for step in steps)) for number in range(count)
        ]

    def step(self, *arguments: object) -> list[Any]:
        """Let all take their next step at once, and return what it returned in each."""
        for process in self._processes:
            process.begin(*arguments)
        return [process.result() for process in self._processes]

    def close(self) -> None:
        """End them all."""
        for process in self._processes:
            process.close()


def _obey(open_store: Callable[[], Store], steps: Sequence[Step], orders: int, results: int) -> NoReturn:
    """Take the steps, each when it is ordered, and end without what a process does at its end."""
    code = 1
    try:
        store: Store | None = None
        for step in steps:
            arguments = _read(orders)
            if store is None:
                store = open_store()
            _write(results, (False, step(store, *arguments)))
        _read(orders)  # until the test ends the process: its store is never closed
        code = 0
    except BaseException:
        _write(results, (True, traceback.format_exc()))
    finally:
        os._exit(code)


def _write(descriptor: int, value: object) -> None:
    data = pickle.dumps(value)
    data = _SIZE.pack(len(data)) + data
    while data:
        data = data[os.write(descriptor, data) :]


def _read(descriptor: int) -> Any:
    (size,) = _SIZE.unpack(_exactly(descriptor, _SIZE.size))
    return pickle.loads(_exactly(descriptor, size))  # noqa: S301 - written by this process or by its child


def _exactly(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(descriptor, size - len(data))
        assert piece, "the other process has ended"
        data += piece
    return data
