"""What stands after a run's work: how it ended, and the seal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from afkcli.core.errors import ErrorKind, LimitReachedError, ProviderError
from afkcli.core.ids import rfc3339
from afkcli.core.result import AgentResult, RunState
from afkcli.core.run import Outcome, Run
from afkcli.core.store_thread import StoreThread
from afkcli.core.thread import SealedTurn, TurnWriter

Rescue = Callable[[str, SealedTurn], str | None]


def outcome_of(run: Run, work: asyncio.Task[Outcome]) -> Outcome:
    """Return how the run's finished `work` ended, by the table of states; the exception is kept for `--debug`."""
    if work.cancelled():
        if run.lost is not None:
            return Outcome(state=RunState.INTERRUPTED, reason=str(run.lost))
        return Outcome(state=RunState.CANCELLED)
    error = work.exception()
    if error is None:
        return work.result()
    run.exception = error
    if isinstance(error, LimitReachedError):
        return Outcome(state=RunState.DEGRADED, reason=error.limit)
    if isinstance(error, TimeoutError):
        return Outcome(state=RunState.DEGRADED, reason="max_wall_time_s")
    kind = error.kind if isinstance(error, ProviderError) else ErrorKind.INTERNAL
    line = run.redact(" ".join(str(error).split()) or type(error).__name__)
    return Outcome(state=RunState.FAILED, reason=kind, error=line, error_kind=kind)


async def seal(run: Run, outcome: Outcome, calls: StoreThread, rescue: Rescue) -> AgentResult:
    """Seal the run's turn, or have it rescued and say so, and return the result."""
    messages = run.messages()
    turn = SealedTurn(
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
        messages=messages,
        usage=run.usage,
        cost_usd=run.limits.cost_usd,
        steps=run.step,
        parent_run_id=run.parent_run_id,
    )
    saved = await _save(run, turn, calls, rescue)
    return AgentResult(
        final_text=next((message.text for message in reversed(messages[1:]) if message.text), ""),
        state=outcome.state,
        reason=outcome.reason,
        run_id=run.run_id,
        thread_id=run.thread_id,
        usage=run.usage,
        total_cost_usd=run.limits.cost_usd,
        steps=run.step,
        tool_executions=tuple(run.executions),
        denied=run.denied,
        model=run.model.full_name,
        error=outcome.error,
        error_kind=outcome.error_kind,
        saved=saved,
    )


async def _save(run: Run, turn: SealedTurn, calls: StoreThread, rescue: Rescue) -> bool:
    reason = run.unsaved
    if run.writer is not None:
        try:
            await calls.call(_seal_on_store, calls, run.writer, turn)
        except Exception as error:  # a store may be anybody's plugin
            reason = str(error) or type(error).__name__
        else:
            return True
    where = await asyncio.to_thread(rescue, run.thread_id, turn)
    kept = f"it is kept in {where}" if where else "it could not be kept anywhere else either"
    await run.warn("not_saved", f"this turn is not saved in the thread: {reason}; {kept}")
    return False


def _seal_on_store(calls: StoreThread, writer: TurnWriter, turn: SealedTurn) -> None:
    calls.unwatch(writer)
    try:
        writer.seal(turn)
    finally:
        writer.release()
