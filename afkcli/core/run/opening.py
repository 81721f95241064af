"""Opening a turn: the lease of the thread, its history, and the durable question."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Literal, TypeAlias, TypeVar, cast

from afkcli.core.contract.errors import (
    LeaseLostError,
    StoreError,
    ThreadBusyError,
    UnsupportedRecordError,
    UsageError,
)
from afkcli.core.contract.ids import rfc3339, uuid7
from afkcli.core.contract.messages import Message
from afkcli.core.contract.protocols import Acquire, Lease, Owner, Store, ThreadInfo
from afkcli.core.contract.result import RunState
from afkcli.core.contract.structs import FrozenStruct, replace
from afkcli.core.contract.tasks import of_thread
from afkcli.core.contract.waits import waiting_for
from afkcli.core.run.config import BusyMode
from afkcli.core.run.spec import RunSpec
from afkcli.core.thread.attachments import Asked
from afkcli.core.thread.batch import Steps, one
from afkcli.core.thread.changes import Replacement
from afkcli.core.thread.history import History, load_history, no_messages
from afkcli.core.thread.operations import fork, holder_of, seal_interrupted, seal_open_turn
from afkcli.core.thread.resuming import beginning_again, beginning_of_resumed
from afkcli.core.thread.sending import turns_to_send
from afkcli.core.thread.store_worker import StoreCalls, StoreWorker
from afkcli.core.thread.turns import Beginning
from afkcli.core.thread.writer import TurnWriter

_Ask = Callable[[Store, Lease, Beginning], Steps[TurnWriter]]
Replaces: TypeAlias = Literal["last"] | int
"""Whose question is asked again: the last one, whichever it is, or the one of this turn, if it is the last one."""
LeaseOrNone = TypeVar("LeaseOrNone", Lease, Lease | None)
_POLL_SECONDS = 0.05


class Opening(FrozenStruct, kw_only=True):
    """A thread that is ready for a turn. Without `lease` the turn cannot be saved, for the reason `unsaved`.

    `forked` tells whether the thread was created for this run, as a copy of a thread that is in use.
    """

    thread: ThreadInfo
    lease: Lease | None
    unsaved: str | None = None
    forked: bool = False


class Begun(FrozenStruct, kw_only=True):
    """An open turn: its writer, or why it cannot be saved, and the thread's history before it."""

    history: History
    beginning: Beginning
    writer: TurnWriter | None
    unsaved: str | None


class _RunIdInUseError(UsageError):
    """The thread already has a turn of this run id."""


