"""A tool call that waits for a decision, and the answer."""

from __future__ import annotations

import asyncio
from typing import Literal

from afkcli.core.contract.jsonform import clean_text
from afkcli.core.contract.rules import ApprovalRule, Decision
from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.contract.text import collapsed
from afkcli.core.contract.tools import ValidArguments

MAX_REASON_CHARS = 2_000
"""The longest reason for a denial."""


def reason_of(text: str) -> str:
    """Return the reason for a denial as the model gets it: one line of at most `MAX_REASON_CHARS` characters."""
    return collapsed(clean_text(text), MAX_REASON_CHARS)


class Answer(FrozenStruct, kw_only=True):
    """What was decided on a call that waited.

    Args:
        decision: the decision.
        reason: why, in the words of the one who decided; the model gets it with a denial.
        rule: a rule that allows later calls too.
        kept: where the rule is kept: in the thread, or in the config, which has it already.
        by: what decided in place of the decider of the run; "" if nothing did.
    """

    decision: Decision
    reason: str = ""
    rule: ApprovalRule | None = None
    kept: Literal["thread", "config"] = "thread"
    by: str = ""


class Waiting(FrozenStruct, kw_only=True):
    """A call that waits for a decision.

    Args:
        call: the call.
        again: whether an interrupted run may have made it before.
        answer: the answer.
        settled: set once all that the answer allows is allowed, also for other calls that wait.
    """

    call: ValidArguments
    again: bool
    answer: asyncio.Future[Answer]
    settled: asyncio.Event
