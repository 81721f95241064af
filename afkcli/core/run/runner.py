"""Runner: a message goes in, ordered events come out, and the thread remembers the turn. The loop is in `loop.py`."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from afkcli.core.contract.agent import Agent
from afkcli.core.contract.errors import UnknownNameError, UsageError
from afkcli.core.contract.events import RunStarted
from afkcli.core.contract.ids import is_uuid7, uuid7
from afkcli.core.contract.jsonform import clean_text
from afkcli.core.contract.limits import MAX_TURN_MB, MB
from afkcli.core.contract.protocols import Provider, Sink, Store, ThreadInfo
from afkcli.core.contract.result import AgentResult
from afkcli.core.contract.sizes import text_size
from afkcli.core.contract.tasks import started
from afkcli.core.contract.text import error_text, in_mb
from afkcli.core.run.assemble import Resources, assemble
from afkcli.core.run.closing import see_through
from afkcli.core.run.config import RunnerConfig, Wiring
from afkcli.core.run.handle import RunHandle
from afkcli.core.run.loop import work
from afkcli.core.run.models import Prices, resolve_model
from afkcli.core.run.opening import Opener, Replaces
from afkcli.core.run.run import Run
from afkcli.core.run.sink_worker import SinkWorker
from afkcli.core.run.stopping import CANCELLED, Outcome
from afkcli.core.run.threads import Threads
from afkcli.core.thread.attachments import Attachment, as_named, ask, attached_parts
from afkcli.core.thread.lookup import near_threads, thread_meant, unknown_thread
from afkcli.core.thread.names import check_name
from afkcli.core.thread.store_worker import StoreWorker

if TYPE_CHECKING:
    from afkcli.core.run.thread_compaction import Compacted

STORE_CLOSE_SECONDS = 10.0
"""How long a store may take to close, which is a last write for some."""


class Runner:
    """Runs agents.

    Args:
        providers: the model providers by name.
        store: where threads are kept, or a function that opens it (called on its worker); in memory by default.
        sinks: get every event.
        config: how the runner behaves.
        wiring: what surrounds the runner.

    `threads` changes whole threads: undo, redo, compact, rename, tag, fork (since 0.2).
    """

    def __init__(
        self,
        *,
        providers: Mapping[str, Provider],
        store: Store | Callable[[], Store] | None = None,
        sinks: Sequence[Sink] = (),
        config: RunnerConfig | None = None,
        wiring: Wiring | None = None,
    ) -> None:
        self.config = config or RunnerConfig()
        self._wiring = wiring or Wiring()
        self._calls = StoreWorker(self._wiring.notify)
        self._opened: Store | None = None
        self._store_source = _memory_store() if store is None else store
        self._sinks = [SinkWorker(sink, self._sink_left_out) for sink in sinks]
        self._resources = Resources(
            providers=providers,
            store=self.store,
            store_worker=self._calls,
            sinks=self._sinks,
            config=self.config,
            wiring=self._wiring,
            prices=Prices(self._wiring.look_up_price),
        )
        self._runs: set[Run] = set()
        self.threads = Threads(self.store, self._calls, self._wiring.owner, self._compact)

    async def run(
        self,
        agent: Agent,
        *,
        user_message: str,
        thread_id: str | None = None,
        attachments: Sequence[Attachment] = (),
        run_id: str | None = None,
    ) -> AgentResult:
        """Run `agent` on a message to the end; see `run_stream`."""
        handle = await self.run_stream(
            agent, user_message=user_message, thread_id=thread_id, attachments=attachments, run_id=run_id
        )
        async with handle:
            return await handle.wait()

    def run_sync(
        self,
        agent: Agent,
        *,
        user_message: str,
        thread_id: str | None = None,
        attachments: Sequence[Attachment] = (),
        run_id: str | None = None,
    ) -> AgentResult:
        """As `run`, from code that is not asynchronous.

        Raises:
            UsageError: it is called inside a running event loop; use `run` there.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            running = self.run(
                agent, user_message=user_message, thread_id=thread_id, attachments=attachments, run_id=run_id
            )
            return asyncio.run(self._run_and_leave(running))
        raise UsageError("run_sync was called inside an event loop; use `await runner.run(...)` there")

    async def _run_and_leave(self, running: Coroutine[Any, Any, AgentResult]) -> AgentResult:
        try:
            return await running
        finally:
            await self.leave_loop()

    async def leave_loop(self) -> None:
        """Close what belongs to the running event loop, before it ends; another loop may use the runner later."""

    async def run_stream(
        self,
        agent: Agent,
        *,
        user_message: str,
        thread_id: str | None = None,
        attachments: Sequence[Attachment] = (),
        run_id: str | None = None,
    ) -> RunHandle:
        """Start a run and return its handle.

        Args:
            agent: the agent.
            user_message: the user's message.
            thread_id: the name of the thread; a new thread, named by the run's id, if it is None.
            attachments: the attachments of the message; at most 20 MB together.
            run_id: the id of the run, a UUIDv7 as `uuid7` of `afkcli.plugin` returns it; a new one if it is None. It is
                refused before anything is written if it is in use: if the thread has a turn of this id, or, without a
                `thread_id`, if there is a thread of this name. Since 0.2.

        Raises:
            UsageError: the run cannot start: the name, the model, a key, a tool, the run id, or an attachment that the
                model cannot take.
            ThreadBusyError: another run holds the thread.
        """
        return await self.start(
            lambda thread: agent,
            user_message=user_message,
            thread_id=thread_id,
            attachments=attachments,
            run_id=run_id,
        )

    async def resume(self, agent: Agent, *, thread_id: str, run_id: str | None = None) -> AgentResult:
        """Resume the last turn of a thread, which was cut, and run to the end; see `resume_stream`."""
        async with await self.resume_stream(agent, thread_id=thread_id, run_id=run_id) as handle:
            return await handle.wait()

    async def resume_stream(self, agent: Agent, *, thread_id: str, run_id: str | None = None) -> RunHandle:
        """Start a run that resumes the last turn of a thread, and return its handle.

        The turn was cut: it was cancelled or interrupted, a limit ended it, or it failed. Its finished tool calls are
        not made again. An unfinished one is made again if the agent's tool is `idempotent`, or if the caller allows it
        now; otherwise the model gets an error result for it. `run_id` is as in `run_stream`.

        Raises:
            UsageError: there is no such thread, its last turn was not cut, or the run cannot start.
            StoreError: the thread cannot be read or written.
            ThreadBusyError: another run holds the thread.
        """
        return await self.start(
            lambda thread: agent, user_message=None, thread_id=thread_id, create=False, run_id=run_id
        )

    async def retry(
        self, agent: Agent, *, thread_id: str, user_message: str | None = None, run_id: str | None = None
    ) -> AgentResult:
        """Ask the last question of a thread again, and run to the end; see `retry_stream`. Since: 0.2."""
        started_run = await self.retry_stream(agent, thread_id=thread_id, user_message=user_message, run_id=run_id)
        async with started_run as handle:
            return await handle.wait()

    async def retry_stream(
        self, agent: Agent, *, thread_id: str, user_message: str | None = None, run_id: str | None = None
    ) -> RunHandle:
        """Start a run that asks the last question of a thread again, and return its handle.

        The old answer is set aside: it stays in the thread and is not sent any more. `undo` of the new turn brings it
        back. Since: 0.2.

        Args:
            agent: the agent.
            thread_id: the name of the thread.
            user_message: a message in place of the question; the attachments of the question stay.
            run_id: as in `run_stream`.

        Raises:
            UsageError: there is no such thread, it has no question, or the run cannot start.
            StoreError: the thread cannot be read or written.
            ThreadBusyError: another run holds the thread.
        """
        return await self.start(
            lambda thread: agent,
            user_message=user_message,
            thread_id=thread_id,
            create=False,
            run_id=run_id,
            replaces="last",
        )

    async def start(
        self,
        choose: Callable[[ThreadInfo], Agent],
        *,
        user_message: str | None,
        thread_id: str | None = None,
        create: bool = True,
        attachments: Sequence[Attachment] = (),
        run_id: str | None = None,
        replaces: Replaces | None = None,
    ) -> RunHandle:
        """As `run_stream`, but the agent is chosen when the thread (its last agent and model) is known.

        Without a `user_message` it resumes the thread's last turn, as `resume_stream` does. With `replaces` it asks the
        question of that turn again, as `retry_stream` does: "last", or the number of a turn that has to be the last.
        """
        if run_id is not None and not is_uuid7(run_id):
            raise UsageError(f"the run id must be a UUIDv7 in lower case, with hyphens (got {run_id!r})")
        if user_message is not None and not user_message.strip():
            raise UsageError("the message is empty; say what to do")
        asked = ask(_storable(user_message), attachments) if user_message is not None else None
        must_be_new = run_id is not None and thread_id is None
        run_id = run_id or uuid7()
        name = check_name(thread_id) if thread_id is not None else run_id
        opener = Opener(
            store=self.store,
            calls=self._calls,
            notify=self._wiring.notify,
            busy=self.config.busy,
            busy_timeout_s=self.config.busy_timeout_s,
            folder=self._wiring.folder,
        )
        try:
            opening = await opener.open(name, self._wiring.owner(run_id), create=create, must_be_new=must_be_new)
        except UnknownNameError:  # of the store, which does not look for similar names
            raise await self._calls.call(lambda: unknown_thread(self.store(), name)) from None
        try:
            agent = choose(opening.thread)
            run = await assemble(self._resources, opener, opening, agent, run_id, asked, replaces)
        except BaseException:
            await opener.release(opening)
            raise
        beginning = run.transcript.beginning
        run.outlet.post(
            RunStarted,
            agent=agent.name,
            model=run.models.current.full_name,
            message=beginning.messages[0].text,
            attachments=as_named(attached_parts(beginning.messages[:1])),
            resumed=beginning.resumes is not None,
            parent_run_id=beginning.resumes,
            replaces=beginning.replaces,
        )
        handle = self._launch(run)
        try:
            await asyncio.sleep(0)  # start its task; from now on the run ends properly if the loop closes
        except asyncio.CancelledError:
            await handle.cancel()
            raise
        return handle

    async def compact(self, choose: Callable[[ThreadInfo], Agent], *, thread_id: str, keep_turns: int = 1) -> Compacted:
        """As `threads.compact`, but the agent is chosen when the thread (its last agent and model) is known."""
        from afkcli.core.run.thread_compaction import compact_thread  # not at the top: few runners compact threads

        return await compact_thread(self._resources, thread_id, choose, keep_turns)

    async def _compact(self, thread_id: str, agent: Agent | None, keep_turns: int) -> Compacted:
        return await self.compact(
            lambda thread: self._chosen(agent or Agent(name=thread.agent or "afk"), thread),
            thread_id=thread_id,
            keep_turns=keep_turns,
        )

    def _chosen(self, agent: Agent, thread: ThreadInfo) -> Agent:
        """Return `agent` with its model, or that of the thread if it names none."""
        return agent if agent.model is not None else dataclasses.replace(agent, model=thread.model)

    async def last_thread(self) -> ThreadInfo | None:
        """Return the thread that was last used in the runner's folder, or None."""
        threads = await self._calls.call(lambda: self.store().list(limit=1, folder=self._wiring.folder))
        return threads[0] if threads else None

    async def thread_meant(self, text: str) -> ThreadInfo:
        """Return the thread that `text` means, as `afkcli.core.thread.lookup.thread_meant` does. Since: 0.2."""
        return await self._calls.call(lambda: thread_meant(self.store(), text))

    async def near_threads(self, name: str) -> Sequence[str]:
        """Return the names of threads that `name` is a slip of. Since: 0.2."""
        return await self._calls.call(lambda: near_threads(self.store(), name))

    async def window_of(self, model: str) -> int | None:
        """Return the tokens of the window of `provider/model`, None where they are not known. Since: 0.2.

        Raises:
            UsageError: there is no such model.
        """
        found = resolve_model(model, self._resources.providers, self._resources.prices)
        look_up = self._wiring.look_up_window
        return look_up.known(found) or await asyncio.to_thread(look_up.listed, found)

    def store(self) -> Store:
        """Return the store, opened by the first call; only its worker may call this."""
        if self._opened is None:
            self._opened = self._store_source() if callable(self._store_source) else self._store_source
        return self._opened

    async def aclose(self) -> None:
        """Close the store and the sinks; call it when all runs have ended."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """As `aclose`, from code that is not asynchronous."""
        if not self._calls.close(self._close_store, STORE_CLOSE_SECONDS):
            self._wiring.notify(f"the store did not close within {STORE_CLOSE_SECONDS:g} s; all turns are saved by now")
        for sink in self._sinks:
            sink.close()

    def _close_store(self) -> None:
        store, self._opened = self._opened, None
        if store is None:
            return
        try:
            store.close()
        except BaseException as error:  # a plugin's; the turns are saved by now
            self._wiring.notify(f"the store could not be closed: {error_text(error)}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _launch(self, run: Run) -> RunHandle:
        working = work(run, self._calls.of(run.spec.thread_key))
        task = started(working if run.tape is None else run.tape.see(working))
        run.stopping.watch(task)  # it is cancelled at once if the lease was lost in the meantime
        self._runs.add(run)
        return RunHandle(
            run_id=run.spec.run_id,
            thread_id=run.spec.thread_id,
            channel=run.outlet.channel,
            drive=asyncio.ensure_future(self._drive(run, task)),
            stop=lambda: run.stopping.stop(CANCELLED),
            decide=run.approvals.decide,
            waiting=run.approvals.waiting,
            warn=lambda code, message: run.outlet.pending_warnings.append((code, message)),
            failure=lambda: run.stopping.exception,
        )

    async def _drive(self, run: Run, task: asyncio.Task[Outcome]) -> AgentResult:
        try:
            calls = self._calls.of(run.spec.thread_key)
            return await see_through(run, task, calls, self._wiring.rescue, self._wiring.last_warnings)
        finally:
            run.outlet.channel.close()
            self._calls.unlisten(run.spec.thread_key)
            self._runs.discard(run)
            await asyncio.gather(*(sink.flush() for sink in self._sinks))
            for _, line in run.outlet.pending_warnings:  # they came after the last event
                self._wiring.notify(line)

    def _sink_left_out(self, line: str) -> None:
        """Report that a sink is left out: in the runs in progress, or directly to the user if there are none."""
        for run in tuple(self._runs):
            run.outlet.pending_warnings.append(("sink_left_out", line))
        if not self._runs:
            self._wiring.notify(line)


def _storable(message: str) -> str:
    """Return the user's message without lone surrogates; `UsageError` if no turn can hold it."""
    most = MAX_TURN_MB * MB
    size = len(message) if len(message) > most else text_size(message)
    if size > most:
        raise UsageError(f"the message is {in_mb(size)} as it is stored, and a turn takes {in_mb(most)}; shorten it")
    return clean_text(message)


def _memory_store() -> Store:
    from afkcli.core.thread.memory_store import MemoryStore  # not at the top: the command line keeps its threads

    return MemoryStore()
