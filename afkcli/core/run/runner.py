"""Runner: the loop. A message goes in, ordered events come out, and the thread remembers the turn."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Any, Literal, Self

from afkcli.core.contract.agent import Agent
from afkcli.core.contract.errors import ConfigError, UnknownNameError, UsageError
from afkcli.core.contract.events import Attached, RunStarted
from afkcli.core.contract.ids import uuid7
from afkcli.core.contract.jsonform import JsonObject, clean_text
from afkcli.core.contract.messages import FinishReason, Message
from afkcli.core.contract.options import check_options
from afkcli.core.contract.protocols import Owner, Provider, Sink, Store, ThreadInfo
from afkcli.core.contract.result import AgentResult, RunState
from afkcli.core.contract.rules import ApprovalRule, Decider
from afkcli.core.contract.tasks import contained, started
from afkcli.core.contract.tools import FoundTools, Tool, as_tools
from afkcli.core.run.answer import StructuredOutput, take_answer, unchecked_warnings
from afkcli.core.run.budgets import NO_BUDGETS, Budgets, Reservations
from afkcli.core.run.closing import Rescue, begin_rescue, see_through
from afkcli.core.run.cost import Spending
from afkcli.core.run.handle import EventChannel, RunHandle
from afkcli.core.run.limits import Limits
from afkcli.core.run.model_call import MAX_DELAY_S, call_model
from afkcli.core.run.opening import BusyMode, Opener, Opening, Question
from afkcli.core.run.run import CANCELLED, FIRST_DELAY_S, MAX_RETRIES, Model, Outcome, PriceLookup, Run
from afkcli.core.run.sink_worker import SinkThread
from afkcli.core.run.tool_calls import finish_tool_calls, run_tool_calls, take_tools
from afkcli.core.thread.attachments import Asked, Attachment, ask, attached_parts, refuse_what_the_model_cannot_take
from afkcli.core.thread.contents import Contents, read_content
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.names import check_name
from afkcli.core.thread.sending import history_warnings, sent_messages
from afkcli.core.thread.store_worker import StoreThread
from afkcli.core.thread.turns import Beginning

InteractionMode = Literal["headless", "interactive", "external"]
_DECIDERS: Mapping[InteractionMode, Decider] = {"headless": "headless", "interactive": "user", "external": "caller"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerConfig:
    """How a runner behaves, the same for all of its runs.

    Args:
        interaction_mode: who decides on tool calls that need approval: nobody (`headless`: they are denied), a person
            whom the caller asks (`interactive`), or the caller (`external`); both through `handle.decide`.
        approval_timeout_s: seconds after which a call that nobody decided on is denied; None waits as long as the run.
        busy: what to do while another run holds the thread.
        busy_timeout_s: seconds to wait for the thread.
        max_retries: how often a call that failed before any output is made again, 0 to 4.
        retry_delay_s: the longest wait before the first retry, in seconds; it doubles from retry to retry, up to 30 s.
            A server that says how long to wait goes before it.

    Raises:
        ConfigError: a number is out of range.
    """

    interaction_mode: InteractionMode = "headless"
    approval_timeout_s: float | None = None
    busy: BusyMode = "wait"
    busy_timeout_s: float = 60.0
    max_retries: int = MAX_RETRIES
    retry_delay_s: float = FIRST_DELAY_S

    def __post_init__(self) -> None:
        if not 0 <= self.max_retries <= MAX_RETRIES:
            raise ConfigError(f"max_retries is {self.max_retries}; it is a whole number from 0 to {MAX_RETRIES}")
        if not 0 <= self.retry_delay_s <= MAX_DELAY_S:
            raise ConfigError(f"retry_delay_s is {self.retry_delay_s}; it is a number from 0 to {MAX_DELAY_S:g}")


def unknown_owner(run_id: str) -> Owner:
    """Return an owner that cannot be proven dead; its lease ends by its time."""
    return Owner(host="", boot_id="", pid_namespace="", pid=0, start_time="", run_id=run_id)


def no_named_tools(names: Sequence[str]) -> Coroutine[Any, Any, FoundTools]:
    """Refuse tools by name: a runner without plugins has none."""
    raise UsageError(f"the tools {', '.join(names)} are named, and this runner has no plugins; pass functions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """What surrounds a runner; `afkcli.wiring.runner` fills it from the config and the plugins.

    Args:
        owner: says who holds a lease, for a run id.
        notify: takes one line for a person that belongs to no run's events.
        redact: takes known secrets out of a text.
        rescue: keeps a turn that could not be saved, and the contents of what is attached to it, and returns where, or
            None if it cannot; first when it begins, and again when it has ended, in place of what it kept before.
        rescue_more: adds the body of a journal record to what was kept, at the place that `rescue` returned.
        folder: the folder that threads are remembered to be used in.
        budgets: what the runs may cost together.
        look_up_price: what a model costs.
        rules: what is decided on tool calls, the first that fits.
        find_tools: looks up the tools of plugins by the names that an agent gives; `UsageError` at once where a name
            cannot be one.
    """

    owner: Callable[[str], Owner] = unknown_owner
    notify: Callable[[str], None] = lambda line: None
    redact: Callable[[str], str] = lambda text: text
    rescue: Rescue = lambda thread_id, turn, contents: None
    rescue_more: Callable[[str, JsonObject], None] = lambda where, body: None
    folder: str | None = None
    budgets: Budgets = NO_BUDGETS
    look_up_price: PriceLookup = lambda full_name, capabilities: capabilities.price
    rules: Sequence[ApprovalRule] = ()
    find_tools: Callable[[Sequence[str]], Coroutine[Any, Any, FoundTools]] = no_named_tools


class Runner:
    """Runs agents.

    Args:
        providers: the model providers by name.
        store: where threads are kept, or a function that opens it (called on the store's thread); in memory by default.
        sinks: take every event.
        config: how to behave.
        wiring: what surrounds the runner.
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
        self._providers = providers
        self._wiring = wiring or Wiring()
        self._calls = StoreThread()
        self._opened: Store | None = None
        self._store_source = MemoryStore() if store is None else store
        self._sinks = [SinkThread(sink, self._sink_left_out) for sink in sinks]
        self._runs: set[Run] = set()

    async def run(
        self,
        agent: Agent,
        *,
        user_message: str,
        thread_id: str | None = None,
        attachments: Sequence[Attachment] = (),
    ) -> AgentResult:
        """Run `agent` on a message to the end; see `run_stream`."""
        handle = await self.run_stream(agent, user_message=user_message, thread_id=thread_id, attachments=attachments)
        async with handle:
            return await handle.wait()

    def run_sync(
        self,
        agent: Agent,
        *,
        user_message: str,
        thread_id: str | None = None,
        attachments: Sequence[Attachment] = (),
    ) -> AgentResult:
        """As `run`, from code that is not asynchronous.

        Raises:
            UsageError: it is called inside a running event loop; use `run` there.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self._run_and_leave(agent, user_message, thread_id, attachments))
        raise UsageError("run_sync was called inside an event loop; use `await runner.run(...)` there")

    async def _run_and_leave(
        self, agent: Agent, user_message: str, thread_id: str | None, attachments: Sequence[Attachment]
    ) -> AgentResult:
        try:
            return await self.run(agent, user_message=user_message, thread_id=thread_id, attachments=attachments)
        finally:
            await self.leave_loop()

    async def leave_loop(self) -> None:
        """Close what belongs to the running event loop, which is about to end; the runner can go on in another."""

    async def run_stream(
        self,
        agent: Agent,
        *,
        user_message: str,
        thread_id: str | None = None,
        attachments: Sequence[Attachment] = (),
    ) -> RunHandle:
        """Start a run and return its handle.

        Args:
            agent: what runs.
            user_message: the user's message.
            thread_id: the name of the thread; a new thread, named by the run's id, if it is None.
            attachments: what goes with the message; at most 20 MB together.

        Raises:
            UsageError: the run cannot be started: the name, the model, a key, a tool, or an attachment that the model
                cannot take.
            ThreadBusyError: another run holds the thread.
        """
        return await self.start(
            lambda thread: agent, user_message=user_message, thread_id=thread_id, attachments=attachments
        )

    async def resume(self, agent: Agent, *, thread_id: str) -> AgentResult:
        """Go on with the last turn of a thread, which was cut, to the end; see `resume_stream`."""
        async with await self.resume_stream(agent, thread_id=thread_id) as handle:
            return await handle.wait()

    async def resume_stream(self, agent: Agent, *, thread_id: str) -> RunHandle:
        """Start a run that goes on with the last turn of a thread, and return its handle.

        The turn was cut: cancelled, interrupted, by a limit, or it failed. Its finished tool calls are not made again.
        One that did not finish is made again if the agent's tool is `idempotent`, or if the caller allows it now; else
        the model is told that it did not finish.

        Raises:
            UsageError: there is no such thread, its last turn was not cut, or the run cannot be started.
            StoreError: the thread cannot be read and written.
            ThreadBusyError: another run holds the thread.
        """
        return await self.start(lambda thread: agent, user_message=None, thread_id=thread_id, create=False)

    async def start(
        self,
        choose: Callable[[ThreadInfo], Agent],
        *,
        user_message: str | None,
        thread_id: str | None = None,
        create: bool = True,
        attachments: Sequence[Attachment] = (),
    ) -> RunHandle:
        """As `run_stream`, the agent chosen once the thread (its last agent and model) is known.

        Without a `user_message` it goes on with the thread's last turn, as `resume_stream` does.
        """
        if user_message is not None and not user_message.strip():
            raise UsageError("the message is empty; say what to do")
        asked = ask(clean_text(user_message), attachments) if user_message is not None else None
        run_id = uuid7()
        name = check_name(thread_id) if thread_id is not None else run_id
        opener = Opener(
            store=self.store,
            calls=self._calls,
            notify=self._wiring.notify,
            busy=self.config.busy,
            busy_timeout_s=self.config.busy_timeout_s,
        )
        opening = await opener.open(name, self._wiring.owner(run_id), create=create)
        try:
            agent = choose(opening.thread)
            run = await self._open_run(opener, opening, agent, run_id, asked)
        except BaseException:
            await opener.release(opening)
            raise
        run.post(
            RunStarted,
            agent=agent.name,
            model=run.model.full_name,
            message=run.beginning.messages[0].text,
            attachments=_attached(run.beginning.messages[0]),
            resumed=run.beginning.resumes is not None,
            parent_run_id=run.beginning.resumes,
        )
        handle = self._launch(run)
        try:
            await asyncio.sleep(0)  # its task begins: from here on an event loop that closes ends the run as it should
        except asyncio.CancelledError:
            await handle.cancel()
            raise
        return handle

    async def last_thread(self) -> ThreadInfo | None:
        """Return the thread that was last used in the runner's folder, or None."""
        threads = await self._calls.call(lambda: self.store().list(limit=1, folder=self._wiring.folder))
        return threads[0] if threads else None

    def store(self) -> Store:
        """Return the store, opened with the first call; belongs on the store's thread."""
        if self._opened is None:
            self._opened = self._store_source() if callable(self._store_source) else self._store_source
        return self._opened

    async def aclose(self) -> None:
        """Close the store and the sinks; runs that are in progress should have ended."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """As `aclose`, from code that is not asynchronous."""
        store, self._opened = self._opened, None
        if store is not None:
            self._calls.submit(store.close)
        self._calls.close()
        for sink in self._sinks:
            sink.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _open_run(self, opener: Opener, opening: Opening, agent: Agent, run_id: str, asked: Asked | None) -> Run:
        """Return the run, its question durable, its provider being prepared at the same time."""
        run = await self._assemble(opening, agent, run_id, asked)
        loop = asyncio.get_running_loop()

        def on_problem(error: Exception) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(run.on_problem, error)

        question = Question(
            run_id=run_id,
            message=asked.message if asked is not None else None,
            agent=agent.name,
            model=run.model.full_name,
            remember_model=agent.remember_model,
            folder=self._wiring.folder,
            on_problem=on_problem,
            contents=run.contents.held,
        )
        try:
            begun = await opener.begin(opening, question)
        except BaseException:
            run.prepared.cancel()
            if run.listing is not None:
                run.listing.cancel()
            raise
        run.beginning, run.writer, run.unsaved = begun.beginning, begun.writer, begun.unsaved
        run.history = sent_messages(begun.history, begun.beginning.resumes)
        run.pending_warnings += history_warnings(begun.history)
        if run.unsaved is not None:
            wiring = self._wiring
            await self._calls.call(begin_rescue, run, self._calls, wiring.rescue, wiring.rescue_more, on_problem)
        return run

    async def _assemble(self, opening: Opening, agent: Agent, run_id: str, asked: Asked | None) -> Run:
        """Return the run with all that it is made of, checked; nothing is written yet.

        Raises:
            UsageError: it cannot be: a tool, a model, an option, an attachment, a price.
        """
        thread = opening.thread
        tools = as_tools(agent.tools)
        structured = StructuredOutput(agent.output_type) if agent.output_type is not None else None
        models = self._models(agent, asked)
        spending = Spending(agent.fail_safe, Reservations(self._wiring.budgets, thread.key, self.store, self._calls))
        warnings = await spending.check_prices(models)
        warnings += unchecked_warnings(structured) if structured is not None else []
        finding = self._find_tools(agent, tools)
        return Run(
            run_id=run_id,
            thread_id=thread.name,
            thread_key=thread.key,
            turn=thread.turns + 1,
            agent=replace(agent, instructions=inspect.cleandoc(agent.instructions).strip()),
            tools=tools,
            models=models,
            limits=Limits(agent.fail_safe),
            spending=spending,
            channel=EventChannel(),
            sinks=self._sinks,
            redact=self._wiring.redact,
            beginning=Beginning(messages=()),
            contents=Contents(
                read=lambda sha256: self._calls.call(lambda: read_content(self.store(), thread.key, sha256)),
                held=dict(asked.contents) if asked is not None else {},
            ),
            structured=structured,
            prepared=started(_prepare(models[0].provider)),
            max_retries=self.config.max_retries,
            retry_delay_s=self.config.retry_delay_s,
            decider=_DECIDERS[self.config.interaction_mode],
            approval_timeout_s=self.config.approval_timeout_s,
            rules=self._wiring.rules,
            listing=started(finding) if finding is not None else None,
            count=self._count,
            pending_warnings=warnings,
        )

    def _launch(self, run: Run) -> RunHandle:
        run.work = work = started(self._work(run))
        if run.ending is not None:  # the lease was lost in the meantime
            work.cancel()
        self._runs.add(run)
        return RunHandle(
            run_id=run.run_id,
            thread_id=run.thread_id,
            channel=run.channel,
            drive=asyncio.ensure_future(self._drive(run, work)),
            stop=lambda: run.stop(CANCELLED),
            decide=run.decide,
            failure=lambda: run.exception,
        )

    async def _drive(self, run: Run, work: asyncio.Task[Outcome]) -> AgentResult:
        try:
            return await see_through(run, work, self._calls, self._wiring.rescue)
        finally:
            run.channel.close()
            self._runs.discard(run)
            await asyncio.gather(*(sink.flush() for sink in run.sinks))
            for _, line in run.pending_warnings:  # they came after the last event
                self._wiring.notify(line)

    async def _work(self, run: Run) -> Outcome:
        """The loop: call the model, run the tools that it asks for, until it answers."""
        await asyncio.wait({run.prepared})  # what failed in it fails again in the call, which may be retried
        await take_tools(run)
        if run.beginning.unfinished:
            await finish_tool_calls(run, run.beginning.unfinished)
        while True:
            run.limits.start_step()
            response = await call_model(run)
            await run.complete_step(response)
            if response.finish_reason is FinishReason.LENGTH:
                return Outcome(state=RunState.DEGRADED, reason="length")
            if response.message.tool_calls:
                await self._journal(run)
                await run_tool_calls(run, response.message.tool_calls)
            elif take_answer(run, response.message):
                return Outcome(state=RunState.COMPLETED)

    async def _journal(self, run: Run) -> None:
        """Journal the tool calls before they are made, so that no call is made again because nobody knows of it."""
        if run.journal is not None:
            await self._calls.call(run.journal.tick)

    def _find_tools(self, agent: Agent, tools: Mapping[str, Tool]) -> Coroutine[Any, Any, FoundTools] | None:
        """Return the lookup of the tools that `agent` names, beside `tools`, which it has; None if it names none."""
        names = [item for item in agent.tools if isinstance(item, str)]
        both = [name for name in tools if any(fnmatchcase(name, pattern) for pattern in names)]
        if both:
            raise UsageError(f"a function and a plugin's tool are both named {both[0]!r}; rename one")
        return self._wiring.find_tools(names) if names else None

    async def _count(self, counter: str, amount: float) -> float:
        """Add to a counter of the store."""
        return await self._calls.call(lambda: self.store().add(counter, amount))

    def _models(self, agent: Agent, asked: Asked | None) -> list[Model]:
        """Return the model of `agent` and its fallbacks, which take its options, and the first the attachments too."""
        models = [self._model(name) for name in (agent.model, *agent.fail_safe.fallback_models)]
        if asked is not None and asked.contents:
            refuse_what_the_model_cannot_take(asked.message, models[0].full_name, models[0].capabilities)
        for model in models:
            check_options(agent.options, agent.extra, model.full_name, model.capabilities)
        return models

    def _model(self, full_name: str | None) -> Model:
        """Return the model named `provider/model`, its provider loaded."""
        if full_name is None:
            raise UsageError("the agent names no model; give it one, as provider/model")
        provider_name, slash, name = full_name.partition("/")
        if not slash:
            raise UsageError(f"the model {full_name!r} names no provider; write it as provider/model")
        try:
            provider = self._providers[provider_name]
        except KeyError:
            known = ", ".join(sorted(self._providers)) or "none"
            raise UnknownNameError(f"there is no provider {provider_name!r} (installed: {known})") from None
        name = name or provider.default_model or ""
        if not name:
            raise UsageError(f"the provider {provider_name!r} has no default model; name one as {provider_name}/MODEL")
        return Model(
            provider=provider,
            name=name,
            capabilities=provider.capabilities(name),
            look_up_price=self._wiring.look_up_price,
        )

    def _sink_left_out(self, line: str) -> None:
        """Say once that a sink is left out: in the runs that are in progress, or else to the person."""
        for run in tuple(self._runs):
            run.pending_warnings.append(("sink_left_out", line))
        if not self._runs:
            self._wiring.notify(line)


def _attached(question: Message) -> tuple[Attached, ...]:
    """Return what `run_started` tells of the attachments of a message."""
    return tuple(
        Attached(name=part.name, media_type=part.media_type, size=part.size, sha256=part.sha256)
        for part in attached_parts([question])
    )


async def _prepare(provider: Provider) -> None:
    with contained(f"the provider {provider.name!r}"):
        await provider.prepare()
