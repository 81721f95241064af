"""Assembling a run: everything that is checked and written before its loop starts."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from afkcli.core.contract.agent import Agent
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.protocols import KEPT_KINDS, Provider, Record, Store, ThreadInfo
from afkcli.core.contract.rules import Decider
from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.contract.tasks import contained, started
from afkcli.core.contract.tools import FoundTools, Tools, as_tools
from afkcli.core.contract.waits import waiting_for
from afkcli.core.run.approvals import Approvals
from afkcli.core.run.budgets import Reservations
from afkcli.core.run.closing import begin_rescue
from afkcli.core.run.config import InteractionMode, RunnerConfig, Wiring
from afkcli.core.run.context import Context
from afkcli.core.run.cost import Spending
from afkcli.core.run.handle import EventChannel
from afkcli.core.run.imports import Imports
from afkcli.core.run.limits import Limits
from afkcli.core.run.model_call import ModelCalls
from afkcli.core.run.models import Model, Models, Prices, WindowLookup, resolve_models, resolve_summary_model
from afkcli.core.run.native import Native
from afkcli.core.run.opening import Begun, Opener, Opening, Replaces
from afkcli.core.run.outlet import Outlet
from afkcli.core.run.run import Run, take_problem
from afkcli.core.run.sink_worker import SinkWorker
from afkcli.core.run.spec import RunSpec
from afkcli.core.run.stopping import Stopping
from afkcli.core.run.tally import Tally
from afkcli.core.run.thread_rules import ThreadRules
from afkcli.core.run.tool_calls import ToolCalls
from afkcli.core.run.tool_reports import start_listing
from afkcli.core.run.transcript import Transcript
from afkcli.core.run.turn_size import TurnSize
from afkcli.core.thread.attachments import Asked, refuse_what_the_model_cannot_take
from afkcli.core.thread.contents import Contents, read_content
from afkcli.core.thread.sending import history_warnings, sent_turns
from afkcli.core.thread.store_worker import StoreCalls, StoreWorker

if TYPE_CHECKING:
    from afkcli.core.run.answer import StructuredOutput
    from afkcli.core.run.tape import Tape

_DECIDERS: Mapping[InteractionMode, Decider] = {"headless": "headless", "interactive": "user", "external": "caller"}


class Resources(FrozenStruct, kw_only=True):
    """What all runs of a runner share.

    Args:
        providers: the model providers by name.
        store: returns the store; called on its worker.
        store_worker: makes all calls to the store.
        sinks: get every event.
        config: how the runner behaves.
        wiring: what surrounds the runner.
        prices: the prices of the models.
    """

    providers: Mapping[str, Provider]
    store: Callable[[], Store]
    store_worker: StoreWorker
    sinks: Sequence[SinkWorker]
    config: RunnerConfig
    wiring: Wiring
    prices: Prices

    async def count(self, counter: str, amount: float) -> float:
        """Add `amount` to a counter of the store and return its new value."""
        return await self.store_worker.call(lambda: self.store().add(counter, amount))


class _Plan(FrozenStruct, kw_only=True):
    """A run that was checked. Nothing is written yet."""

    spec: RunSpec
    tools: Tools
    finding: Coroutine[Any, Any, FoundTools] | None
    models: Models
    summary_model: Model | None
    output: StructuredOutput | None
    spending: Spending
    contents: Contents
    look_up_window: WindowLookup
    warnings: list[tuple[str, str]]


async def assemble(
    resources: Resources,
    opener: Opener,
    opening: Opening,
    agent: Agent,
    run_id: str,
    asked: Asked | None,
    replaces: Replaces | None = None,
) -> Run:
    """Return a run that is ready to start: it is checked, its question is durable, its provider is being prepared.

    Args:
        resources: what all runs of the runner share.
        opener: opens the turn.
        opening: the thread, ready for a turn.
        agent: the agent that runs.
        run_id: the id of the run.
        asked: the user's message; None if the run resumes the last turn of the thread, or asks its question again.
        replaces: the turn whose question is asked again.

    Raises:
        UsageError: the run cannot start: a tool, a model, an option, an attachment or a price.
        LeaseLostError: another run took the thread.
    """
    tape = resources.wiring.tape() if resources.wiring.tape is not None else None
    plan = await _check(resources, opening.thread, agent, run_id, asked, tape)
    stopping = Stopping()
    outlet = Outlet(
        spec=plan.spec,
        channel=EventChannel(),
        sinks=resources.sinks,
        redact=resources.wiring.redact,
        stopping=stopping,
        pending_warnings=[*opener.waited, *plan.warnings],
    )
    imports = Imports(lambda line: _say_waiting(line, outlet, resources.wiring.notify))
    resources.store_worker.listen(plan.spec.thread_key, imports)
    listing = start_listing(outlet, imports.run(plan.finding)) if plan.finding is not None else None
    preparing = started(imports.run(_prepare(plan.models.current.provider)))
    on_problem = _threadsafe(lambda error: take_problem(error, stopping, outlet))
    try:
        begun = await opener.begin(opening, plan.spec, plan.models.current.full_name, asked, replaces, on_problem)
    except BaseException:
        preparing.cancel()
        if listing is not None:
            listing.cancel()
        resources.store_worker.unlisten(plan.spec.thread_key)
        raise
    imports.begin()
    outlet.pending_warnings += history_warnings(begun.history)
    calls = resources.store_worker.of(plan.spec.thread_key)
    run = _compose(plan, begun, stopping, outlet, preparing, listing, resources.count, calls, tape)
    if tape is not None:
        records = await _history_for(tape, resources, begun, opening.thread)
        tape.begin(run.spec, run.models.current.full_name, records, outlet, stopping)
    if begun.unsaved is not None:
        wiring = resources.wiring
        await calls.call(begin_rescue, run, calls, wiring.rescue, wiring.rescue_more, on_problem)
    return run


async def _check(
    resources: Resources, thread: ThreadInfo, agent: Agent, run_id: str, asked: Asked | None, tape: Tape | None
) -> _Plan:
    config, wiring, providers, find_tools = resources.config, resources.wiring, resources.providers, None
    if tape is not None:
        agent, providers, find_tools = tape.agent(agent), tape.providers(providers), tape.find_tools(wiring.find_tools)
    spec = RunSpec(
        run_id=run_id,
        thread_id=thread.name,
        thread_key=thread.key,
        turn=thread.turns + 1,
        agent=dataclasses.replace(agent, instructions=inspect.cleandoc(agent.instructions).strip()),
        rules=wiring.rules,
        decider=_DECIDERS[config.interaction_mode],
        approval_timeout_s=config.approval_timeout_s,
        max_retries=config.max_retries,
        retry_delay_s=config.retry_delay_s,
    )
    tools = as_tools(agent.tools)
    output, unchecked = _output_of(agent)
    models = resolve_models(agent, providers, resources.prices)
    if asked is not None and asked.contents:
        refuse_what_the_model_cannot_take(asked.message, models[0].full_name, models[0].capabilities)
    calls = resources.store_worker.of(thread.key)
    budgets = Reservations(wiring.budgets, thread.key, resources.store, calls)
    spending = Spending(agent.fail_safe, budgets)
    summary_model = resolve_summary_model(agent, providers, resources.prices)
    warnings = await spending.check_prices(models if summary_model is None else [*models, summary_model])
    warnings += unchecked
    contents = Contents(
        read=lambda sha256: calls.call(lambda: read_content(resources.store(), thread.key, sha256)),
        held=dict(asked.contents) if asked is not None else {},
    )
    return _Plan(
        spec=spec,
        tools=tools,
        finding=_find_tools(find_tools or wiring.find_tools, agent, tools),
        models=Models(models),
        summary_model=summary_model,
        output=output,
        spending=spending,
        contents=contents,
        look_up_window=wiring.look_up_window,
        warnings=warnings,
    )


def _output_of(agent: Agent) -> tuple[StructuredOutput | None, list[tuple[str, str]]]:
    """Return what the answer of `agent` must be, and the warnings about what of it cannot be checked."""
    if agent.output_type is None:
        return None, []
    from afkcli.core.run.answer import StructuredOutput, unchecked_warnings

    output = StructuredOutput(agent.output_type)
    return output, unchecked_warnings(output)


def _find_tools(
    find: Callable[[Sequence[str]], Coroutine[Any, Any, FoundTools]], agent: Agent, own: Tools
) -> Coroutine[Any, Any, FoundTools] | None:
    """Return the lookup of the tools that `agent` names; None if it names none."""
    names = [item for item in agent.tools if isinstance(item, str)]
    both = [name for name in own if any(fnmatchcase(name, pattern) for pattern in names)]
    if both:
        raise UsageError(f"a function and a plugin's tool are both named {both[0]!r}; rename one")
    return find(names) if names else None


def _compose(
    plan: _Plan,
    begun: Begun,
    stopping: Stopping,
    outlet: Outlet,
    preparing: asyncio.Task[None],
    listing: asyncio.Task[FoundTools] | None,
    count: Callable[[str, float], Coroutine[Any, Any, float]],
    calls: StoreCalls,
    tape: Tape | None,
) -> Run:
    spec, models, tally, limits = plan.spec, plan.models, Tally(), Limits(plan.spec.agent.fail_safe)
    sent = sent_turns(begun.history, begun.beginning.resumes)
    transcript = Transcript(
        instructions=spec.agent.instructions,
        history=[turn for turn in sent if turn.compaction is None or turn.is_native],
        compaction=begun.history.compaction,
        seen=[turn.turn for turn in begun.history.seen],
        beginning=begun.beginning,
        size=TurnSize(spec.agent.fail_safe.max_turn_mb),
        writer=begun.writer,
        unsaved=begun.unsaved,
    )
    pause = asyncio.sleep if tape is None else tape.pause
    approvals = Approvals(
        spec, outlet, tally, ThreadRules(spec.thread_key, begun.history.changes, count, begun.writer, calls)
    )
    context = Context(
        spec=spec,
        transcript=transcript,
        outlet=outlet,
        look_up_window=plan.look_up_window,
        native=Native(outlet=outlet),
    )
    if spec.agent.context.policy in ("compact", "native"):
        from afkcli.core.run.compacting import Compactor  # not at the top: few runs make summaries

        context.compactor = Compactor(
            spec=spec,
            transcript=transcript,
            outlet=outlet,
            stopping=stopping,
            tally=tally,
            limits=limits,
            spending=plan.spending,
            look_up_window=plan.look_up_window,
            calls=calls,
            model=plan.summary_model,
            pause=pause,
        )
    model_calls = ModelCalls(
        spec=spec,
        models=models,
        transcript=transcript,
        outlet=outlet,
        stopping=stopping,
        tally=tally,
        limits=limits,
        spending=plan.spending,
        contents=plan.contents,
        output=plan.output,
        context=context,
        pause=pause,
    )
    tool_calls = ToolCalls(
        spec=spec,
        transcript=transcript,
        outlet=outlet,
        tally=tally,
        limits=limits,
        approvals=approvals,
        contents=plan.contents,
        took=tape.took if tape is not None else None,
    )
    if tape is not None:
        outlet.watch, tool_calls = tape.saw, tape.tool_calls(tool_calls)
    return Run(
        spec=spec,
        models=models,
        transcript=transcript,
        contents=plan.contents,
        context=context,
        outlet=outlet,
        stopping=stopping,
        tally=tally,
        limits=limits,
        spending=plan.spending,
        output=plan.output,
        approvals=approvals,
        model_calls=model_calls,
        tool_calls=tool_calls,
        own_tools=plan.tools,
        listing=listing,
        preparing=preparing,
        tape=tape,
    )


async def _history_for(tape: Tape, resources: Resources, begun: Begun, thread: ThreadInfo) -> Sequence[Record]:
    """Return the records of the earlier turns for a tape that keeps them; none where they cannot be read."""
    if not tape.keeps_history or begun.writer is None:
        return ()
    records: Sequence[Record] = ()
    with contextlib.suppress(Exception):  # the store is a plugin, and the run has begun
        records = await resources.store_worker.of(thread.key).call(lambda: resources.store().load(thread.key))
    turn = begun.writer.turn
    return [record for record in records if record.kind in KEPT_KINDS and record.turn < turn]


def _say_waiting(line: str, outlet: Outlet, notify: Callable[[str], None]) -> None:
    """Say that the store waits for another process: to the reader, or to a person if there are no events yet."""
    if not outlet.began:
        notify(line)
    outlet.warn_soon("store_locked", line)


def _threadsafe(take: Callable[[Exception], None]) -> Callable[[Exception], None]:
    """Return a function that calls `take` in the running event loop, from any thread."""
    loop = asyncio.get_running_loop()

    def call(error: Exception) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the run with it
            loop.call_soon_threadsafe(take, error)

    return call


async def _prepare(provider: Provider) -> None:
    with contained(f"the provider {provider.name!r}"), waiting_for(f"the provider {provider.name!r} to load"):
        await provider.prepare()
