"""Approvals: each tool call is decided on by the rules, or else by the decider of this run."""

from __future__ import annotations

import asyncio
import secrets
import time

from afkcli.core.contract.events import ApprovalRequested, ApprovalResolved
from afkcli.core.contract.ids import rfc3339
from afkcli.core.contract.rules import RuleDecision, has_changed, rule_decision
from afkcli.core.contract.tools import ToolError, ValidArguments
from afkcli.core.run.decisions import Answer, Waiting
from afkcli.core.run.outlet import Outlet
from afkcli.core.run.spec import RunSpec
from afkcli.core.run.tally import Tally
from afkcli.core.run.thread_rules import ThreadRules
from afkcli.core.thread.changes import Permission
from afkcli.core.thread.permissions import permission_of_call, permission_of_rule

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
        thread_rules: what was allowed for the thread.
    """

    def __init__(self, spec: RunSpec, outlet: Outlet, tally: Tally, thread_rules: ThreadRules) -> None:
        self._spec = spec
        self._outlet = outlet
        self._tally = tally
        self._thread_rules = thread_rules
        self._waiting: dict[str, Waiting] = {}
        self._unknown = 0

    def waiting(self, approval_id: str) -> Waiting | None:
        """Return the call that waits for a decision, None if there is no such call."""
        return self._waiting.get(approval_id)

    def decide(self, approval_id: str, answer: Answer) -> None:
        """Decide on an approval that is waiting; an unknown id is ignored with a warning, up to a number of them."""
        waiting = self._waiting.get(approval_id)
        if waiting is not None and not waiting.answer.done():
            waiting.answer.set_result(answer)
            return
        self._unknown += 1
        if self._unknown <= MAX_UNKNOWN_APPROVALS:
            last = " (further ones are ignored without a warning)" if self._unknown == MAX_UNKNOWN_APPROVALS else ""
            line = f"no approval {approval_id!r} is waiting; ignored{last}"
            self._outlet.pending_warnings.append(("unknown_approval", line))

    async def is_asked(self, call: ValidArguments, *, again: bool) -> bool:
        """Return whether `approve` requests a decision on a call; it emits nothing."""
        decision = self._decision(call)
        if decision == "deny" or (decision == "allow" and not (again and not call.tool.idempotent)):
            return False
        return again or await self._thread_rules.allowing(call) is None

    def _decision(self, call: ValidArguments) -> RuleDecision:
        return rule_decision(call.tool, call.given, self._spec.rules, lambda: call.taken)

    async def approve(self, call: ValidArguments, *, again: bool) -> None:
        """Return once a tool call is allowed.

        Args:
            call: the tool and its arguments.
            again: whether an interrupted run may have made the call before. Then it needs approval even where a rule
                allows it, unless the tool is idempotent.

        Raises:
            DeniedError: the call is denied.
        """
        decision = self._decision(call)
        if decision == "deny":
            self._tally.denied += 1
            approval_id = secrets.token_urlsafe(16)
            await self._outlet.emit(ApprovalResolved, approval_id=approval_id, decision="deny", by="rule")
            raise DeniedError("denied by an approval rule of the config")
        if decision == "allow" and not (again and not call.tool.idempotent):
            return
        by = None if again else await self._thread_rules.allowing(call)
        if by is None:
            await self._ask(call, again)
        elif by != "always":
            approval_id = secrets.token_urlsafe(16)
            await self._outlet.emit(ApprovalResolved, approval_id=approval_id, decision="allow", by=by)

    async def _ask(self, call: ValidArguments, again: bool) -> None:
        """Request an approval and wait for the decision."""
        spec, outlet = self._spec, self._outlet
        approval_id = secrets.token_urlsafe(16)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        waiting = Waiting(call=call, again=again, answer=future, settled=asyncio.Event())
        self._waiting[approval_id] = waiting
        seconds = spec.approval_timeout_s
        expires = rfc3339(time.time() + seconds) if seconds is not None else None
        decision, by, answer = "cancelled", "run", None
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
                    answer = await future
                decision, by = answer.decision, answer.by or spec.decider
        except TimeoutError:
            decision, by = "timeout", "time limit"
        finally:
            self._waiting.pop(approval_id, None)
            outlet.post(ApprovalResolved, approval_id=approval_id, decision=decision, by=by, **_said(answer))
        if answer is None or decision not in ("allow", "always"):
            self._tally.denied += 1
            raise DeniedError(self._denial(call, decision, again, answer.reason if answer is not None else ""))
        try:
            await self._take(call, answer)
        finally:
            waiting.settled.set()

    def _denial(self, call: ValidArguments, decision: str, again: bool, reason: str) -> str:
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
        return f"denied: {what}{repeated}" + (f"; the reason given: {reason}" if reason else "")

    async def _take(self, call: ValidArguments, answer: Answer) -> None:
        """Keep what an answer allows from now on."""
        if answer.rule is not None and answer.kept == "config":
            self._thread_rules.follow(answer.rule)
        elif answer.rule is not None:
            await self._keep(permission_of_rule(answer.rule))
        elif answer.decision == "always":
            await self._keep(permission_of_call(call))
        else:
            return
        for waiting in tuple(self._waiting.values()):  # no one is asked about what is allowed by now
            by = None if waiting.again else await self._thread_rules.allowing(waiting.call)
            if by is not None and not waiting.answer.done():
                waiting.answer.set_result(Answer(decision="allow", by=by))

    async def _keep(self, permission: Permission) -> None:
        try:
            await self._thread_rules.keep(permission)
        except Exception as error:  # the store is a plugin
            line = f"could not remember this approval for the thread: {error}"
            self._outlet.warn("approval_not_kept", line)


def _said(answer: Answer | None) -> dict[str, str]:
    """Return the fields of `approval_resolved` that an answer adds."""
    if answer is None:
        return {}
    return {"reason": answer.reason, "kept": answer.kept if answer.rule is not None else ""}
