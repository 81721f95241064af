"""What a person allowed for the thread of a run, or for this run: before it and while it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from afkcli.core.contract.rules import ApprovalRule, allows
from afkcli.core.contract.tools import ValidArguments
from afkcli.core.thread.changes import Change, Permission
from afkcli.core.thread.permissions import counter_name, permission_of_call, permissions, rule_of
from afkcli.core.thread.store_worker import StoreCalls
from afkcli.core.thread.writer import TurnWriter


class ThreadRules:
    """The permissions of one thread.

    Args:
        thread_key: the key of the thread.
        changes: the changes of the thread when the run started.
        count: adds to a counter of the store and returns its new value.
        writer: writes the turn; None if it cannot be saved.
        calls: makes the calls to the store; None only in tests of single parts.
    """

    def __init__(
        self,
        thread_key: str,
        changes: Iterable[Change],
        count: Callable[[str, float], Awaitable[float]],
        writer: TurnWriter | None,
        calls: StoreCalls | None,
    ) -> None:
        self._thread_key = thread_key
        self._changes = changes
        self._count = count
        self._writer = writer
        self._calls = calls
        self._given: list[Permission] = []
        self._of_run: list[ApprovalRule] = []

    async def allowing(self, call: ValidArguments) -> str | None:
        """Return what allows a call: `always`, `thread rule` or `config rule` (one of this run); None if nothing does.

        A store that cannot say what was given here allows nothing.
        """
        if await self._is_counted(permission_of_call(call)):
            return "always"
        if any(allows(rule, call.tool, call.given) for rule in self._of_run):
            return "config rule"
        for permission in (*permissions(self._changes), *self._given):
            if permission.exact or not allows(rule_of(permission), call.tool, call.given):
                continue
            if await self._is_counted(permission):
                return "thread rule"
        return None

    def follow(self, rule: ApprovalRule) -> None:
        """Let this run follow a rule that was written to the config."""
        self._of_run.append(rule)

    async def keep(self, permission: Permission) -> None:
        """Keep a permission in the thread: the record, then the counter.

        Raises:
            Exception: whatever the store raises, which is a plugin. Without the counter it is not given.
        """
        self._given.append(permission)
        if self._writer is not None and self._calls is not None:
            await asyncio.shield(asyncio.wrap_future(self._calls.submit(self._writer.allow, permission)))
        await self._count(counter_name(self._thread_key, permission), 1.0)

    async def _is_counted(self, permission: Permission) -> bool:
        try:
            return await self._count(counter_name(self._thread_key, permission), 0.0) > 0
        except Exception:  # the store is a plugin; if it cannot answer, the call is asked about
            return False
