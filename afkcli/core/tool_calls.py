"""The tool calls of one step: run in parallel, each reported when it ends, each answered by a result."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial

from afkcli.core.events import ApprovalRequested, ApprovalResolved, ToolCompleted, ToolStarted
from afkcli.core.jsonform import clean_text
from afkcli.core.messages import Message, Role, TextPart, ToolCallPart, ToolResultPart
from afkcli.core.result import ToolExecution
from afkcli.core.run import Run
from afkcli.core.thread import unfinished_result
from afkcli.core.tools import Tool, ToolError, bounded


async def finish_tool_calls(run: Run, calls: Sequence[ToolCallPart], *, external: bool) -> None:
    """Answer `calls`, which the turn that is resumed left unfinished; arguments and errors as in `run_tool_calls`.

    Nobody knows how far they came. So a call is made again only if the agent's tool of that name is idempotent, or the
    caller allows it now; what the record says of the tool does not count. Else the model is told of it.
    """
    left = [call for call in calls if not (external or _is_repeatable(run, call))]
    for call in left:
        line = f"the tool {call.name!r} did not finish before and is not marked idempotent, so it is not called again"
        run.warn("tool_not_repeated", line)
    if left:
        run.add_message(Message(role=Role.TOOL, parts=tuple(unfinished_result(call) for call in left)))
    again = [call for call in calls if external or _is_repeatable(run, call)]
    await run_tool_calls(run, again, external=external, repeated=True)


def _is_repeatable(run: Run, call: ToolCallPart) -> bool:
    tool = run.tools.get(call.name)
    return tool is None or tool.idempotent or call.invalid_arguments is not None  # the others only get their error


async def run_tool_calls(run: Run, calls: Sequence[ToolCallPart], *, external: bool, repeated: bool = False) -> None:
    """Carry out `calls` and add their results to the turn, in the order of the calls.

    Args:
        external: whether the caller decides on calls that need approval; otherwise they are denied.
        repeated: whether they may have been made before, so that those that are not idempotent need approval.

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
                group.create_task(_one_call(run, call, slots, answer, external, repeated))
    finally:
        if results:
            run.answer.append(Message(role=Role.TOOL, parts=tuple(results[position] for position in sorted(results))))
    if granted < len(calls):
        run.limits.refuse_tool_calls()


async def _one_call(
    run: Run,
    call: ToolCallPart,
    slots: asyncio.Semaphore,
    answer: Callable[[ToolResultPart], None],
    external: bool,
    repeated: bool,
) -> None:
    """Carry out one call. One that is cancelled gets no answer, so that a run which resumes knows of it."""
    async with slots:
        await run.emit(ToolStarted, tool_name=call.name, tool_call_id=call.id, arguments=call.arguments)
        started = time.monotonic()
        output, error = "", "cancelled"
        try:
            output, error = await _outcome(run, call, external, repeated)
            error = bounded(clean_text(run.redact(error)))
            part = TextPart(text=error or output)
            result = ToolResultPart(id=call.id, name=call.name, parts=(part,), is_error=bool(error))
            run.journal_result(result)
            answer(result)
        finally:
            latency_ms = int((time.monotonic() - started) * 1000)
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
            )
        await run.channel.drain()


async def _outcome(run: Run, call: ToolCallPart, external: bool, repeated: bool) -> tuple[str, str]:
    """Return (output, "") or ("", error) of one call."""
    tool = run.tools.get(call.name)
    if tool is None:
        return "", f"there is no tool {call.name!r}; the tools are: {', '.join(run.tools) or 'none'}"
    if call.invalid_arguments is not None:
        return "", f"the arguments are not a JSON object: {call.invalid_arguments[:200]}"
    if (tool.approval == "ask" or (repeated and not tool.idempotent)) and not await _approved(run, call, external):
        run.denied += 1
        again = " to be made again; it had not finished before" if repeated else ""
        return "", f"denied: this call was not approved{again}"
    return await _called(tool, call)


async def _called(tool: Tool, call: ToolCallPart) -> tuple[str, str]:
    try:
        return await tool.call(call.arguments), ""
    except ToolError as error:
        return "", str(error) or "the tool failed"
    except Exception as error:  # a tool may be anybody's code; the model is told
        return "", f"{type(error).__name__}: {error}"


async def _approved(run: Run, call: ToolCallPart, external: bool) -> bool:
    approval_id = secrets.token_urlsafe(16)
    future = run.approvals[approval_id] = asyncio.get_running_loop().create_future()
    await run.emit(
        ApprovalRequested, approval_id=approval_id, tool_name=call.name, arguments=call.arguments, expires=None
    )
    decision = await future if external else "deny"
    run.approvals.pop(approval_id, None)
    by = "caller" if external else "headless"
    await run.emit(ApprovalResolved, approval_id=approval_id, decision=decision, by=by)
    return decision == "allow"
