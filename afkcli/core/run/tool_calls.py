"""The tool calls of one step: run in parallel, each reported when it ends, each answered by a result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from afkcli.core.contract.events import ToolCompleted, ToolStarted
from afkcli.core.contract.jsonform import clean_text
from afkcli.core.contract.messages import Message, Role, TextPart, ToolCallPart, ToolResultPart
from afkcli.core.contract.result import ToolExecution
from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.contract.tasks import contained
from afkcli.core.contract.tool_output import MAX_OUTPUT_CHARS, NO_OUTPUT, ToolOutput, bounded
from afkcli.core.contract.tools import (
    FoundTools,
    Tool,
    ToolError,
    ToolInvocation,
    Tools,
    ValidArguments,
    in_tool_context,
)
from afkcli.core.run.approvals import Approvals
from afkcli.core.run.copies import own_copy
from afkcli.core.run.limits import Limits
from afkcli.core.run.outlet import Outlet
from afkcli.core.run.spec import RunSpec
from afkcli.core.run.tally import Tally
from afkcli.core.run.tool_reports import ToolReports
from afkcli.core.run.transcript import Transcript
from afkcli.core.thread.attachments import as_named
from afkcli.core.thread.contents import Contents
from afkcli.core.thread.sending import unfinished_result


async def all_tools(own: Tools, listing: asyncio.Task[FoundTools] | None, outlet: Outlet) -> Tools:
    """Return the tools of a run by name: its own functions, and those of plugins that are being looked up.

    A tool that could not be found is reported as a warning.

    Raises:
        PluginError: a plugin failed while it was asked for its tools.
    """
    if listing is None:
        return own
    with contained("the lookup of tools"):
        tools, problems = await listing
    for line in problems:
        outlet.warn("tool_left_out", line)
    return {**own, **{tool.name: tool for tool in tools}}


class ToolCalls(FrozenStruct, kw_only=True):
    """Makes the tool calls of one run. `took` is told of each result, by the position of its call in the step."""

    spec: RunSpec
    transcript: Transcript
    outlet: Outlet
    tally: Tally
    limits: Limits
    approvals: Approvals
    contents: Contents
    took: Callable[[int, ToolResultPart, Mapping[str, bytes]], None] | None = None

    async def finish(self, calls: Sequence[ToolCallPart], tools: Tools) -> None:
        """Answer `calls`, which the interrupted turn left unfinished; raises as `make`.

        It is not known how far they came. So a call is made again only if the agent's tool of that name is idempotent,
        or if someone allows it now; what the record says about the tool does not count. Otherwise the model gets an
        error result for it.
        """
        headless = self.spec.decider == "headless"
        left = [call for call in calls if headless and not _is_repeatable(tools.get(call.name), call)]
        for call in left:
            line = (
                f"the tool {call.name!r} did not finish before and is not marked idempotent, so it is not called again"
            )
            self.outlet.warn("tool_not_repeated", line)
        if left:
            self.transcript.add_message(Message(role=Role.TOOL, parts=tuple(unfinished_result(call) for call in left)))
        skipped = set(map(id, left))  # two calls may be equal
        await self.make([call for call in calls if id(call) not in skipped], tools, again=True)

    async def make(self, calls: Sequence[ToolCallPart], tools: Tools, *, again: bool = False) -> None:
        """Make `calls` and add their results to the turn, in the order of the calls.

        Args:
            calls: what the model asked for.
            tools: the tools of the run by name.
            again: whether the calls may have been made before, so that those that are not idempotent need approval.

        Raises:
            LimitReachedError: there are more calls than `max_tool_calls` allows, or their results do not fit into the
                turn; those that are allowed and fit were made.
        """
        granted = self.limits.take_tool_calls(len(calls))
        at_once = min(granted, max(1, self.spec.agent.fail_safe.max_parallel_tools))
        results: dict[int, ToolResultPart] = {}  # by position, because a server may give two calls the same id
        waiting = enumerate(calls[:granted])

        def answer(position: int, result: ToolResultPart, contents: Mapping[str, bytes]) -> None:
            results[position] = result
            if self.took is not None:
                self.took(position, result, contents)

        async def worker() -> None:  # so many of these, and not a task for each call: a model may ask for thousands
            for position, call in waiting:
                if self.transcript.size.is_full:
                    return
                await _Call(self, call, tools, again).make(partial(answer, position))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(worker())
        finally:
            if results:
                parts = tuple(results[position] for position in sorted(results))
                self.transcript.answer.append(Message(role=Role.TOOL, parts=parts))
        self.transcript.size.check()
        if granted < len(calls):
            self.limits.refuse_tool_calls()


def _is_repeatable(tool: Tool | None, call: ToolCallPart) -> bool:
    return tool is None or tool.idempotent or call.invalid_arguments is not None  # the others only get an error


class _Call:
    """One tool call."""

    def __init__(self, calls: ToolCalls, call: ToolCallPart, tools: Tools, again: bool) -> None:
        tool = tools.get(call.name)
        self._calls = calls
        self._call = call
        self._tools = tools
        self._again = again
        self._invocation = ToolInvocation(tool) if tool is not None else None
        self._reports = ToolReports(calls.outlet, call)

    async def make(self, answer: Callable[[ToolResultPart, Mapping[str, bytes]], None]) -> None:
        """Make the call. A cancelled call gets no result, so that a run that resumes the turn knows about it."""
        calls, call = self._calls, self._call
        arguments, wrong = self._validated()
        asks = arguments is not None and await calls.approvals.is_asked(arguments, again=self._again)
        await calls.outlet.emit(
            ToolStarted, tool_name=call.name, tool_call_id=call.id, arguments=call.arguments, asks=asks
        )
        output, error = NO_OUTPUT, "cancelled"
        try:
            output, error = (NO_OUTPUT, wrong) if arguments is None else await self._outcome(arguments)
            error = bounded(clean_text(calls.outlet.redact(bounded(error, 2 * MAX_OUTPUT_CHARS))))
            parts = (TextPart(text=error),) if error else output.parts
            result = ToolResultPart(id=call.id, name=call.name, parts=parts, is_error=bool(error))
            calls.contents.held.update(output.contents)
            answer(calls.transcript.add_result(result, output.contents), output.contents)
        finally:
            self._reports.end()
            self._report(output, error)
        await calls.outlet.channel.drain()

    def _report(self, output: ToolOutput, error: str) -> None:
        calls, call, latency_ms = self._calls, self._call, self._latency_ms()
        calls.tally.executions.append(
            ToolExecution(tool_name=call.name, tool_call_id=call.id, tool_success=not error, latency_ms=latency_ms)
        )
        calls.outlet.post(
            ToolCompleted,
            tool_name=call.name,
            tool_call_id=call.id,
            tool_success=not error,
            tool_output=output.text,
            tool_error=error or None,
            latency_ms=latency_ms,
            abandoned=self._invocation is not None and self._invocation.abandoned,
            attachments=as_named(output.images),
        )

    def _latency_ms(self) -> int:
        """Return how long the tool's code took so far, without the wait for an approval."""
        if self._invocation is None or self._invocation.started is None:
            return 0
        return int((time.monotonic() - self._invocation.started) * 1000)

    def _validated(self) -> tuple[ValidArguments | None, str]:
        """Return the arguments, or None and what is wrong with the call: no one is asked about an invalid one."""
        call, invocation = self._call, self._invocation
        if invocation is None:
            return None, f"there is no tool {call.name!r}; the tools are: {', '.join(self._tools) or 'none'}"
        if call.invalid_arguments is not None:
            return None, f"the arguments are not a JSON object: {call.invalid_arguments[:200]}"
        try:
            return invocation.tool.validate(own_copy(call.arguments)), ""
        except ToolError as error:
            return None, str(error) or "the tool failed"
        except Exception as error:  # a tool is code of a plugin or a user; the model gets the error
            return None, f"{type(error).__name__}: {error}"

    async def _outcome(self, arguments: ValidArguments) -> tuple[ToolOutput, str]:
        """Return (output, "") or (no output, error)."""
        invocation = self._invocation
        assert invocation is not None
        try:
            await self._calls.approvals.approve(arguments, again=self._again)
            with in_tool_context(self._reports.context):
                return await invocation.run(arguments), ""
        except ToolError as error:
            return NO_OUTPUT, str(error) or "the tool failed"
        except Exception as error:  # a tool is code of a plugin or a user; the model gets the error
            return NO_OUTPUT, f"{type(error).__name__}: {error}"
