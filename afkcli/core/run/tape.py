"""What may stand between a run and its model and tools: a recorder, a replay, or a run that only shows its request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeAlias

from afkcli.core.contract.agent import Agent
from afkcli.core.contract.messages import ToolResultPart
from afkcli.core.contract.protocols import Provider, Record
from afkcli.core.contract.tools import FoundTools
from afkcli.core.run.outlet import Outlet
from afkcli.core.run.spec import RunSpec
from afkcli.core.run.stopping import Outcome, Stopping
from afkcli.core.run.tool_calls import ToolCalls

FindTools: TypeAlias = Callable[[Sequence[str]], Coroutine[Any, Any, FoundTools]]


class Tape:
    """Takes part in one run; this one changes nothing. `keeps_history` is whether it wants the records of the thread.

    A run calls the methods in their order here; those from `saw` on are called while it works. All are called on the
    event loop. Since: 0.2.
    """

    keeps_history = False

    def agent(self, agent: Agent) -> Agent:
        """Return the agent that runs."""
        return agent

    def providers(self, providers: Mapping[str, Provider]) -> Mapping[str, Provider]:
        """Return the providers that the run asks."""
        return providers

    def find_tools(self, find: FindTools) -> FindTools:
        """Return what looks up the tools of plugins."""
        return find

    def begin(self, spec: RunSpec, model: str, records: Sequence[Record], outlet: Outlet, stopping: Stopping) -> None:
        """Take note of the run: its question is durable.

        Args:
            spec: the run.
            model: the full name of its model.
            records: the kept records of the thread before the question, if `keeps_history`.
            outlet: sends the events of the run.
            stopping: stops the run.
        """

    def tool_calls(self, calls: ToolCalls) -> ToolCalls:
        """Return what makes the tool calls of the run."""
        return calls

    def saw(self, kind: type, values: Mapping[str, Any]) -> None:
        """Take note of an event of the run: its type, and its fields but for the header."""

    def took(self, position: int, result: ToolResultPart, contents: Mapping[str, bytes]) -> None:
        """Take note of the result of the tool call at a position in its step, and of the contents of its images."""

    async def pause(self, seconds: float) -> None:
        """Wait before a model call is made again."""
        await asyncio.sleep(seconds)

    async def see(self, work: Coroutine[Any, Any, Outcome]) -> Outcome:
        """Return how the work of the run ended; raises what it raises."""
        return await work

    def end(self, outcome: Outcome) -> None:
        """Take note of how the run ended, before its turn is sealed."""
