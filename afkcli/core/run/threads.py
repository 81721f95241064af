"""What `Runner.threads` offers: changes of whole threads from Python, each under the lease of its thread."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from afkcli.core.contract.agent import Agent
from afkcli.core.contract.ids import uuid7
from afkcli.core.contract.protocols import Lease, Owner, Store, ThreadInfo
from afkcli.core.thread import operations, undoing
from afkcli.core.thread.names import check_name
from afkcli.core.thread.store_worker import StoreWorker
from afkcli.core.thread.undoing import Changed

if TYPE_CHECKING:
    from afkcli.core.run.thread_compaction import Compacted

T = TypeVar("T")
Compactor: TypeAlias = "Callable[[str, Agent | None, int], Coroutine[Any, Any, Compacted]]"


class Threads:
    """Changes threads. No method waits for a run that holds the thread, and none deletes a turn.

    Every method takes the name of a thread and raises `UnknownNameError` if there is none of this name,
    `ThreadBusyError` if a run holds it, and `StoreError` if the store failed.

    Args:
        store: returns the store; called on its worker.
        calls: makes all calls to the store.
        owner: returns who holds a lease, from an id.
        compactor: compacts a thread, by its name, with an agent or that of the thread.

    Since: 0.2.
    """

    def __init__(
        self, store: Callable[[], Store], calls: StoreWorker, owner: Callable[[str], Owner], compactor: Compactor
    ) -> None:
        self._store = store
        self._calls = calls
        self._owner = owner
        self._compactor = compactor

    async def undo(self, thread_id: str, count: int = 1) -> Changed:
        """Set the last `count` questions aside, each with its answer; `UsageError` if there are fewer."""
        return await self._held(thread_id, lambda store, lease: undoing.undo(store, lease, count))

    async def redo(self, thread_id: str) -> Changed:
        """Take back the last undo; `UsageError` if there is none, or if another question was asked since."""
        return await self._held(thread_id, undoing.redo)

    async def compact(self, thread_id: str, agent: Agent | None = None, *, keep_turns: int = 1) -> Compacted:
        """Have a model summarise the turns of a thread, and send the summary in their place from now on.

        The turns stay in the thread. `undo` takes the summary back, as long as no other question was asked.

        Args:
            thread_id: the name of the thread.
            agent: the agent whose `context.model`, or model, is asked, and whose limits count; by default the model of
                the thread.
            keep_turns: how many of the last questions stay whole, with their answers.

        Raises:
            UsageError: there is nothing to be summarised.
            AfkError: no summary was made; its message says why.
        """
        return await self._compactor(thread_id, agent, keep_turns)

    async def rename(self, thread_id: str, new: str) -> ThreadInfo:
        """Give the thread the name `new`, and return it; `NameTakenError` if another thread has that name."""
        return await self._held(thread_id, lambda store, lease: operations.rename(store, lease, new))

    async def tag(self, thread_id: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> ThreadInfo:
        """Add tags to the thread and remove others, and return it; `UsageError` for a tag that is not valid."""
        return await self._held(thread_id, lambda store, lease: operations.tag(store, lease, add, remove))

    async def fork(self, thread_id: str, new: str, *, at: int | None = None) -> ThreadInfo:
        """Make the thread `new` of the turns of a thread, and return it; see `afk threads fork`.

        Args:
            thread_id: the name of the thread, which a run may hold.
            new: the name of the fork.
            at: the last turn to take over, which may be set aside; by default all turns that are not.

        Raises:
            UsageError: the thread has no turn `at`.
            StoreError: there is a thread `new` already.
        """

        def forked() -> ThreadInfo:
            store = self._store()
            source = operations.find_thread(store, thread_id)
            source, _ = operations.settled(store, source, lambda: self._owner(uuid7()))
            lease = operations.fork(store, source, check_name(new), self._owner(uuid7()), at=at, must_have_turns=True)
            store.release(lease)
            return lease.thread

        return await self._calls.call(forked)

    async def _held(self, thread_id: str, change: Callable[[Store, Lease], T]) -> T:
        def changed() -> T:
            store = self._store()
            with operations.held(store, check_name(thread_id), self._owner(uuid7())) as lease:
                return change(store, lease)

        return await self._calls.call(changed)
