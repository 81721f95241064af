"""The tool calls of one step: run in parallel, each reported when it ends, each answered by a result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial

from afkcli.core.contract.events import ToolCompleted, ToolStarted
from afkcli.core.contract.jsonform import clean_text
from afkcli.core.contract.messages import Message, Role, TextPart, ToolCallPart, ToolResultPart
from afkcli.core.contract.result import ToolExecution
from afkcli.core.contract.tasks import contained
from afkcli.core.contract.tools import ToolError, ToolInvocation, bounded
from afkcli.core.run.approvals import approve
from afkcli.core.run.run import Run
from afkcli.core.thread.sending import unfinished_result


async def take_tools(run: Run) -> None:
    """Give the run the tools that its agent names and that had to be looked up; say what could not be had.

    Raises:
        PluginError: a plugin failed in it.
    """
    if run.listing is None:
        return
    with contained("the lookup of tools"):
        tools, problems = await run.listing
    run.tools |= {tool.name: tool for tool in tools}
    for line in problems:
        run.warn("tool_left_out", line)


async def finish_tool_calls(run: Run, calls: Sequence[ToolCallPart]) -> None:
    """Answer `calls`, which the turn that is resumed left unfinished; raises as `run_tool_calls`.

    Nobody knows how far they came. So a call is made again only if the agent's tool of that name is idempotent, or
    somebody allows it now; what the record says of the tool does not count. Else the model is told of it.
    """
    left = [call for call in calls if run.decider == "headless" and not _is_repeatable(run, call)]
    for call in left:
        line = f"the tool {call.name!r} did not finish before and is not marked idempotent, so it is not called again"
        run.warn("tool_not_repeated", line)
    if left:
        run.add_message(Message(role=Role.TOOL, parts=tuple(unfinished_result(call) for call in left)))
    again = [call for call in calls if call not in left]
    await run_tool_calls(run, again, again=True)


def _is_repeatable(run: Run, call: ToolCallPart) -> bool:
    tool = run.tools.get(call.name)
    return tool is None or tool.idempotent or call.invalid_arguments is not None  # the others only get their error


async def run_tool_calls(run: Run, calls: Sequence[ToolCallPart], *, again: bool = False) -> None:
    """Carry out `calls` and add their results to the turn, in the order of the calls.

    Args:
        again: whether they may have been made before, so that those that are not idempotent need approval.

    Raises:
        LimitReachedError: more calls were asked for than `max_tool_calls` leaves; those that it leaves were made.
    """
    granted = run.limits.take_tool_calls(len(calls))
    slots = asyncio.Semaphore(max(1, run.agent.fail_safe.max_parallel_tools))
    results: dict[int, ToolResultPart] = {}  # by position, because a server may give two calls the same id
    try:
        async with asyncio.TaskGroup() as group:
            for position, call in enumerate(calls[:granted]):
                answer = partial(results.__setitem__, position)
                group.create_task(_one_call(run, call, slots, answer, again))
    finally:
        if results:
            run.answer.append(Message(role=Role.TOOL, parts=tuple(results[position] for position in sorted(results))))
    if granted < len(calls):
        run.limits.refuse_tool_calls()


async def _one_call(
    run: Run, call: ToolCallPart, slots: asyncio.Semaphore, answer: Callable[[ToolResultPart], None], again: bool
) -> None:
    """Carry out one call. One that is cancelled gets no answer, so that a run which resumes knows of it."""
    async with slots:
        await run.emit(ToolStarted, tool_name=call.name, tool_call_id=call.id, arguments=call.arguments)
        tool = run.tools.get(call.name)
        invocation = ToolInvocation(tool) if tool is not None else None
        output, error = "", "cancelled"
        try:
            output, error = await _outcome(run, call, invocation, again)
            error = bounded(clean_text(run.redact(error)))
            part = TextPart(text=error or output)
            result = ToolResultPart(id=call.id, name=call.name, parts=(part,), is_error=bool(error))
            run.journal_result(result)
            answer(result)
        finally:
            latency_ms = _latency_ms(invocation)
            run.executions.append(
                ToolExecution(tool_name=call.name, tool_call_id=call.id, tool_success=not error, latency_ms=latency_ms)
            )
            run.post(
                ToolCompleted,
                tool_name=call.name,
                tool_call_id=call.id,
                tool_success=not error,
                tool_output=output,
                tool_error=error or None,
                latency_ms=latency_ms,
                abandoned=invocation is not None and invocation.abandoned,
            )
        await run.channel.drain()


def _latency_ms(invocation: ToolInvocation | None) -> int:
    """Return how long the tool's code took so far; the wait for an approval is not its own."""
    if invocation is None or invocation.started is None:
        return 0
    return int((time.monotonic() - invocation.started) * 1000)


async def _outcome(run: Run, call: ToolCallPart, invocation: ToolInvocation | None, again: bool) -> tuple[str, str]:
    """Return (output, "") or ("", error) of one call."""
    if invocation is None:
        return "", f"there is no tool {call.name!r}; the tools are: {', '.join(run.tools) or 'none'}"
    if call.invalid_arguments is not None:
        return "", f"the arguments are not a JSON object: {call.invalid_arguments[:200]}"
    try:
        invocation.tool.validate(call.arguments)  # nobody is asked about a call that cannot be made
        await approve(run, invocation.tool, call, again=again)
        return await invocation.run(call.arguments), ""
    except ToolError as error:
        return "", str(error) or "the tool failed"
    except Exception as error:  # a tool may be anybody's code; the model is told
        return "", f"{type(error).__name__}: {error}"