class Opener:
    """Gets threads ready for a run.

    Args:
        store: returns the store; called on its worker.
        calls: the store's worker.
        notify: takes one line for a person.
        busy: what to do while another run holds the thread.
        busy_timeout_s: seconds to wait for it.
        folder: the folder in which the thread is used.

    `waited` are the warnings about the store that the run has to repeat. It is the `WaitListener` of the lease.
    """

    def __init__(
        self,
        *,
        store: Callable[[], Store],
        calls: StoreWorker,
        notify: Callable[[str], None],
        busy: BusyMode,
        busy_timeout_s: float,
        folder: str | None = None,
    ) -> None:
        self._store = store
        self._calls = calls
        self._notify = notify
        self._busy = busy
        self._busy_timeout_s = busy_timeout_s
        self._folder = folder
        self._own: StoreCalls = calls
        self.waited: list[tuple[str, str]] = []

    async def open(self, name: str, owner: Owner, *, create: bool, must_be_new: bool = False) -> Opening:
        """Take the lease of a thread, waiting for it as configured.

        Args:
            name: the name of the thread.
            owner: who takes the lease.
            create: whether to create a thread that does not exist.
            must_be_new: whether to refuse a thread that exists.

        Raises:
            ThreadBusyError: another run holds the thread.
            UnknownNameError: there is no such thread, and it may not be created.
            UsageError: the thread exists, and must be new.
        """
        self._own = self._calls.of(owner.run_id)
        self._calls.listen(owner.run_id, self)
        try:
            lease = await (self._acquire_new(name, owner) if must_be_new else self._acquire(name, owner, create))
        except (UsageError, ThreadBusyError):
            raise
        except Exception as error:  # the store is a plugin; its errors must not cost the answer
            reason = str(error) or type(error).__name__
            return Opening(thread=await self._read_only(name), lease=None, unsaved=reason)
        finally:
            self._calls.unlisten(owner.run_id)
        return Opening(thread=lease.thread, lease=lease, forked=lease.thread.name != name)

    def began(self) -> None:
        """Do nothing: there is no run yet, so nothing is imported for it."""

    def is_importing(self) -> bool:
        return False

    def say(self, line: str) -> None:
        """Tell a person that the lease has to wait for the store; the run repeats it as a warning when it starts."""
        self.waited.append(("store_locked", line))
        self._notify(line)

    async def begin(
        self,
        opening: Opening,
        spec: RunSpec,
        model: str,
        asked: Asked | None,
        replaces: Replaces | None,
        on_problem: Callable[[Exception], None],
    ) -> Begun:
        """Read the history, seal a turn that a dead run left open, and make the question durable.

        It is one call on the store's worker, so that all of it happens while the event loop imports an SDK. The
        question goes into one transaction with what other runs write.

        Args:
            opening: the thread, ready for a turn.
            spec: the run.
            model: the full name of its model.
            asked: the user's message; None to resume the last turn.
            replaces: the turn whose question is asked again, with `asked` in its place where there is one.
            on_problem: called on the store's worker with an error of the journal.

        Raises:
            LeaseLostError: another run took the thread.
            UsageError: there is no turn to resume or to replace, or the thread already has a turn of this run id.
            UnsupportedRecordError: a newer afk changed the thread.
            StoreError: the turn to resume cannot be read.
        """

        def ask(store: Store, lease: Lease, beginning: Beginning) -> Steps[TurnWriter]:
            writer = TurnWriter(store, lease, spec.run_id, on_problem)
            writer.thread = replace(writer.thread, folder=self._folder or writer.thread.folder)
            yield from writer.open(
                beginning,
                agent=spec.agent.name,
                model=model,
                now=rfc3339(time.time()),
                remember_model=spec.agent.remember_model,
                contents=asked.contents if asked is not None else {},
            )
            self._calls.watch(writer)
            return writer

        calls = self._calls.of(opening.thread.key)
        if replaces is not None:
            message = asked.message if asked is not None else None
            begun = calls.submit_steps(self._ask_again, opening, spec.run_id, replaces, message, ask)
        elif asked is None:
            begun = calls.submit_steps(self._resume, opening, spec.run_id, ask)
        else:
            begun = calls.submit_steps(self._begin, opening, spec.run_id, Beginning(messages=(asked.message,)), ask)
        try:
            return await asyncio.shield(of_thread(begun))
        except asyncio.CancelledError:
            self._calls.give_up(begun)
            calls.submit(self._abandon, begun)
            raise

    async def release(self, opening: Opening) -> None:
        """Give back the lease of a run that could not start, and delete a fork that was created for it."""
        if opening.lease is not None:
            with contextlib.suppress(Exception):  # the first error is the one that is reported
                give_back = self._drop if opening.forked else self._give_back
                calls = self._calls.of(opening.thread.key)  # after what was submitted to open the turn
                await calls.call(give_back, opening.lease)

    async def _acquire(self, name: str, owner: Owner, create: bool) -> Lease:
        deadline = time.monotonic() + self._busy_timeout_s
        lease = await self._leased(self._own.submit_steps(self._taken, name, owner, create))
        if lease is not None:
            return lease
        who = await self._calls.call(lambda: holder_of(self._store(), name))
        if self._busy == "fork":
            return await self._fork(name, owner, who)
        if self._busy == "wait" and time.monotonic() < deadline:
            self._notify(f"the thread {name!r} is in use{who}; waiting up to {self._busy_timeout_s:g} s")
            with waiting_for(f"the thread {name!r}, which is in use{who}"):
                lease = await self._acquire_until(deadline, name, owner, create)
            if lease is not None:
                return lease
            who = await self._calls.call(lambda: holder_of(self._store(), name))
        waited = "" if self._busy == "fail" else f" after {self._busy_timeout_s:g} s"
        raise ThreadBusyError(
            f"the thread {name!r} is still in use{who}{waited}; try again later, or with --busy wait or fork"
        )

    async def _acquire_until(self, deadline: float, name: str, owner: Owner, create: bool) -> Lease | None:
        while time.monotonic() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
            lease = await self._leased(self._own.submit_steps(self._taken, name, owner, create))
            if lease is not None:
                return lease
        return None

    async def _acquire_new(self, name: str, owner: Owner) -> Lease:
        lease = await self._leased(self._own.submit_steps(self._taken, name, owner, True))
        if lease is not None and not lease.thread.head:
            return lease
        await self._calls.call(self._give_back, lease)
        raise UsageError(f"there is already a thread {name!r}; use a new run id, or name another thread")

    def _taken(self, name: str, owner: Owner, create: bool) -> Steps[Lease | None]:
        """Return the lease of a thread, None if another owner holds it."""
        taken = yield from one(self._store(), Acquire(name, owner, create=create))
        return cast("Lease | None", taken)

    async def _leased(self, future: Future[LeaseOrNone]) -> LeaseOrNone:
        """Return the lease of `future`; one that comes after this task was cancelled is given back."""
        try:
            return await asyncio.shield(of_thread(future))
        except asyncio.CancelledError:
            self._calls.give_up(future)
            self._own.submit(lambda: self._give_back(future.result()))
            raise

    def _give_back(self, lease: Lease | None) -> None:
        if lease is not None:
            self._store().release(lease)

    def _drop(self, lease: Lease) -> None:
        self._store().delete(lease)

    async def _fork(self, name: str, owner: Owner, who: str) -> Lease:
        source = await self._calls.call(lambda: self._store().find(name))
        if source is None:
            raise ThreadBusyError(f"the thread {name!r} is in use{who} and has no turn to fork yet")
        fork_name = f"{name[:150]}.{owner.run_id[-8:]}"
        lease = await self._leased(self._own.submit(lambda: fork(self._store(), source, fork_name, owner)))
        self._notify(f"the thread {name!r} is in use{who}; continuing in its fork {fork_name!r}")
        return lease

    def _begin(self, opening: Opening, run_id: str, beginning: Beginning, ask: _Ask) -> Steps[Begun]:
        """Open a turn with a question."""
        history, unsaved, writer = History(), opening.unsaved, None
        try:
            store = self._store()
            history = load_history(store, opening.thread, turns_to_send)
            _refuse_used(run_id, opening.thread, history)
            if opening.lease is not None:
                lease, history = seal_interrupted(store, opening.lease, history)
                writer = yield from ask(store, lease, beginning)
        except (LeaseLostError, UnsupportedRecordError, _RunIdInUseError, GeneratorExit):  # the run must not start
            raise
        except BaseException as error:  # the store is a plugin; its errors must not cost the answer
            unsaved = unsaved or (str(error) if isinstance(error, Exception) and str(error) else repr(error))
            with contextlib.suppress(BaseException):
                self._give_back(opening.lease)
        return Begun(history=history, beginning=beginning, writer=writer, unsaved=unsaved)

    def _resume(self, opening: Opening, run_id: str, ask: _Ask) -> Steps[Begun]:
        """Open a turn that resumes the last one."""
        lease, history = self._settled(opening, run_id, "resumed")
        beginning = beginning_of_resumed(lease.thread, history.seen)
        writer = yield from ask(self._store(), lease, beginning)
        return Begun(history=history, beginning=beginning, writer=writer, unsaved=None)

    def _ask_again(
        self, opening: Opening, run_id: str, replaces: Replaces, message: Message | None, ask: _Ask
    ) -> Steps[Begun]:
        """Open a turn that replaces the last one."""
        lease, history = self._settled(opening, run_id, "asked again")
        beginning = beginning_again(lease.thread, history.seen, replaces, message)
        writer = yield from ask(self._store(), lease, beginning)
        replaced = Replacement(lease.thread.next_index, writer.turn, beginning.replaces, writer.turn)
        history = replace(history, changes=(*history.changes, replaced))
        return Begun(history=history, beginning=beginning, writer=writer, unsaved=None)

    def _settled(self, opening: Opening, run_id: str, what: str) -> tuple[Lease, History]:
        """Return the lease and the history of a thread that has to be readable, its open turn sealed."""
        if opening.lease is None:
            raise StoreError(f"the thread {opening.thread.name!r} cannot be {what}: {opening.unsaved}")
        store = self._store()
        history = load_history(store, opening.thread)
        _refuse_used(run_id, opening.thread, history)
        return seal_interrupted(store, opening.lease, history)

    def _abandon(self, begun: Future[Begun]) -> None:
        """Seal a turn whose run was cancelled while it was opened, so that its question is kept."""
        writer = begun.result().writer
        if writer is not None:
            self._calls.unwatch(writer)
            lease = replace(writer.lease, thread=writer.thread)
            history = load_history(writer.store, writer.thread, no_messages)
            seal_open_turn(writer.store, lease, history, RunState.CANCELLED)

    async def _read_only(self, name: str) -> ThreadInfo:
        found = None
        with contextlib.suppress(Exception):
            found = await self._calls.call(lambda: self._store().find(name))
        now = rfc3339(time.time())
        return found or ThreadInfo(key=uuid7(), name=name, created=now, used=now)


def _refuse_used(run_id: str, thread: ThreadInfo, history: History) -> None:
    """Raise `UsageError` if the thread already has a turn of this run id, which a caller may have chosen."""
    used = {turn.run_id for turn in history.turns} | ({thread.open_turn.run_id} if thread.open_turn else set())
    if run_id in used:
        line = f"the thread {thread.name!r} already has a turn of the run id {run_id}; use a new run id"
        raise _RunIdInUseError(line)
