"""Requests and answers of prompts that a provider answers later: each prompt is run twice, and asks no server.

The first run ends where its request would leave, and gives the request. The second one gets the answer that the batch
of the provider had, as if it came from a model. So a prompt is built, checked and counted by the code of any other run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, NamedTuple

from afkcli.batch.batching_providers import discounted
from afkcli.batch.gated_provider import TURN
from afkcli.batch.prompt_run import PromptRunner
from afkcli.batch.results import refused
from afkcli.core.contract.engine import ClaimedPrompt, Outcome, PromptState
from afkcli.core.contract.errors import ErrorKind, LimitReachedError, ProviderError, UsageError
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.messages import (
    ModelEvent,
    ModelRequest,
    ModelResponse,
    ModelWarning,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallPart,
)
from afkcli.core.contract.protocols import Price, Provider
from afkcli.wiring.runner import Runner
from afkcli.wiring.surroundings import runner_config
from afkcli.wiring.wrapped_providers import ProviderWrapper

if TYPE_CHECKING:
    from afkcli.batch.passing_store import PassingStore
    from afkcli.batch.prompt import Defaults
    from afkcli.wiring.setup import Setup

_TAKEN = "its request was taken"
ONE_STEP = "a batch of the provider answers one request for each prompt"
NOT_ASKED_AGAIN = "the answer does not fit its schema, and a batch of the provider asks once; run it without --via"
EXPIRED = "the provider did not get to it in time; it was not paid. `afk batch retry` asks it again"
CANCELLED = "the batch at the provider was cancelled before it was asked; it was not paid"


class Taken(NamedTuple):
    """The request of a prompt, and the name of the provider that would get it."""

    provider: str
    request: ModelRequest


class Collected(NamedTuple):
    """What became of a prompt before it was sent: its request, or how it ended without one."""

    taken: Taken | None
    outcome: Outcome


class Requests:
    """Makes the requests of prompts, and makes outcomes of their answers.

    Args:
        setup: the config and the plugins.
        defaults: what the command line says for all prompts.
        price_factor: returns what a request of a provider costs, as a part of its usual price.
    """

    def __init__(self, setup: Setup, defaults: Defaults, price_factor: Callable[[str], float]) -> None:
        self._taken: dict[str, Taken] = {}
        self._answers: dict[str, tuple[ModelResponse, tuple[ModelWarning, ...]]] = {}

        def runner(wrap: Callable[[Provider], Provider]) -> Callable[[PassingStore | None], Runner]:
            def make(store: PassingStore | None) -> Runner:
                if store is None:
                    raise UsageError(
                        f"{ONE_STEP}, without a thread; leave out 'thread' and --threads, or --via provider"
                    )
                return Runner(
                    runner_config(setup), store=store, sinks=(), setup=setup, wrap=wrap, price=self._price(price_factor)
                )

            return make

        takes = runner(lambda provider: _TakingProvider(provider, self._taken))
        answers = runner(lambda provider: _AnsweringProvider(provider, self._answers))
        self._asking = PromptRunner(setup, takes, defaults, keeps_threads=False)
        self._answering = PromptRunner(setup, answers, defaults, keeps_threads=False)

    @staticmethod
    def _price(factor: Callable[[str], float]) -> Callable[[str, Price | None], Price | None]:
        return lambda model, price: None if price is None else discounted(price, factor(model.partition("/")[0]))

    async def aclose(self) -> None:
        await self._asking.aclose()
        await self._answering.aclose()

    async def collect(self, prompt: ClaimedPrompt) -> Collected:
        """Return the request of a prompt; where there is none, the outcome says why."""
        ran = await self._asking.run(prompt)
        return Collected(self._taken.pop(prompt.id, None), ran.outcome)

    async def answer(
        self, prompt: ClaimedPrompt, response: ModelResponse, warnings: tuple[ModelWarning, ...]
    ) -> Outcome:
        """Return the outcome of a prompt that was answered."""
        self._answers[prompt.id] = response, warnings
        try:
            return (await self._answering.run(prompt)).outcome
        finally:
            self._answers.pop(prompt.id, None)


def failed(prompt: ClaimedPrompt, error: Exception, began: float, ended: float) -> Outcome:
    """Return the outcome of a prompt that failed, and is not paid."""
    form = refused(prompt.request, error, started=began, ended=ended)
    if isinstance(error, ProviderError):
        form["error"] = {**form["error"], "status": error.status}
    return Outcome(id=prompt.id, claim=prompt.claim, state=PromptState.FAILED, result=form, cost_usd=0.0)


def unanswered(prompt: ClaimedPrompt, why: str, began: float, ended: float) -> Outcome:
    """Return the outcome of a prompt that the provider did not work on: `expired` or `cancelled`."""
    form = refused(prompt.request, ProviderError(EXPIRED, kind=ErrorKind.TIMEOUT), started=began, ended=ended)
    message = EXPIRED if why == "expired" else CANCELLED
    form["error"] = {"kind": why, "message": message, "status": None}
    state = PromptState.FAILED if why == "expired" else PromptState.CANCELLED
    return Outcome(id=prompt.id, claim=prompt.claim, state=state, result=form, cost_usd=0.0)


def lost(prompt: ClaimedPrompt, why: str) -> Outcome:
    """Return the outcome of a prompt that may have been paid, and has no answer."""
    carried: JsonObject = {name: prompt.request[name] for name in ("custom_id", "metadata") if name in prompt.request}
    form = {**carried, "error": {"kind": "parked", "message": why, "status": None}}
    return Outcome(id=prompt.id, claim=prompt.claim, state=PromptState.PARKED, result=form)


class _TakingProvider(ProviderWrapper):
    """Keeps the first request of each prompt, and ends its run."""

    def __init__(self, provider: Provider, taken: dict[str, Taken]) -> None:
        super().__init__(provider)
        self._taken = taken

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        turn = TURN.get()
        self._taken.setdefault(turn.id, Taken(self.name, request))
        turn.refused = "paused"  # so that the run leaves no record: nothing was asked
        raise LimitReachedError(_TAKEN, limit="via_provider")
        yield  # it is a generator

    async def count_tokens(self, request: ModelRequest) -> int:
        return 0  # nothing is sent by this run, so there is nothing to count

    async def prepare(self) -> None:
        """Prepare nothing."""

    async def aclose(self) -> None:
        await self._provider.aclose()


class _AnsweringProvider(ProviderWrapper):
    """Answers the first request of each prompt with what the provider's batch had for it."""

    def __init__(self, provider: Provider, answers: dict[str, tuple[ModelResponse, tuple[ModelWarning, ...]]]) -> None:
        super().__init__(provider)
        self._answers = answers

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        turn = TURN.get()
        found = self._answers.pop(turn.id, None)
        if found is None:
            raise ProviderError(NOT_ASKED_AGAIN, kind=ErrorKind.INVALID_OUTPUT)
        turn.sent = True
        turn.begin()
        response, warnings = found
        for warning in warnings:
            yield warning
        for part in response.message.parts:
            if isinstance(part, TextPart):
                yield TextDelta(part.text)
            elif isinstance(part, ReasoningPart) and part.text:
                yield ReasoningDelta(part.text)
            elif isinstance(part, ToolCallPart):
                yield ToolCallDelta(part.id, part.name, "")
        yield response

    async def count_tokens(self, request: ModelRequest) -> int:
        return 0  # the usage says what it was

    async def prepare(self) -> None:
        """Prepare nothing."""

    async def aclose(self) -> None:
        await self._provider.aclose()
