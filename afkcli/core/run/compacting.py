"""Puts a summary in the place of old turns of a run's thread: asked for, recorded, and sent from then on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from afkcli.core.contract.errors import LeaseLostError
from afkcli.core.contract.ids import rfc3339, uuid7
from afkcli.core.contract.result import RunState
from afkcli.core.contract.structs import Struct
from afkcli.core.contract.tasks import of_thread, seen_through
from afkcli.core.contract.text import error_text
from afkcli.core.run.cost import Spending
from afkcli.core.run.limits import Limits
from afkcli.core.run.models import Model, WindowLookup
from afkcli.core.run.outlet import Outlet
from afkcli.core.run.spec import RunSpec
from afkcli.core.run.stopping import Outcome, Stopping
from afkcli.core.run.summariser import INSTRUCTIONS, Summariser, SummaryError
from afkcli.core.run.tally import Tally
from afkcli.core.run.transcript import Transcript
from afkcli.core.thread.changes import Compaction, spans
from afkcli.core.thread.store_worker import StoreCalls


async def window_of(look_up: WindowLookup, model: Model) -> int | None:
    """Return the tokens of the window of a model that makes summaries, None if they are not known."""
    return look_up.known(model) or await asyncio.to_thread(look_up.listed, model)


class Compactor(Struct, kw_only=True):
    """Compacts the thread of one run.

    Args:
        model: the model that makes summaries; None for that of the run.
        calls: makes the calls to the store.
        pause: waits before a call is made again.
    """

    spec: RunSpec
    transcript: Transcript
    outlet: Outlet
    stopping: Stopping
    tally: Tally
    limits: Limits
    spending: Spending
    look_up_window: WindowLookup
    calls: StoreCalls
    model: Model | None
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    _failed: bool = False

    async def compact(self, count: int, tokens: int, model: Model, window: int, ratio: float) -> Compaction | None:
        """Have a summary take the place of the first `count` turns of the history, and of the summary before them.

        Args:
            count: how many turns.
            tokens: how long the summary is asked to be.
            model: the model of the run.
            window: the tokens of its window.
            ratio: by how much its server counts more than an estimate says.

        Returns:
            The compaction; None, after a warning, if there is no summary. Then the run does not try again.

        Raises:
            LeaseLostError: another run took the thread.
        """
        if self._failed or not count:
            return None
        own = self.model is None or self.model.full_name == model.full_name
        summariser = Summariser(
            model=model if self.model is None else self.model,
            spending=self.spending,
            limits=self.limits,
            instructions=self.spec.agent.context.instructions or INSTRUCTIONS,
            window=window if own else await window_of(self.look_up_window, self.model or model),
            ratio=ratio if own else 1.0,
            retries=self.spec.max_retries > 0,
            retry_delay_s=self.spec.retry_delay_s,
            pause=self.pause,
        )
        before, turns = self.transcript.compaction, self.transcript.history[:count]
        try:
            text = await summariser.summarise(before.summary if before is not None else "", turns, tokens)
        except SummaryError as error:
            self._failed = True
            self.tally.usage += summariser.usage
            what = f"turns up to {turns[-1].turn} could not be summarised: {error_text(error)}"
            self.outlet.warn("compaction_failed", f"{what}; old turns are left out instead")
            return None
        system = next((turn.system for turn in reversed(turns) if turn.system), before.system if before else "")
        made = Compaction(
            id=uuid7(),
            covers=spans(number for number in self.transcript.seen if number <= turns[-1].turn),
            summary=text,
            model=summariser.model.full_name,
            agent=self.spec.agent.name,
            started=summariser.started,
            ended=rfc3339(time.time()),
            usage=summariser.usage,
            cost_usd=summariser.cost_usd,
            run_id=self.spec.run_id,
            system=system,
        )
        await self._record(made)
        self.transcript.compact(count, made)
        return made

    async def _record(self, made: Compaction) -> None:
        """Record a compaction in the thread; where that is not possible, it is used by this run alone."""
        writer = self.transcript.writer
        if writer is None:
            self.tally.usage += made.usage
            return
        recording = of_thread(self.calls.submit(writer.compact, made))
        try:
            await asyncio.shield(recording)
        except asyncio.CancelledError:
            await seen_through(recording)  # so that what it cost is counted once
            self.tally.take_compaction(made.usage, made.cost_usd)
            raise
        except LeaseLostError as error:
            self.stopping.stop(Outcome(state=RunState.INTERRUPTED, reason=str(error)))
            raise
        except Exception as error:  # the store is a plugin; the next run makes a summary of its own
            self.tally.usage += made.usage
            self.outlet.warn("compaction_not_saved", f"the summary is used by this run alone: {error_text(error)}")
        else:
            self.tally.take_compaction(made.usage, made.cost_usd)
