"""The contract of an engine as a test suite: what `afkcli.core.contract.engine.Engine` promises, sentence by sentence.

For the author of an engine. In your tests:

    from afkcli.testing.engine_contract import EngineContract

    class TestMyEngine(EngineContract):
        def make_engine(self, path):             # `path` is a folder that is empty at first
            return MyEngine(path)                # the same path opens the same batches again

A worker that dies is a process that is forked and kills itself; an engine whose worker cannot be made in a forked
process overrides `dead_worker`. Time is made to pass by moving `time.time` and `time.monotonic`; an engine that counts
by another clock overrides `pass_time`. An engine that counts a prompt as sent from its claim on sets
`sent_by_claim = True`.

Each part of the suite is a module of its own: `engine_batch_contract`, `engine_prompt_contract`,
`engine_worker_contract` and `engine_limits_contract`.

Needs `pytest`. Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import ClassVar

from afkcli.core.contract.engine import Engine
from afkcli.testing.engine_batch_contract import BatchTests
from afkcli.testing.engine_limits_contract import LimitTests
from afkcli.testing.engine_prompt_contract import PromptTests
from afkcli.testing.engine_worker_contract import WorkerTests


class EngineContract(BatchTests, PromptTests, WorkerTests, LimitTests):
    """Subclass it as `TestSomething` and give `make_engine`; see the head of this module."""

    sent_by_claim: ClassVar[bool] = False

    def make_engine(self, path: Path) -> Engine:
        """Return a new engine for the batches in the folder `path`."""
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        """Let `seconds` pass by the clock that the engine counts by."""
        super().pass_time(seconds)

    def dead_worker(self, path: Path, work: Callable[[Engine], Awaitable[None]]) -> None:
        """Do `work` in another process, which then dies by SIGKILL, and wait for its end."""
        super().dead_worker(path, work)
