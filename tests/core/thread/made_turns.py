"""Turns, messages and threads that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from afkcli.core.contract.errors import ErrorKind
from afkcli.core.contract.messages import (
    Message,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    text_message,
)
from afkcli.core.contract.protocols import Lease, Record, ThreadInfo
from afkcli.core.contract.result import RunState
from afkcli.core.run.config import unknown_owner
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.turns import SealedTurn
from afkcli.testing.store_steps import save_turn

QUESTION = text_message(Role.USER, "hi")


ANSWER = text_message(Role.ASSISTANT, "an answer")


def sealed(state: RunState, kind: ErrorKind | None, *messages: Message, reason: str | None = None) -> SealedTurn:
    return SealedTurn(
        turn=1,
        run_id="run",
        state=state,
        reason=reason or kind,
        error="it failed" if kind else None,
        error_kind=kind,
        agent="a",
        model="m",
        started="2026-01-01T00:00:00.000Z",
        sealed="2026-01-01T00:00:01.000Z",
        messages=messages,
    )


def asks(*ids: str) -> Message:
    return Message(role=Role.ASSISTANT, parts=tuple(ToolCallPart(id=id_, name="f", arguments={}) for id_ in ids))


def answers(*ids: str, text: str = "done") -> Message:
    parts = tuple(ToolResultPart(id=id_, name="f", parts=(TextPart(text=text),)) for id_ in ids)
    return Message(role=Role.TOOL, parts=parts)


def said(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(str(message.role), message.text) for message in messages]


def leased(store: MemoryStore, name: str = "t") -> Lease:
    lease = store.acquire(name, unknown_owner("run"))
    assert lease is not None
    return lease


def info(**fields: Any) -> ThreadInfo:
    return ThreadInfo(**{"key": "k", "name": "t", "created": "", "used": "", **fields})


def three_turns() -> tuple[MemoryStore, ThreadInfo, list[Record]]:
    store = MemoryStore()
    lease = leased(store)
    for number in range(3):
        lease = save_turn(store, lease, f"question {number}", f"answer {number}")
    return store, lease.thread, list(store.load(lease.thread.key))
