"""Compacts a thread because its user asks for it, without a run: a model is asked for a summary of its turns."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

from afkcli.core.contract.agent import Agent
from afkcli.core.contract.errors import LimitReachedError, StoreError, UsageError
from afkcli.core.contract.ids import rfc3339, uuid7
from afkcli.core.contract.protocols import ThreadInfo
from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.contract.tasks import of_thread, seen_through
from afkcli.core.contract.text import dollars, error_text
from afkcli.core.run.assemble import Resources
from afkcli.core.run.budgets import Reservations
from afkcli.core.run.compacting import window_of
from afkcli.core.run.cost import Spending
from afkcli.core.run.limits import Limits
from afkcli.core.run.models import Model, resolve_model
from afkcli.core.run.native_compaction import NativeCompactor
from afkcli.core.run.summariser import INSTRUCTIONS, MOST_SUMMARY_TOKENS, Summariser, SummaryError, summary_tokens
from afkcli.core.thread.changes import Compaction, spans
from afkcli.core.thread.history import History, load_history
from afkcli.core.thread.names import check_name
from afkcli.core.thread.operations import lease_of, seal_interrupted
from afkcli.core.thread.sending import SentTurn, sent_turns, turns_to_send
from afkcli.core.thread.set_aside import asked_last
from afkcli.core.thread.store_worker import StoreCalls
from afkcli.core.thread.writer import TurnWriter

KEPT_TURNS = 1
"""The last turn stays whole: it can be undone, asked again and resumed, and the next question can be about it."""


class Compacted(FrozenStruct, kw_only=True):
    """A thread after it was compacted: its metadata, and what is sent in place of its turns from now on. Since: 0.2."""

    thread: ThreadInfo
    compaction: Compaction


class _Held(FrozenStruct, kw_only=True):
    """A thread that is held: its writer, which renews the lease, and what the next turn would send of it."""

    writer: TurnWriter
    history: History
    sent: Sequence[SentTurn]


async def compact_thread(
    resources: Resources, thread_id: str, choose: Callable[[ThreadInfo], Agent], keep_turns: int = KEPT_TURNS
) -> Compacted:
    """Have a summary take the place of the turns of a thread in what is sent.

    Args:
        resources: what all runs of the runner share.
        thread_id: the name of the thread.
        choose: returns the agent whose model is asked, and whose limits count.
        keep_turns: how many of the last questions stay whole, with their answers.

    Raises:
        UsageError: there is no such thread, or nothing to be summarised; or the model is not known.
        ThreadBusyError: a run holds the thread.
        SummaryError: no summary was made.
        LeaseLostError: another run took the thread meanwhile.
        StoreError: the store failed.
    """
    if keep_turns < 0:
        raise UsageError(f"the number of turns to keep must be 0 or more (got {keep_turns})")
    run_id = uuid7()
    calls = resources.store_worker.of(run_id)
    held = await calls.call(_hold, resources, calls, check_name(thread_id), run_id)
    try:
        turns = _to_be_summarised(held, keep_turns)
        agent = choose(held.writer.thread)
        made = await _summary(resources, calls, agent, held, turns)
        await calls.finish(held.writer.compact, made)
        return Compacted(thread=held.writer.thread, compaction=made)
    finally:
        await seen_through(of_thread(calls.submit(_let_go, calls, held.writer)))


def _hold(resources: Resources, calls: StoreCalls, name: str, run_id: str) -> _Held:
    """Take the lease of a thread and read it; on the store's worker, which renews the lease from now on."""
    store = resources.store()
    lease = lease_of(store, name, resources.wiring.owner(run_id))
    try:
        history = load_history(store, lease.thread, turns_to_send)
        lease, history = seal_interrupted(store, lease, history)
    except BaseException:
        with contextlib.suppress(StoreError):
            store.release(lease)
        raise
    # That the lease was lost is said when the summary is recorded.
    writer = TurnWriter(store, lease, run_id, lambda error: None)
    calls.watch(writer)
    return _Held(writer=writer, history=history, sent=sent_turns(history))


def _let_go(calls: StoreCalls, writer: TurnWriter) -> None:
    calls.unwatch(writer)
    with contextlib.suppress(StoreError):
        writer.store.release(writer.lease)


