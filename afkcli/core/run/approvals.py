"""Approvals: what the rules say of a tool call, and who is asked where they say nothing."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias
from unicodedata import normalize

from afkcli.core.contract.events import ApprovalRequested, ApprovalResolved
from afkcli.core.contract.ids import rfc3339
from afkcli.core.contract.jsonform import Json, JsonObject, canonical
from afkcli.core.contract.messages import ToolCallPart
from afkcli.core.contract.tools import Tool, ToolError
from afkcli.core.run.run import Run

Ruling: TypeAlias = Literal["allow", "ask", "deny"]

REST = "..."
"""Last in the pattern of a list: any number of further elements, none included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRule:
    """What is decided on the calls of some tools.

    `tool` is a pattern of names (`*`, `?`, `[ab]`, as in a shell), `arguments` a pattern for each argument that has to
    fit; other arguments may be anything. `pins` are fingerprints: without that of the tool, a rule allows no tool that
    others may change (`Tool.pinned`).
    """

    tool: str
    decision: Ruling
    arguments: Mapping[str, Json] = field(default_factory=dict)
    pins: tuple[str, ...] = ()

    def matches(self, tool: Tool, arguments: JsonObject) -> bool:
        """Whether the rule is about this call.

        A rule that allows fits what was said, narrowly. One that asks or denies fits in doubt, and also what the tool
        would be given: with its defaults, and with `"1"` taken as 1, so that no other spelling leads past it.
        """
        if not fnmatchcase(tool.name, self.tool):
            return False
        if self.decision == "allow" or not self.arguments:
            return self._fit(arguments)
        return self._fit(arguments) or self._fit(tool.taken(arguments))

    def _fit(self, arguments: JsonObject) -> bool:
        fits = _fits if self.decision == "allow" else _may_fit
        return all(name in arguments and fits(arguments[name], pattern) for name, pattern in self.arguments.items())


class DeniedError(ToolError):
    """A call was not allowed; the message is for the model."""


def ruling(tool: Tool, arguments: JsonObject, rules: Sequence[ApprovalRule]) -> Ruling:
    """Return what is to be done about a call: what the first rule that fits says, else what the tool says of itself.

    Tools that code passes are the user's own: rules are asked only about those that ask for approval.
    """
    if not tool.from_plugin and tool.approval == "allow":
        return "allow"
    for rule in rules:
        if rule.matches(tool, arguments) and not (rule.decision == "allow" and _is_unpinned(tool, rule)):
            return rule.decision
    asks = tool.approval == "ask" or (tool.from_plugin and tool.changes)
    return "ask" if asks else "allow"


def has_changed(tool: Tool, rules: Sequence[ApprovalRule]) -> bool:
    """Whether a rule would allow the tool if it were the one whose fingerprint the rule names."""
    allowing = [rule for rule in rules if rule.decision == "allow" and fnmatchcase(tool.name, rule.tool)]
    return bool(allowing) and all(_is_unpinned(tool, rule) for rule in allowing)


async def approve(run: Run, tool: Tool, call: ToolCallPart, *, again: bool) -> None:
    """Return once `call` may be made.

    Args:
        again: whether it may have been made before by a run that was cut, so that only what may be repeated needs no
            approval.

    Raises:
        DeniedError: it may not be made.
    """
    said = ruling(tool, call.arguments, run.rules)
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
        if run.decided_by == "nobody":
            resolved, by = "deny", "headless"
        else:
            async with asyncio.timeout(seconds):
                resolved, by = await future, run.decided_by
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
    if run.decided_by == "nobody":
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


def _is_unpinned(tool: Tool, rule: ApprovalRule) -> bool:
    return tool.pinned and tool.fingerprint not in rule.pins


def _fits(value: Json, pattern: Json) -> bool:
    """Whether an argument fits the pattern of a rule that allows: text by shell pattern, where it is plain, a list
    element by element, all else by equality."""
    if isinstance(value, str) and isinstance(pattern, str):
        return value == pattern or (_is_plain(value) and fnmatchcase(value, pattern))
    if isinstance(value, list) and isinstance(pattern, list):
        return _list_fits(value, pattern, _fits)
    return type(value) is type(pattern) and bool(value == pattern)


def _may_fit(value: Json, pattern: Json) -> bool:
    """Whether an argument may fit the pattern of a rule that asks or denies: a wildcard stands for any character, two
    forms of one character are the same, and 1.0 is 1."""
    if isinstance(value, str) and isinstance(pattern, str):
        return value == pattern or fnmatchcase(normalize("NFKC", value), normalize("NFKC", pattern))
    if isinstance(value, list) and isinstance(pattern, list):
        return _list_fits(value, pattern, _may_fit)
    return isinstance(value, bool) == isinstance(pattern, bool) and bool(value == pattern)


def _list_fits(value: Sequence[Json], pattern: Sequence[Json], fits: Callable[[Json, Json], bool]) -> bool:
    fixed = pattern[:-1] if pattern[-1:] == [REST] else pattern
    long_enough = len(value) >= len(fixed) if len(fixed) < len(pattern) else len(value) == len(fixed)
    return long_enough and all(map(fits, value, fixed))


def _is_plain(text: str) -> bool:
    """Whether a wildcard may stand for a part of `text`: not for `..`, which would lead out of the folder that the
    pattern names, and not for characters that nobody sees."""
    return text.isprintable() and ".." not in text.replace("\\", "/").split("/")
