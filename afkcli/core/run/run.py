"""One run: the parts that its loop and its end work with."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from afkcli.core.contract.errors import LeaseLostError
from afkcli.core.contract.result import RunState
from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.contract.tools import FoundTools, Tool
from afkcli.core.run.approvals import Approvals
from afkcli.core.run.context import Context
from afkcli.core.run.cost import Spending
from afkcli.core.run.limits import Limits
from afkcli.core.run.model_call import ModelCalls
from afkcli.core.run.models import Models
from afkcli.core.run.outlet import Outlet
from afkcli.core.run.spec import RunSpec
from afkcli.core.run.stopping import Outcome, Stopping
from afkcli.core.run.tally import Tally
from afkcli.core.run.tool_calls import ToolCalls
from afkcli.core.run.transcript import Transcript
from afkcli.core.thread.contents import Contents

if TYPE_CHECKING:
    from afkcli.core.run.answer import StructuredOutput
    from afkcli.core.run.tape import Tape


class Run(FrozenStruct, kw_only=True, eq=False):
    """The parts of one run. Each has its own file; code takes the parts that it needs.

    `own_tools` are the functions that the agent was given, `listing` looks up the tools of plugins that it names, and
    `preparing` prepares the provider while the thread is read. Both tasks were started before the run. `tape` stands
    between the run and its model and tools, if it is recorded or replayed.
    """

    spec: RunSpec
    models: Models
    transcript: Transcript
    contents: Contents
    context: Context
    outlet: Outlet
    stopping: Stopping
    tally: Tally
    limits: Limits
    spending: Spending
    output: StructuredOutput | None
    approvals: Approvals
    model_calls: ModelCalls
    tool_calls: ToolCalls
    own_tools: Mapping[str, Tool]
    listing: asyncio.Task[FoundTools] | None
    preparing: asyncio.Task[None]
    tape: Tape | None = None


def take_problem(error: Exception, stopping: Stopping, outlet: Outlet) -> None:
    """Take an error of the journal: a lost lease ends the run, any other error is a warning."""
    if isinstance(error, LeaseLostError):
        stopping.stop(Outcome(state=RunState.INTERRUPTED, reason=str(error)))
    else:
        outlet.pending_warnings.append(("journal", f"the answer is not being journaled: {error}"))
