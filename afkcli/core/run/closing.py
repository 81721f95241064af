"""What stands after a run's work: how it ended, the seal, and the last event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from afkcli.core.contract.errors import ErrorKind, LeaseLostError, LimitReachedError, ProviderError
from afkcli.core.contract.events import Completed, ErrorEvent
from afkcli.core.contract.ids import rfc3339
from afkcli.core.contract.jsonform import JsonObject, clean_text
from afkcli.core.contract.messages import Role
from afkcli.core.contract.result import AgentResult, RunState
from afkcli.core.run.run import CANCELLED, Outcome, Run
from afkcli.core.thread.store_worker import StoreThread
from afkcli.core.thread.turns import SealedTurn
from afkcli.core.thread.writer import RescueWriter, TurnWriter

Rescue = Callable[[str, SealedTurn, Mapping[str, bytes]], str | None]
RescueMore = Callable[[str, JsonObject], None]


async def see_through(run: Run, work: asyncio.Task[Outcome], calls: StoreThread, rescue: Rescue) -> AgentResult:
    """See a run through: its work, however that ends, then the error, the seal, `completed`."""
    await _end_of_work(run, work)
    outcome = _outcome_of(run, work)
    run.post_pending()
    if outcome.error is not None and outcome.error_kind is not None:
        run.post(ErrorEvent, error=outcome.error, kind=outcome.error_kind)
    run.cost_usd = await _cost_of(run)
    outcome, saved = await _seal(run, outcome, calls, rescue)
    run.post_pending()
    result = _result(run, outcome, saved)
    run.post(Completed, result=result)
    return result if run.structured is None else replace(result, output=run.structured.value)


async def _end_of_work(run: Run, work: asyncio.Task[Outcome]) -> None:
    """Wait for the work, by the run's limit of time; work that was stopped and does not end is left behind."""
    loop = asyncio.get_running_loop()
    seconds = run.agent.fail_safe.max_wall_time_s
    out_of_time = Outcome(state=RunState.DEGRADED, reason="max_wall_time_s")
    timer = loop.call_later(seconds, run.stop, out_of_time) if seconds is not None else None
    run.deadline = timer.when() if timer is not None else None
    ends: set[asyncio.Future[Any]] = {work, run.given_up}
    while not (work.done() or run.given_up.done()):
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:  # the event loop is closing, and has cancelled the work as well
            run.stop(CANCELLED)
            run.ending = run.ending or CANCELLED
    run.prepared.cancel()
    if timer is not None:
        timer.cancel()


def _outcome_of(run: Run, work: asyncio.Task[Outcome]) -> Outcome:
    """Return how the run ended, by the table of states; the exception is kept for `--debug`."""
    ended_by_itself = work.done() and not work.cancelled()
    error = work.exception() if ended_by_itself else None
    if ended_by_itself and error is None:
        return work.result()
    if run.ending is not None:
        return run.ending
    if isinstance(error, LimitReachedError):
        return Outcome(state=RunState.DEGRADED, reason=error.limit)
    run.exception = error
    kind = error.kind if isinstance(error, ProviderError) else ErrorKind.INTERNAL
    said = " ".join(str(error).split()) if error is not None else f"{run.model.full_name} cancelled its own call"
    return Outcome(state=RunState.FAILED, reason=kind, error=run.redact(said or type(error).__name__), error_kind=kind)


async def _cost_of(run: Run) -> float | None:
    """Return what the run cost, None where nobody can tell: the seal waits for it, so no plugin may make it fail."""
    try:
        return await run.spending.total_usd()
    except Exception as error:  # a price, or a usage, may be of anybody's plugin
        run.warn("cost_unknown", f"what this run cost cannot be told: {type(error).__name__}: {error}")
        return None


async def _seal(run: Run, outcome: Outcome, calls: StoreThread, rescue: Rescue) -> tuple[Outcome, bool]:
    """Seal the run's turn, or have it rescued and say so; return how the run ended and whether it is saved."""
    turn = _turn(run, outcome)
    reason = run.unsaved
    if run.writer is not None:
        try:
            await calls.finish(_seal_on_store, calls, run.writer, turn)
        except Exception as error:  # a store may be anybody's plugin
            reason = str(error) or type(error).__name__
            if isinstance(error, LeaseLostError):
                outcome = Outcome(state=RunState.INTERRUPTED, reason=reason)
        else:
            return outcome, True
    try:
        where = await calls.finish(_rescue_on_store, calls, run, rescue, turn)
    except Exception:  # it is the last resort; what failed before is what is said
        where = None
    kept = f"it is kept in {where}" if where else "it could not be kept anywhere else either"
    run.warn("not_saved", f"this turn is not saved in the thread: {reason}; {kept}")
    return outcome, False


def begin_rescue(
    run: Run, calls: StoreThread, rescue: Rescue, more: RescueMore, on_problem: Callable[[Exception], None]
) -> None:
    """Keep the question of a turn that its store cannot take, before the model is asked, and say so; on its thread.

    What is said from then on is journaled there, as it would be in the thread.
    """
    try:
        turn = _turn(run, Outcome(state=RunState.INTERRUPTED))
        where = rescue(run.thread_id, turn, run.contents.of(turn.messages))
    except Exception:  # it is tried again at the end, where it is said
        where = None
    if where is not None:
        run.rescuer = RescueWriter(partial(more, where), on_problem)
        calls.watch(run.rescuer)
        line = f"this turn cannot be saved in the thread: {run.unsaved}; until it ends it is kept in {where}"
        run.pending_warnings.append(("not_saved", line))


def _rescue_on_store(calls: StoreThread, run: Run, rescue: Rescue, turn: SealedTurn) -> str | None:
    if run.rescuer is not None:
        calls.unwatch(run.rescuer)
    return rescue(run.thread_id, turn, run.contents.of(turn.messages))


def _turn(run: Run, outcome: Outcome) -> SealedTurn:
    """Return the run's turn as it is now."""
    return SealedTurn(
        turn=run.turn,
        run_id=run.run_id,
        state=outcome.state,
        reason=outcome.reason,
        error=outcome.error,
        error_kind=outcome.error_kind,
        agent=run.agent.name,
        model=run.model.full_name,
        started=rfc3339(run.started),
        sealed=rfc3339(run.clock.now()),
        messages=run.messages(),
        usage=run.usage,
        cost_usd=run.cost_usd,
        steps=run.step,
        parent_run_id=run.beginning.resumes,
        resumed=run.beginning.resumes is not None,
    )


def _seal_on_store(calls: StoreThread, writer: TurnWriter, turn: SealedTurn) -> None:
    calls.unwatch(writer)
    try:
        writer.seal(turn)
    finally:
        writer.release()


def _result(run: Run, outcome: Outcome, saved: bool) -> AgentResult:
    answers = [message for message in run.own_messages() if message.role is Role.ASSISTANT]
    return AgentResult(
        final_text=clean_text(answers[-1].text) if answers else "",
        state=outcome.state,
        reason=outcome.reason,
        run_id=run.run_id,
        thread_id=run.thread_id,
        usage=run.usage,
        total_cost_usd=run.cost_usd,
        steps=run.step,
        tool_executions=tuple(run.executions),
        denied=run.denied,
        model=run.model.full_name,
        error=outcome.error,
        error_kind=outcome.error_kind,
        saved=saved,
        output=run.structured.json if run.structured is not None else None,
    )
