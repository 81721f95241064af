"""The worker of a store: one operating-system thread that makes all calls, journals open turns and renews leases.

What is guaranteed: calls for one thread of ours are made in the order in which they were submitted; those of different
threads are made in turn, so a long backlog of one holds up another by one call at most. Between two calls, and while a
store waits inside one, the worker writes what is due by its own clock, so a run that is stuck (a stopped terminal, a
slow reader) keeps its lease and its text. A store is used by one operating-system thread alone, so a call that is slow
in itself does hold up the others.

A call may be made in steps: instead of calling the store it yields operations. The worker collects those of the first
calls of all threads and has the store carry them out together, in one transaction with one sync. Each call is sent what
became of its own operations; a failure of one is not seen by the others.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar

from afkcli.core.contract.errors import StoreError
from afkcli.core.contract.protocols import JOURNAL_SECONDS, OperationResult
from afkcli.core.contract.tasks import of_thread, seen_through
from afkcli.core.contract.waiting import on_waiting
from afkcli.core.thread.batch import Batch, Steps, apply
from afkcli.core.thread.writer import RescueWriter, TurnWriter, write_due

P = ParamSpec("P")
T = TypeVar("T")

_LOOK_SECONDS = 0.5

_MOST_AT_ONCE = 100
"""How many calls the worker makes before it looks what else has come."""


class WaitListener(Protocol):
    """Who wants to know that a call of a thread waits inside the store. The methods are called on the worker."""

    def began(self) -> None:
        """Take note that a call waits, or that it needs no lock any more."""
        ...

    def is_importing(self) -> bool:
        """Return whether an import is in progress, during which no call should take the store's lock."""
        ...

    def say(self, line: str) -> None:
        """Take one line for a person, when a call has waited for a second."""
        ...


class _Job:
    """A call that was submitted.

    Args:
        key: that of its thread.
        steps: make the call.
    """

    def __init__(self, key: str, steps: Steps[Any]) -> None:
        self.key = key
        self.future: Future[Any] = Future()
        self._steps = steps

    def begin(self) -> Batch | None:
        """Make the call; return the first operations that it wants carried out, None if it has ended."""
        return self._advance(None) if self.future.set_running_or_notify_cancel() else None

    def resume(self, results: list[OperationResult]) -> Batch | None:
        """Tell the call what became of its operations; return the next ones, None if it has ended."""
        return self._advance(results)

    def _advance(self, results: list[OperationResult] | None) -> Batch | None:
        try:
            return self._steps.send(results)  # type: ignore[arg-type]  # None begins a generator
        except StopIteration as end:
            self.future.set_result(end.value)
        except Exception as error:  # handed to the caller that waits
            self.future.set_exception(error)
        except BaseException as error:  # a store that calls sys.exit ends neither this worker nor afk
            self.future.set_exception(StoreError(f"the store failed: {type(error).__name__}: {error}"))
        return None


def _in_one_step(function: Callable[[], T]) -> Steps[T]:
    """Make a call that wants no operations."""
    yield from ()
    return function()


class _Wanted(NamedTuple):
    """A call in steps, and the operations that it wants carried out."""

    job: _Job
    batch: Batch


