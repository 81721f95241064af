"""The specification of a run: what is known when it starts and does not change while it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from afkcli.core.contract.agent import Agent
from afkcli.core.contract.rules import ApprovalRule, Decider
from afkcli.core.contract.structs import FrozenStruct, field
from afkcli.core.run.retries import FIRST_DELAY_S, MAX_RETRIES


class RunSpec(FrozenStruct, kw_only=True):
    """The specification of one run.

    Args:
        run_id: the id of the run, a UUIDv7.
        thread_id: the name of the thread.
        thread_key: the key of the thread.
        turn: the number of the turn in the thread, from 1.
        agent: the agent that runs.
        rules: the approval rules of the config; the first one that matches a tool call decides.
        decider: who decides on the tool calls that the rules leave open.
        approval_timeout_s: seconds after which a tool call that was not decided is denied; None for no limit.
        max_retries: how often a failed model call is made again.
        retry_delay_s: seconds before the first retry.
        started: when the run started, in seconds since the epoch.
    """

    run_id: str
    thread_id: str
    thread_key: str
    turn: int
    agent: Agent
    rules: Sequence[ApprovalRule] = ()
    decider: Decider = "headless"
    approval_timeout_s: float | None = None
    max_retries: int = MAX_RETRIES
    retry_delay_s: float = FIRST_DELAY_S
    started: float = field(default_factory=time.time)