def _to_be_summarised(held: _Held, keep_turns: int) -> list[SentTurn]:
    """Return what is sent of the turns that the summary takes the place of.

    Raises:
        UsageError: there are none but those that are in a summary already.
    """
    thread, seen = held.writer.thread, list(held.history.seen)
    for _ in range(keep_turns):
        del seen[len(seen) - len(asked_last(seen)) :]
    through = seen[-1].turn if seen else 0
    turns = [turn for turn in held.sent if turn.turn <= through]
    if not any(turn.compaction is None and turn.messages for turn in turns):
        already = held.history.compaction
        if already is not None:
            raise UsageError(
                f"there is nothing more to summarise: a summary is sent in place of the turns of {thread.name!r} up to "
                f"{already.through}, and the last ones are kept"
            )
        kept = "the last turn is kept" if keep_turns == 1 else f"the last {keep_turns} turns are kept"
        raise UsageError(f"there is nothing to summarise in the thread {thread.name!r}: {kept}")
    return turns


async def _summary(
    resources: Resources, calls: StoreCalls, agent: Agent, held: _Held, turns: Sequence[SentTurn]
) -> Compaction:
    thread = held.writer.thread
    model = _model(resources, agent)
    budgets = Reservations(resources.wiring.budgets, thread.key, resources.store, calls)
    spending = Spending(agent.fail_safe, budgets)
    for _, line in await spending.check_prices([model]):
        resources.wiring.notify(line)
    seconds = agent.fail_safe.max_wall_time_s
    if agent.context.policy == "native" and agent.context.model in (None, agent.model):
        native = NativeCompactor(
            model=model, spending=spending, limits=Limits(agent.fail_safe), notify=resources.wiring.notify
        )
        async with _limited(seconds):
            compacted = await native.compact(agent, turns, [turn.turn for turn in held.history.seen])
        if compacted is not None:
            return compacted
    window = await window_of(resources.wiring.look_up_window, model)
    config = resources.config
    summariser = Summariser(
        model=model,
        spending=spending,
        limits=Limits(agent.fail_safe),
        instructions=agent.context.instructions or INSTRUCTIONS,
        window=window,
        spare_calls=0,
        retries=config.max_retries > 0,
        retry_delay_s=config.retry_delay_s,
    )
    before = held.history.compaction
    new = [turn for turn in turns if turn.compaction is None]
    tokens = summary_tokens(window) if window is not None else MOST_SUMMARY_TOKENS
    try:
        async with _limited(seconds):
            text = await summariser.summarise(before.summary if before is not None else "", new, tokens)
    except SummaryError as error:
        said = f"the thread {thread.name!r} could not be summarised, and stays as it is: {error_text(error)}"
        failed = SummaryError(f"{said}{_paid(summariser)}")
        failed.exit_code = error.exit_code
        raise failed from error
    system = next((turn.system for turn in reversed(turns) if turn.system), "")
    return Compaction(
        id=uuid7(),
        covers=spans(turn.turn for turn in held.history.seen if turn.turn <= new[-1].turn),
        summary=text,
        model=model.full_name,
        agent=agent.name,
        started=summariser.started,
        ended=rfc3339(time.time()),
        usage=summariser.usage,
        cost_usd=summariser.cost_usd,
        system=system,
    )


def _paid(summariser: Summariser) -> str:
    """Return in words what a summary that failed took: no record has it."""
    usage, cost = summariser.usage, summariser.cost_usd
    if not usage.total_tokens:
        return ""
    paid = f", {dollars(cost)}" if cost is not None else ""
    return f" (it took {usage.input_tokens:,} + {usage.output_tokens:,} tokens{paid})"


@contextlib.asynccontextmanager
async def _limited(seconds: float | None) -> AsyncIterator[None]:
    """Raise `LimitReachedError` if the block takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise LimitReachedError(f"the limit max_wall_time_s={seconds:g} was reached", limit="max_wall_time_s") from None


def _model(resources: Resources, agent: Agent) -> Model:
    """Return the model that is asked: that of the agent's context, else the agent's own."""
    return resolve_model(agent.context.model or agent.model, resources.providers, resources.prices)
