"""Runs one prompt of a batch: from its request to its outcome, as plain JSON."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

from afkcli.batch.asking import flags_of_prompt, question_of, remember
from afkcli.batch.gated_provider import TURN, Turn
from afkcli.batch.passing_store import PassingStore
from afkcli.batch.prompt import Defaults
from afkcli.batch.prompt_log import PromptLog
from afkcli.batch.results import refused, result_of, tokens_of
from afkcli.core.contract.agent import Agent
from afkcli.core.contract.engine import ClaimedPrompt, Outcome, PromptState
from afkcli.core.contract.errors import (
    AfkError,
    ConfigError,
    PluginError,
    ThreadBusyError,
    UnknownNameError,
    UsageError,
)
from afkcli.core.contract.ids import uuid7
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.protocols import ThreadInfo
from afkcli.core.contract.result import AgentResult, RunState
from afkcli.core.contract.structs import replace
from afkcli.core.contract.tasks import started
from afkcli.core.contract.text import error_line
from afkcli.wiring.agents import agent_for
from afkcli.wiring.plugin_objects import open_store

if TYPE_CHECKING:
    from afkcli.core.run.handle import RunHandle
    from afkcli.wiring.runner import Runner
    from afkcli.wiring.setup import Setup

_OF_AN_AGENT = frozenset({"model", "agent", "instructions", "limits", "options", "schema"})
"""Fields of a request that make its agent another one than that of the batch."""


class Ran(NamedTuple):
    """How a prompt ended. `stops` is why no more prompts of the batch may be run; None if they may."""

    outcome: Outcome
    stops: str | None = None


class _Ended(NamedTuple):
    result: AgentResult
    exception: BaseException | None


_GIVEN_BACK = frozenset({"max_cost", "paused", "lost"})
"""Why a request may be refused that leaves its prompt to be asked another time."""

_OF_THE_BATCH = (ConfigError, UnknownNameError, PluginError)
"""Errors that are those of every prompt that does not say its own model: a missing key, a model that does not exist."""

_STOPS = {"max_cost": "--max-cost is reached"}
"""Why no more prompts are asked, by the reason for which a request was refused."""


class PromptRunner:
    """Runs prompts over one runner, or two if some of them have threads.

    Args:
        setup: the config and the plugins.
        make: makes a runner: with the store of the user if it is called with None, else with the one that it is given.
        defaults: what the command line says for all prompts.
        keeps_threads: whether each prompt has a thread; else those that name one.
    """

    def __init__(
        self,
        setup: Setup,
        make: Callable[[PassingStore | None], Runner],
        defaults: Defaults,
        *,
        keeps_threads: bool,
    ) -> None:
        self._setup = setup
        self._make = make
        self._defaults = defaults
        self._keeps_threads = keeps_threads
        self._store = PassingStore(lambda: open_store(setup))
        self._runners: dict[bool, Runner] = {}
        self._log = PromptLog(setup)
        self._agents: dict[str | None, Agent] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def aclose(self) -> None:
        for runner in self._runners.values():
            await runner.aclose()
        await self._log.aclose()

    def _runner(self, *, keeps: bool) -> Runner:
        if keeps not in self._runners:
            self._runners[keeps] = self._make(None if keeps else self._store)
        return self._runners[keeps]

    async def run(self, prompt: ClaimedPrompt) -> Ran:
        """Run a prompt to its end. It raises nothing but the cancellation of its task."""
        turn = Turn(prompt.id, prompt.claim)
        TURN.set(turn)
        began = time.time()
        try:
            ended = await self._run(prompt.request, turn)
        except Exception as error:  # a fault of ours or of a plugin must not end the other prompts
            if isinstance(error, _OF_THE_BATCH) and not _OF_AN_AGENT.intersection(prompt.request):
                turn.stops = str(self._masked(error))
            if self._is_unsent(turn):
                return self._given_back(prompt, turn)
            form = refused(prompt.request, self._masked(error), started=began, ended=time.time())
            return self._settled(prompt, turn, PromptState.FAILED, form, None if turn.sent else 0.0)
        if self._is_unsent(turn):
            return self._given_back(prompt, turn)
        keeps = self._keeps(prompt.request)
        if not keeps:
            self._log.completed(ended.result)
        state, form = result_of(
            prompt.request,
            ended.result,
            exception=ended.exception,
            thread=ended.result.thread_id if keeps else None,
            started=began,
            sealed=time.time(),
        )
        return self._settled(prompt, turn, state, form, ended.result.total_cost_usd)

    def _masked(self, error: Exception) -> Exception:
        """Return an error whose message holds no secret."""
        line = error_line(str(error) or type(error).__name__, self._setup.invocation.secrets.mask)
        if isinstance(error, (UsageError, ThreadBusyError)):
            return type(error)(line)
        return AfkError(line if isinstance(error, AfkError) else f"{type(error).__name__}: {line}")

    @staticmethod
    def _is_unsent(turn: Turn) -> bool:
        if turn.sent:
            return False
        return turn.refused in _GIVEN_BACK or turn.stops is not None or turn.engine_error is not None

    @staticmethod
    def _given_back(prompt: ClaimedPrompt, turn: Turn) -> Ran:
        outcome = Outcome(id=prompt.id, claim=prompt.claim, state=PromptState.QUEUED)
        if turn.engine_error is not None:
            return Ran(outcome, str(turn.engine_error))
        return Ran(outcome, turn.stops or _STOPS.get(turn.refused or ""))

    @staticmethod
    def _settled(prompt: ClaimedPrompt, turn: Turn, state: PromptState, form: JsonObject, cost: float | None) -> Ran:
        tokens = tokens_of(form)
        outcome = Outcome(id=prompt.id, claim=prompt.claim, state=state, result=form, cost_usd=cost, tokens=tokens)
        return Ran(outcome, turn.stops_others or _STOPS.get(turn.refused or ""))

    async def _run(self, request: JsonObject, turn: Turn) -> _Ended:
        """Return how the run of a prompt ended. Those of one thread run one after the other, in the order of claims."""
        if "thread" not in request:
            return await self._run_now(request, turn)
        lock = self._turns.setdefault(request["thread"], asyncio.Lock())
        async with lock:
            return await self._run_now(request, turn)

    async def _run_now(self, request: JsonObject, turn: Turn) -> _Ended:
        has_files = bool(request.get("attachments") or request.get("history"))
        question = await asyncio.to_thread(question_of, request) if has_files else question_of(request)
        seconds: list[float | None] = [None]
        name, keeps = question.thread, self._keeps(request)
        if question.history:
            if keeps:
                raise UsageError("a prompt with earlier messages has no thread; leave out 'thread' and --threads")
            name = uuid7()
            await asyncio.to_thread(remember, self._store, question.history, name)

        def choose(thread: ThreadInfo) -> Agent:
            agent, seconds[0] = self._agent_of(request, thread)
            return agent

        handle = await self._runner(keeps=keeps).start(
            choose,
            user_message=question.message,
            thread_id=name,
            attachments=question.attachments,
        )
        limit = _TimeLimit(handle, seconds[0])
        turn.begin = limit.begin
        if turn.sent:
            limit.begin()
        try:
            async with handle:
                result = await handle.wait()
        finally:
            limit.end()
        if limit.is_over and result.state is RunState.CANCELLED:
            result = replace(result, state=RunState.DEGRADED, reason="max_wall_time_s")
        return _Ended(result, handle.exception)

    def _keeps(self, request: JsonObject) -> bool:
        return self._keeps_threads or "thread" in request

    def _agent_of(self, request: JsonObject, thread: ThreadInfo) -> tuple[Agent, float | None]:
        """Return the agent of a prompt, and how long it may take from its first request on, which is counted here."""
        own = _OF_AN_AGENT.intersection(request) or "thread" in request
        default = request.get("default_model")
        agent = None if own else self._agents.get(default)
        if agent is None:
            agent = agent_for(self._setup, flags_of_prompt(self._defaults, request), thread)
            if not own:
                self._agents[default] = agent
        seconds = agent.fail_safe.max_wall_time_s
        if seconds is not None:
            agent = dataclasses.replace(agent, fail_safe=dataclasses.replace(agent.fail_safe, max_wall_time_s=None))
        return agent, seconds


class _TimeLimit:
    """Cancels a run after some seconds from its first request on: the time in which it waits for one does not count."""

    def __init__(self, handle: RunHandle, seconds: float | None) -> None:
        self.is_over = False
        self._handle = handle
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        if self._seconds is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._cancel)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _cancel(self) -> None:
        self.is_over = True
        started(self._handle.cancel())
