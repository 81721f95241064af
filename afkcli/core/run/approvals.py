"""Approvals: each tool call is decided on by the rules, or else by the decider of this run."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable

from afkcli.core.contract.events import ApprovalRequested, ApprovalResolved
from afkcli.core.contract.ids import rfc3339
from afkcli.core.contract.jsonform import JsonObject, canonical
from afkcli.core.contract.rules import Decision, has_changed, rule_decision
from afkcli.core.contract.tools import ToolError, ValidArguments
from afkcli.core.run.outlet import Outlet
from afkcli.core.run.spec import RunSpec
from afkcli.core.run.tally import Tally

MAX_UNKNOWN_APPROVALS = 100
"""How many decisions on unknown approvals are each reported as a warning; more would be a flood."""


class DeniedError(ToolError):
    """A tool call was denied; the message is for the model."""


class Approvals:
    """Decides on the tool calls of one run.

    Args:
        spec: the rules, who decides, and how long.
        outlet: where approvals are requested and reported.
        tally: counts the denied calls.
        count: adds to a counter of the store and returns its new value; counters remember `always`.
    """

    def __init__(
        self, spec: RunSpec, outlet: Outlet, tally: Tally, count: Callable[[str, float], Awaitable[float]]
    ) -> None:
        self._spec = spec
        self._outlet = outlet
        self._tally = tally
        self._count = count
        self._waiting: dict[str, asyncio.Future[Decision]] = {}
        self._unknown = 0

    def decide(self, approval_id: str, decision: Decision) -> None:
        """Decide on an approval that is waiting; an unknown id is ignored with a warning, up to a number of them."""
        future = self._waiting.get(approval_id)
        if future is not None and not future.done():
            future.set_result(decision)
            return
        self._unknown += 1
        if self._unknown <= MAX_UNKNOWN_APPROVALS:
            last = " (further ones are ignored without a warning)" if self._unknown == MAX_UNKNOWN_APPROVALS else ""
            line = f"no approval {approval_id!r} is waiting; ignored{last}"
            self._outlet.pending_warnings.append(("unknown_approval", line))

    async def approve(self, call: ValidArguments, *, again: bool) -> None:
        """Return once a tool call is allowed.

        Args:
            call: the tool and its arguments.
            again: whether an interrupted run may have made the call before. Then it needs approval even where a rule
                allows it, unless the tool is idempotent.

        Raises:
            DeniedError: the call is denied.
        """
        tool = call.tool
        decision = rule_decision(tool, call.given, self._spec.rules, lambda: call.taken)
        if decision == "deny":
            self._tally.denied += 1
            approval_id = secrets.token_urlsafe(16)
            await self._outlet.emit(ApprovalResolved, approval_id=approval_id, decision="deny", by="rule")
            raise DeniedError("denied by an approval rule of the config")
        if decision == "allow" and not (again and not tool.idempotent):
            return
        counter = _always_counter(self._spec.thread_key, call)
        if again or not await self._is_remembered(counter):
            await self._ask(call, counter, again)

    async def _ask(self, call: ValidArguments, counter: str, again: bool) -> None:
        """Request an approval and wait for the decision."""
        spec, outlet = self._spec, self._outlet
        approval_id = secrets.token_urlsafe(16)
        future = self._waiting[approval_id] = asyncio.get_running_loop().create_future()
        seconds = spec.approval_timeout_s
        expires = rfc3339(time.time() + seconds) if seconds is not None else None
        decision, by = "cancelled", "run"
        try:
            await outlet.emit(
                ApprovalRequested,
                approval_id=approval_id,
                tool_name=call.tool.name,
                arguments=call.given,
                expires=expires,
            )
            if spec.decider == "headless":
                decision, by = "deny", spec.decider
            else:
                async with asyncio.timeout(seconds):
                    decision, by = await future, spec.decider
        except TimeoutError:
            decision, by = "timeout", "time limit"
        finally:
            self._waiting.pop(approval_id, None)
            outlet.post(ApprovalResolved, approval_id=approval_id, decision=decision, by=by)
        if decision in ("allow", "always"):
            if decision == "always":
                await self._remember(counter)
            return
        self._tally.denied += 1
        raise DeniedError(self._denial(call, decision, again))

    def _denial(self, call: ValidArguments, decision: str, again: bool) -> str:
        """Return the error for the model. If no one could be asked, warn the user and say how to allow the tool."""
        tool, rules = call.tool, self._spec.rules
        if self._spec.decider == "headless":
            what = "it" if tool.pinned else "its program"
            why = f"; {what} has changed since a rule allowed it" if has_changed(tool, rules) else ""
            self._outlet.warn(
                "approval_denied",
                f"{tool.name} was denied: no one can be asked here, and no rule allows it{why}; see `afk tools show "
                f"{tool.name}`, or run it in a terminal",
            )
        what = "not approved in time" if decision == "timeout" else "this call was not approved"
        repeated = " to be made again; it had not finished before" if again else ""
        return f"denied: {what}{repeated}"

    async def _is_remembered(self, counter: str) -> bool:
        try:
            return await self._count(counter, 0.0) > 0
        except Exception:  # the store is a plugin; if it cannot answer, the call is asked about
            return False

    async def _remember(self, counter: str) -> None:
        try:
            await self._count(counter, 1.0)
        except Exception as error:  # the store is a plugin
            line = f"could not remember this approval for the thread: {error}"
            self._outlet.warn("approval_not_kept", line)


def _always_counter(thread_key: str, call: ValidArguments) -> str:
    """Return the store's counter that remembers `always` for this tool with these arguments in this thread."""
    given: JsonObject = call.given
    said = canonical([call.tool.name, call.tool.fingerprint, given])
    return f"always:{thread_key}:{hashlib.sha256(said.encode()).hexdigest()}"
