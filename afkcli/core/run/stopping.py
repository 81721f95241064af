"""How a run ends: its outcome, what stops its work early, and work that does not stop."""

from __future__ import annotations

import asyncio

from afkcli.core.contract.errors import ErrorKind
from afkcli.core.contract.result import RunState
from afkcli.core.contract.structs import FrozenStruct

STOP_SECONDS = 0.5
"""How long a stopped run waits for the code of the provider and the tools to end."""


class Outcome(FrozenStruct, kw_only=True):
    """How a run ended, before its turn is sealed."""

    state: RunState
    reason: str | None = None
    error: str | None = None
    error_kind: ErrorKind | None = None


CANCELLED = Outcome(state=RunState.CANCELLED)


class Stopping:
    """Stops the work of one run.

    `ending` is the outcome that the first stop asked for. `given_up` is done when the work was asked to stop and did
    not. `deadline` is when `max_wall_time_s` ends the run, by the clock of the event loop. `exception` is the error
    that ended the work, kept for a traceback.
    """

    def __init__(self) -> None:
        self.ending: Outcome | None = None
        self.given_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.deadline: float | None = None
        self.exception: BaseException | None = None
        self._work: asyncio.Task[Outcome] | None = None

    def watch(self, work: asyncio.Task[Outcome]) -> None:
        """Set the task that `stop` cancels; it is cancelled at once if the run was stopped before it started."""
        self._work = work
        if self.ending is not None:
            work.cancel()

    def stop(self, ending: Outcome) -> None:
        """Cancel the work and end the run as `ending`; only the first call counts, and only while the work runs.

        Work that does not end within `STOP_SECONDS` is abandoned.
        """
        work = self._work
        if self.ending is not None or (work is not None and work.done()):
            return
        self.ending = ending
        if work is not None:
            work.cancel()
            asyncio.get_running_loop().call_later(STOP_SECONDS, self.given_up.set_result, None)
