"""Approvals: what the rules say of a tool call, and who is asked where they say nothing."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time

from afkcli.core.contract.events import ApprovalRequested, ApprovalResolved
from afkcli.core.contract.ids import rfc3339
from afkcli.core.contract.jsonform import JsonObject, canonical
from afkcli.core.contract.messages import ToolCallPart
from afkcli.core.contract.rules import has_changed, rule_decision
from afkcli.core.contract.tools import Tool, ToolError
from afkcli.core.run.run import Run


class DeniedError(ToolError):
    """A call was not allowed; the message is for the model."""


async def approve(run: Run, tool: Tool, call: ToolCallPart, *, again: bool) -> None:
    """Return once `call` may be made.

    Args:
        again: whether it may have been made before by a run that was cut, so that only what may be repeated needs no
            approval.

    Raises:
        DeniedError: it may not be made.
    """
    said = rule_decision(tool, call.arguments, run.rules)
    if said == "deny":
        run.denied += 1
        await run.emit(ApprovalResolved, approval_id=secrets.token_urlsafe(16), decision="deny", by="rule")
        raise DeniedError("denied by a rule of the config")
    if said == "allow" and not (again and not tool.idempotent):
        return
    always = _counter(run, tool, call.arguments)
    if again or not await _is_remembered(run, always):
        await _ask(run, tool, call, always, again)


async def _ask(run: Run, tool: Tool, call: ToolCallPart, always: str, again: bool) -> None:
    """Ask whoever decides, and wait for it."""
    approval_id = secrets.token_urlsafe(16)
    future = run.approvals[approval_id] = asyncio.get_running_loop().create_future()
    seconds = run.approval_timeout_s
    expires = rfc3339(time.time() + seconds) if seconds is not None else None
    resolved: str = "cancelled"
    by = "run"
    try:
        await run.emit(
            ApprovalRequested, approval_id=approval_id, tool_name=tool.name, arguments=call.arguments, expires=expires
        )
        if run.decider == "headless":
            resolved, by = "deny", run.decider
        else:
            async with asyncio.timeout(seconds):
                resolved, by = await future, run.decider
    except TimeoutError:
        resolved, by = "timeout", "time limit"
    finally:
        run.approvals.pop(approval_id, None)
        run.post(ApprovalResolved, approval_id=approval_id, decision=resolved, by=by)
    if resolved in ("allow", "always"):
        if resolved == "always":
            await _remember(run, always)
        return
    run.denied += 1
    raise DeniedError(_denial(run, tool, resolved, again))


def _denial(run: Run, tool: Tool, resolved: str, again: bool) -> str:
    """Return what the model is told; the user is told how to allow it where nobody could be asked."""
    if run.decider == "headless":
        why = "; others changed it since a rule allowed it" if tool.pinned and has_changed(tool, run.rules) else ""
        run.warn(
            "approval_denied",
            f"{tool.name} was denied: nobody can be asked here, and no rule allows it{why}; see `afk tools show "
            f"{tool.name}`, or run it in a terminal",
        )
    what = "not approved in time" if resolved == "timeout" else "this call was not approved"
    repeated = " to be made again; it had not finished before" if again else ""
    return f"denied: {what}{repeated}"


def _counter(run: Run, tool: Tool, arguments: JsonObject) -> str:
    """Return the store's counter that remembers "always": of this tool with these arguments in this thread."""
    said = canonical([tool.name, tool.fingerprint, arguments])
    return f"always:{run.thread_key}:{hashlib.sha256(said.encode()).hexdigest()}"


async def _is_remembered(run: Run, counter: str) -> bool:
    try:
        return await run.count(counter, 0.0) > 0
    except Exception:  # a store that cannot tell has not been told
        return False


async def _remember(run: Run, counter: str) -> None:
    try:
        await run.count(counter, 1.0)
    except Exception as error:  # it may be anybody's plugin
        run.warn("approval_not_kept", f"this approval is not remembered for the thread: {error}")
