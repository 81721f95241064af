"""The event log of a batch: one record a prompt without a thread, its last event, for the sinks of the user."""

from __future__ import annotations

import asyncio
import time

from afkcli.core.contract.events import Completed
from afkcli.core.contract.ids import rfc3339
from afkcli.core.contract.result import AgentResult
from afkcli.core.run.sink_worker import SinkWorker
from afkcli.wiring.plugin_objects import make_sinks
from afkcli.wiring.setup import Setup


class PromptLog:
    """Gives the sinks of a setup the `completed` event of each run.

    All events of a run would take as long as the run. A prompt that has a thread is logged by its runner, with all of
    them.
    """

    def __init__(self, setup: Setup) -> None:
        self._sinks = [SinkWorker(sink, setup.notify) for sink in make_sinks(setup)]

    def completed(self, result: AgentResult) -> None:
        """Hand the record of a run to the sinks; it waits for none of them."""
        if not self._sinks:
            return
        event = Completed(
            run_id=result.run_id,
            thread_id=result.thread_id,
            thread_key=result.run_id,
            turn=1,
            seq=0,
            ts=rfc3339(time.time()),
            step=result.steps,
            result=result,
        )
        for sink in self._sinks:
            sink.put(event)

    async def aclose(self) -> None:
        """Flush and close the sinks."""
        await asyncio.gather(*(sink.flush() for sink in self._sinks))
        for sink in self._sinks:
            await asyncio.to_thread(sink.close)
