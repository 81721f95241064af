"""The end of a run: how it ended, the seal of its turn, and the last event."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from afkcli.core.contract.errors import (
    HISTORY_REFUSED,
    MAX_ERROR_CHARS,
    ErrorKind,
    HistoryRefusedError,
    LeaseLostError,
    LimitReachedError,
    ProviderError,
)
from afkcli.core.contract.events import Completed, ErrorEvent
from afkcli.core.contract.ids import rfc3339
from afkcli.core.contract.jsonform import clean_text
from afkcli.core.contract.memory import give_back_memory
from afkcli.core.contract.messages import Role
from afkcli.core.contract.result import AgentResult, RunState
from afkcli.core.contract.structs import replace
from afkcli.core.contract.text import collapsed, error_line
from afkcli.core.run.config import Rescue, RescueMore
from afkcli.core.run.cost import Spending
from afkcli.core.run.outlet import Outlet
from afkcli.core.run.run import Run
from afkcli.core.run.stopping import CANCELLED, Outcome, Stopping
from afkcli.core.thread.batch import Steps
from afkcli.core.thread.store_worker import StoreCalls
from afkcli.core.thread.turns import SealedTurn
from afkcli.core.thread.writer import RescueWriter, TurnWriter


async def see_through(
    run: Run,
    work: asyncio.Task[Outcome],
    calls: StoreCalls,
    rescue: Rescue,
    last_warnings: Callable[[], Sequence[tuple[str, str]]] = tuple,
) -> AgentResult:
    """Wait for the end of the run's work, however it ends, then emit the error, seal the turn and emit `completed`."""
    await _end_of_work(work, run.stopping, run.spec.agent.fail_safe.max_wall_time_s)
    run.preparing.cancel()
    outcome = _outcome_of(work, run.stopping, run.models.current.full_name, run.outlet.redact)
    if run.tape is not None:
        run.tape.end(outcome)
    run.outlet.post_pending()
    if outcome.error is not None and outcome.error_kind is not None:
        run.outlet.post(ErrorEvent, error=outcome.error, kind=outcome.error_kind)
    run.tally.cost_usd = await _cost_of(run.spending, run.outlet)
    outcome, saved = await _seal(run, outcome, calls, rescue)
    run.outlet.pending_warnings += last_warnings()
    run.outlet.post_pending()
    result = _result(run, outcome, saved)
    run.outlet.post(Completed, result=result)
    return result if run.output is None else replace(result, output=run.output.value)


async def _end_of_work(work: asyncio.Task[Outcome], stopping: Stopping, max_wall_time_s: float | None) -> None:
    """Wait for the work until its time limit; work that was stopped and does not end is abandoned."""
    loop = asyncio.get_running_loop()
    out_of_time = Outcome(state=RunState.DEGRADED, reason="max_wall_time_s")
    timer = loop.call_later(max_wall_time_s, stopping.stop, out_of_time) if max_wall_time_s is not None else None
    stopping.deadline = timer.when() if timer is not None else None
    ends: set[asyncio.Future[Any]] = {work, stopping.given_up}
    while not (work.done() or stopping.given_up.done()):
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # the event loop is closing, and has cancelled the work as well
            stopping.stop(CANCELLED)
            stopping.ending = stopping.ending or CANCELLED
    if timer is not None:
        timer.cancel()


def _outcome_of(work: asyncio.Task[Outcome], stopping: Stopping, model: str, redact: Callable[[str], str]) -> Outcome:
    """Return how the run ended, by the table of states; its exception is kept for `--debug`."""
    ended_by_itself = work.done() and not work.cancelled()
    error = work.exception() if ended_by_itself else None
    if ended_by_itself and error is None:
        return work.result()
    if stopping.ending is not None:
        return stopping.ending
    if isinstance(error, LimitReachedError):
        traceback.clear_frames(error.__traceback__)  # they hold the piece that was too large
        return Outcome(state=RunState.DEGRADED, reason=error.limit)
    stopping.exception = error
    kind = error.kind if isinstance(error, ProviderError) else ErrorKind.INTERNAL
    said = collapsed(str(error)[:MAX_ERROR_CHARS]) if error is not None else f"{model} cancelled its own call"
    reason = HISTORY_REFUSED if isinstance(error, HistoryRefusedError) else kind
    return Outcome(
        state=RunState.FAILED, reason=reason, error=error_line(said or type(error).__name__, redact), error_kind=kind
    )