class StoreCalls:
    """The calls for one thread, by its key: they are made in order. All methods may be called from anywhere.

    Args:
        worker: makes the calls.
        key: the thread's key; "" for calls that belong to no thread, which keep an order of their own.
    """

    def __init__(self, worker: StoreWorker, key: str) -> None:
        self.worker = worker
        self._key = key

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `function` after the calls of this thread that were submitted before.

        Returns:
            A future of what it returns or raises.
        """
        return self._put(_in_one_step(lambda: function(*args, **kwargs)))

    def submit_steps(self, function: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As `submit`, for work in steps: the operations that it yields are carried out with those of other threads."""
        return self._put(function(*args, **kwargs))

    def _put(self, steps: Steps[Any]) -> Future[Any]:
        job = _Job(self._key, steps)
        self.worker.put(job)
        return job.future

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` and wait for it. If the waiting task is cancelled, the function still runs to its end."""
        return await asyncio.shield(of_thread(self.submit(function, *args, **kwargs)))

    async def finish_steps(self, function: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `finish`, for work in steps."""
        return await seen_through(of_thread(self.submit_steps(function, *args, **kwargs)))

    async def finish(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `call`, and wait for the end even if the waiting task is cancelled, as by an event loop that closes."""
        return await seen_through(of_thread(self.submit(function, *args, **kwargs)))

    def watch(self, writer: TurnWriter | RescueWriter) -> None:
        """Write what is due of `writer` from now on; to be called by the worker (inside a submitted function)."""
        self.worker.writers.append(writer)

    def unwatch(self, writer: TurnWriter | RescueWriter) -> None:
        """Leave `writer` alone from now on; to be called by the worker."""
        if writer in self.worker.writers:
            self.worker.writers.remove(writer)


class StoreWorker(StoreCalls):
    """Makes store calls in one daemon thread, `afk-store`, which starts with the first call.

    Its own methods are those of the calls that belong to no thread; `of` returns those of one thread.

    Args:
        say: takes a line for a person if a call waits for another process and no listener of its thread takes it;
            called on the worker.
    """

    def __init__(self, say: Callable[[str], None] = lambda line: None) -> None:
        super().__init__(self, "")
        self._say = say
        self._listeners: dict[str, WaitListener] = {}  # by key
        self._given_up: set[Future[Any]] = set()
        self._jobs: tuple[_Job, ...] = ()  # those that are being made
        self.writers: list[TurnWriter | RescueWriter] = []
        self._waiting: dict[str, deque[_Job]] = {}  # by key; the next call is the first one of the first key
        self._changed = threading.Condition()
        self._closing = False
        self._last: Callable[[], None] | None = None
        self._worker: threading.Thread | None = None
        self._ended: threading.Thread | None = None  # the worker before this one; it may still be in its last call
        self._next_tick = 0.0
        self._ticking = False

    def of(self, key: str) -> StoreCalls:
        """Return the calls of the thread `key`."""
        return StoreCalls(self, key)

    def put(self, job: _Job) -> None:
        """Have `job` run after those that wait for its key.

        Raises:
            StoreError: the system starts no thread, so that nothing would run it.
        """
        with self._changed:
            if self._worker is None:
                self._worker = self._started()
            self._waiting.setdefault(job.key, deque()).append(job)
            self._changed.notify()

    def _started(self) -> threading.Thread:
        worker = threading.Thread(target=self._run, name="afk-store", daemon=True)
        try:
            worker.start()
        except RuntimeError as error:
            raise StoreError(f"{error}: the limit of processes may be reached (ulimit -u)") from None
        return worker

    def listen(self, key: str, listener: WaitListener) -> None:
        """Tell `listener` when calls of the thread `key` wait inside the store."""
        self._listeners[key] = listener

    def unlisten(self, key: str) -> None:
        """Tell the listener of `key` nothing any more."""
        self._listeners.pop(key, None)

    def give_up(self, future: Future[Any]) -> None:
        """Have the call of `future` end with an error if it waits inside the store now, or begins to."""
        self._given_up.add(future)
        future.add_done_callback(self._given_up.discard)

    def while_waiting(self) -> bool:
        """Write what is due while a call waits, and return whether it should not take the store's lock yet.

        Raises:
            StoreError: no one wants the call any more, or any of those that wait together.
        """
        self._tick_if_due()
        if self._jobs and not self._ticking:
            if all(job.future in self._given_up for job in self._jobs):
                raise StoreError("the call was given up while it waited")
            for listener in self._listening():
                listener.began()
        return any(listener.is_importing() for listener in tuple(self._listeners.values()))

    def say_waiting(self, line: str) -> None:
        """Tell that a call has waited for a second."""
        listening = self._listening()
        for listener in listening:
            listener.say(line)
        if not listening:
            self._say(line)

    def _listening(self) -> list[WaitListener]:
        """Return the listeners of the calls that are being made."""
        found = [self._listeners.get(job.key) for job in self._jobs]
        return [listener for listener in found if listener is not None]

    def close(self, last: Callable[[], None] = lambda: None, seconds: float | None = None) -> bool:
        """Make all calls that were submitted, then `last`, and stop; nothing happens if no call was ever submitted.

        Errors of `last` are ignored: nothing can be done about them any more. A call that is submitted meanwhile is
        made before `last`, or after it by a new worker.

        Args:
            last: called by the worker at the end.
            seconds: how long `last` may take, None for as long as it takes; the calls before it have their own limits.

        Returns:
            Whether it has stopped; otherwise `last` did not end in time, and is left behind.
        """
        began = threading.Event()

        def end() -> None:
            began.set()
            last()

        with self._changed:
            worker = self._worker
            if worker is None:
                return True
            self._last, self._closing = end, True
            self._changed.notify()
        while worker.is_alive() and not began.wait(_LOOK_SECONDS):
            pass  # a worker that failed never gets there
        worker.join(seconds)
        return not worker.is_alive()

    def _run(self) -> None:
        if self._ended is not None:
            self._ended.join()  # a store is used by one operating-system thread at a time
        on_waiting(self)
        self._next_tick = time.monotonic() + JOURNAL_SECONDS
        going: list[_Wanted] = []
        while True:
            with self._changed:
                if not (going or self._waiting or self._closing):
                    self._changed.wait(max(0.0, self._next_tick - time.monotonic()) if self.writers else None)
                jobs = self._take({job.key for job, _ in going})
                if not (jobs or going) and self._closing:
                    last, self._last, self._closing = self._last, None, False
                    self._ended, self._worker = self._worker, None
                    break
            going = self._carry_on([*going, *self._begin(jobs)])
            self._tick_if_due()
        if last is not None:
            with suppress(BaseException):
                last()

    def _take(self, busy: Collection[str]) -> list[_Job]:
        """Return the next call of each key that is not `busy`, of `_MOST_AT_ONCE` keys; they go behind all others."""
        keys = list(islice((key for key in self._waiting if key not in busy), _MOST_AT_ONCE))
        taken = []
        for key in keys:
            jobs = self._waiting.pop(key)
            taken.append(jobs.popleft())
            if jobs:
                self._waiting[key] = jobs
        return taken

    def _begin(self, jobs: Iterable[_Job]) -> list[_Wanted]:
        """Make calls; return those that want operations to be carried out."""
        going = []
        for job in jobs:
            self._jobs = (job,)
            batch = job.begin()
            self._jobs = ()
            if batch is not None:
                going.append(_Wanted(job, batch))
            self._tick_if_due()
        return going

    def _carry_on(self, going: Sequence[_Wanted]) -> list[_Wanted]:
        """Carry out what calls want, for each store together, and continue them; return those that want more."""
        by_store: dict[int, list[_Wanted]] = {}
        for wanted in going:
            by_store.setdefault(id(wanted.batch.store), []).append(wanted)
        more = []
        for together in by_store.values():
            self._jobs = tuple(job for job, _ in together)
            operations = [operation for _, batch in together for operation in batch.operations]
            results = iter(apply(together[0].batch.store, operations))
            for job, batch in together:
                self._jobs = (job,)
                next_batch = job.resume(list(islice(results, len(batch.operations))))
                if next_batch is not None:
                    more.append(_Wanted(job, next_batch))
            self._jobs = ()
        return more

    def _tick_if_due(self) -> None:
        """Write what is due of all writers, if it is time; also from inside a call that waits."""
        if self._ticking or not self.writers or time.monotonic() < self._next_tick:
            return
        self._ticking = True
        # From the beginning of the tick: a slow write does not put off the next one.
        self._next_tick = time.monotonic() + JOURNAL_SECONDS
        write_due(tuple(self.writers))
        self._ticking = False
