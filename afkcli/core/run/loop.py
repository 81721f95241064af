"""The loop of a run: call the model, make the tool calls that it asks for, until it answers.

Read this file first. `assemble.py` puts a run together before the loop starts, and `closing.py` ends it: it turns what
the loop returns or raises into the outcome, seals the turn and emits `completed`.
"""

from __future__ import annotations

import asyncio

from afkcli.core.contract.messages import FinishReason, Message
from afkcli.core.contract.result import RunState
from afkcli.core.run.run import Run
from afkcli.core.run.stopping import Outcome
from afkcli.core.run.tool_calls import all_tools
from afkcli.core.thread.store_worker import StoreCalls


async def work(run: Run, calls: StoreCalls) -> Outcome:
    """Do the work of a run, from its first model call to its answer, and return how it ended.

    Raises:
        ProviderError: a model call failed.
        LimitReachedError: a limit of the run was reached.
        PluginError: the tools that the agent names could not be looked up.
    """
    await asyncio.wait({run.preparing})  # an error in prepare() occurs again in the call, where it can be retried
    tools = await all_tools(run.own_tools, run.listing, run.outlet)
    unfinished = run.transcript.beginning.unfinished
    if unfinished:  # the run resumes a turn that was interrupted during these tool calls
        await run.tool_calls.finish(unfinished, tools)
    run.transcript.size.check()  # a question, or a turn that is resumed, may leave no room for an answer
    while True:
        run.limits.start_step()
        response = await run.model_calls.make(tools)
        if response.finish_reason is FinishReason.LENGTH:
            return Outcome(state=RunState.DEGRADED, reason="length")
        if response.message.tool_calls:
            await _journal(run, calls)
            await run.tool_calls.make(response.message.tool_calls, tools)
        elif _is_answer(run, response.message):
            return Outcome(state=RunState.COMPLETED)


def _is_answer(run: Run, message: Message) -> bool:
    """Return whether a message is what was asked for; any text is, unless the answer has a schema."""
    if run.output is None:
        return True
    from afkcli.core.run.answer import take_answer  # not at the top: few runs have a schema

    return take_answer(run.output, message, run.models.current.full_name, run.transcript, run.outlet)


async def _journal(run: Run, calls: StoreCalls) -> None:
    """Write the journal before the tool calls are made, so that a run which resumes the turn knows about them."""
    journal = run.transcript.journal
    if journal is not None:
        await calls.call(journal.tick)