async def _cost_of(spending: Spending, outlet: Outlet) -> float | None:
    """Return the cost of the run, or None if it is unknown. The seal follows, so no plugin may make this fail."""
    try:
        return await spending.total_usd()
    except Exception as error:  # prices and usage come from plugins
        outlet.warn("cost_unknown", f"could not compute the cost of this run: {type(error).__name__}: {error}")
        return None


async def _seal(run: Run, outcome: Outcome, calls: StoreCalls, rescue: Rescue) -> tuple[Outcome, bool]:
    """Seal the run's turn, or rescue it and warn; return how the run ended and whether the turn is saved."""
    turn = _turn(run, outcome)
    transcript = run.transcript
    reason = transcript.unsaved
    if transcript.size.is_large:
        give_back_memory()
    if transcript.writer is not None:
        try:
            await calls.finish_steps(_seal_on_store, calls, transcript.writer, turn)
        except Exception as error:  # the store is a plugin
            reason = str(error) or type(error).__name__
            if isinstance(error, LeaseLostError):
                outcome = Outcome(state=RunState.INTERRUPTED, reason=reason)
        else:
            return outcome, True
    contents = run.contents.of(turn.messages)
    save = partial(rescue, run.spec.thread_id, turn, contents)
    try:
        where = await calls.finish(_rescue_on_store, calls, transcript.rescuer, save)
    except Exception:  # this is the last resort; the first error is the one that is reported
        where = None
    kept = f"it is kept in {where}" if where else "it could not be kept anywhere else"
    run.outlet.warn("not_saved", f"this turn is not saved in the thread: {reason}; {kept}")
    return outcome, False


def begin_rescue(
    run: Run, calls: StoreCalls, rescue: Rescue, more: RescueMore, on_problem: Callable[[Exception], None]
) -> None:
    """Keep the question of a turn that its store cannot take, before the model is asked; called on the store's worker.

    What is streamed from then on is journaled at the same place.
    """
    try:
        turn = _turn(run, Outcome(state=RunState.INTERRUPTED))
        where = rescue(run.spec.thread_id, turn, run.contents.of(turn.messages))
    except Exception:  # it is tried again at the end, and reported there
        where = None
    if where is not None:
        rescuer = run.transcript.rescuer = RescueWriter(partial(more, where), on_problem)
        calls.watch(rescuer)
        reason = run.transcript.unsaved
        line = f"this turn cannot be saved in the thread: {reason}; until it ends it is kept in {where}"
        run.outlet.pending_warnings.append(("not_saved", line))


def _rescue_on_store(calls: StoreCalls, rescuer: RescueWriter | None, save: Callable[[], str | None]) -> str | None:
    if rescuer is not None:
        calls.unwatch(rescuer)
    return save()


def _turn(run: Run, outcome: Outcome) -> SealedTurn:
    """Return the run's turn as it is now."""
    spec, resumes = run.spec, run.transcript.beginning.resumes
    return SealedTurn(
        turn=spec.turn,
        run_id=spec.run_id,
        state=outcome.state,
        reason=outcome.reason,
        error=outcome.error,
        error_kind=outcome.error_kind,
        agent=spec.agent.name,
        model=run.models.current.full_name,
        started=rfc3339(spec.started),
        sealed=rfc3339(run.outlet.clock.now()),
        messages=run.transcript.messages(),
        usage=run.tally.usage,
        cost_usd=run.tally.turn_usd,
        steps=run.outlet.step,
        parent_run_id=resumes,
        resumed=resumes is not None,
        context=run.context.at_the_end(),
    )


def _seal_on_store(calls: StoreCalls, writer: TurnWriter, turn: SealedTurn) -> Steps[None]:
    calls.unwatch(writer)
    yield from writer.seal(turn)


def _result(run: Run, outcome: Outcome, saved: bool) -> AgentResult:
    answers = [message for message in run.transcript.own_messages() if message.role is Role.ASSISTANT]
    return AgentResult(
        final_text=clean_text(answers[-1].text) if answers else "",
        state=outcome.state,
        reason=outcome.reason,
        run_id=run.spec.run_id,
        thread_id=run.spec.thread_id,
        usage=run.tally.usage + run.tally.compaction_usage,
        total_cost_usd=run.tally.cost_usd,
        steps=run.outlet.step,
        tool_executions=tuple(run.tally.executions),
        denied=run.tally.denied,
        model=run.models.current.full_name,
        error=outcome.error,
        error_kind=outcome.error_kind,
        saved=saved,
        output=run.output.json if run.output is not None else None,
    )
