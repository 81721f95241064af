"""What `afk batch` asks of an engine: the state of many prompts, shared by the workers that run them.

An engine keeps prompts and outcomes as plain JSON and knows no meaning of either. It counts what the workers of a batch
may do together, and it proves which workers are dead. Since: 0.2.

The way of a prompt: `submit` makes it `queued`; `claim` gives it to one worker (`running`); `reserve` allows each
request of it, and is durable before it returns; `settle` keeps its outcome (`done`, `failed` or `cancelled`). If its
worker dies between the first `reserve` and `settle`, its request may have been paid: `take_over` makes it `parked`, and
it is not claimed again before `retry`.

A prompt that is answered much later, by the batches of a provider, is made `sent` by `settle`. It has no worker then,
and its claim stays good: with it, any process settles it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.structs import FrozenStruct, field


class PromptState(StrEnum):
    """Where a prompt of a batch is.

    `parked`: its worker died, and its request may have been paid. `sent`: a provider answers it later, and no worker
    has it.
    """

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    PARKED = "parked"
    CANCELLED = "cancelled"
    SENT = "sent"


SETTLED_STATES = frozenset({PromptState.DONE, PromptState.FAILED, PromptState.PARKED, PromptState.CANCELLED})
"""The states of prompts that no worker has or gets, unless `retry` makes them `queued` again."""


class QueuedPrompt(FrozenStruct, kw_only=True):
    """A prompt as it is submitted: `digest` is that of `request`, `index` its place in the input, from 0.

    `id` is unique in the batch: 1 to 200 characters. `request` holds no secret: the workers have their own.
    """

    id: str
    index: int
    digest: str
    request: JsonObject


class ClaimedPrompt(FrozenStruct, kw_only=True):
    """A prompt that a worker has. `claim` is different for every claim; `attempt` counts from 1."""

    id: str
    claim: str
    attempt: int
    request: JsonObject


class Claimed(FrozenStruct, kw_only=True):
    """What a worker gets of a batch. `is_over` is whether nothing is queued or running, or the batch is paused."""

    prompts: Sequence[ClaimedPrompt] = ()
    is_over: bool = False


class Submitted(FrozenStruct, kw_only=True):
    """What `submit` did: how many prompts are new, and the ids of those that the batch has with another digest."""

    new: int = 0
    changed: Sequence[str] = ()


class BatchLimits(FrozenStruct, kw_only=True):
    """What all workers of a batch together may do; None is no limit.

    `concurrency` is how many prompts may be running at once. The others are of all requests: no 60 seconds have more
    than `requests_per_minute` or `tokens_per_minute` (input and output), and all together cost no more than
    `max_cost_usd`, in US dollars.
    """

    concurrency: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_cost_usd: float | None = None


class Reservation(FrozenStruct, kw_only=True):
    """A request that a worker is about to send for a claimed prompt, and the most that it may use in all.

    `id` and `claim` are those of the prompt. `model` is `provider/model`. With `more` no request is sent: it adds
    `tokens` and `cost_usd` to the last one, whose answer is longer than what was reserved for it.

    With `open_ended` it is not known how long its answer may be: `tokens` are those of the input, and the engine adds
    what answers of the batch took so far. Until it knows one, such a request takes all that the minute has left, and
    where the cost has a limit none is allowed beside another.
    """

    id: str
    claim: str
    model: str
    tokens: int = 0
    cost_usd: float = 0.0
    more: bool = False
    open_ended: bool = False


class Grant(FrozenStruct, kw_only=True):
    """The answer to a reservation: sent now if `allowed`, else asked again after `wait_s` seconds.

    `refused` is why it can never be allowed: "max_cost", "tokens_per_minute" (more than fit into a minute), "lost"
    (the claim was taken over) or "paused" (the batch is to stop, and nothing of this prompt was sent). `tokens` is how
    many were counted for it. With "max_cost", `longest_output` is how many tokens the longest answers had so far, by
    which a smaller request may be made; 0 if none is known.
    """

    allowed: bool = False
    wait_s: float = 0.0
    refused: str | None = None
    tokens: int = 0
    longest_output: int = 0


class Used(FrozenStruct, kw_only=True):
    """What the last request of a claimed prompt really used, in place of what was reserved for it.

    None where it is unknown: what was reserved counts then. `tokens` are input and output, `output_tokens` those of
    them that are output.
    """

    id: str
    claim: str
    tokens: int | None = None
    cost_usd: float | None = None
    output_tokens: int | None = None


class Outcome(FrozenStruct, kw_only=True):
    """How a claimed prompt ended: `state` is `done`, `failed`, `cancelled`, or `queued` to give it back unsent.

    It is `sent` for a prompt that is answered later. One that is `sent` may become `parked` by an outcome, too.
    `result` is plain JSON. `cost_usd` is the cost of all requests of the claim, in place of what was reserved and used
    for them; None if it is unknown, so that those count. `tokens` are those of all its requests, input and output; they
    count where nothing was reserved for them; None if they are unknown.
    """

    id: str
    claim: str
    state: PromptState
    result: JsonObject = field(default_factory=dict)
    cost_usd: float | None = None
    tokens: int | None = None


class SettledPrompt(FrozenStruct, kw_only=True):
    """A settled prompt as it is read again.

    `sequence` grows with each prompt that is settled in a batch; a prompt that is settled again gets a new one.
    `attempts` is how often it was claimed and a request of it allowed.
    """

    sequence: int
    id: str
    index: int
    digest: str
    state: PromptState
    attempts: int
    result: JsonObject
    cost_usd: float | None = None


class PromptInfo(FrozenStruct, kw_only=True):
    """A prompt in a list: without its request and its result. `sequence` is that of its outcome, 0 without one."""

    id: str
    index: int
    digest: str
    state: PromptState
    attempts: int = 0
    sequence: int = 0


class BatchInfo(FrozenStruct, kw_only=True):
    """A batch: `settings` is plain JSON of whoever created it, without secrets; `created` is RFC 3339.

    `counts` has the number of prompts by state, without those of which there is none. `cost_usd` is what was used, and
    `reserved_usd` what running and parked prompts may have used in addition. `unknown_costs` is how many outcomes had a
    cost that is not known, so that `cost_usd` is not all. `paused` is why nothing is claimed.
    """

    name: str
    created: str
    settings: JsonObject
    limits: BatchLimits
    counts: Mapping[PromptState, int] = field(default_factory=dict)
    cost_usd: float = 0.0
    reserved_usd: float = 0.0
    tokens: int = 0
    requests: int = 0
    paused: str | None = None
    unknown_costs: int = 0


class News(FrozenStruct, kw_only=True):
    """What happened in a batch: outcomes by rising `sequence`, and the batch as it is after the last of them."""

    batch: BatchInfo
    outcomes: Sequence[SettledPrompt] = ()


class TakenOver(FrozenStruct, kw_only=True):
    """How many prompts of dead workers were parked, and how many of which nothing was sent are queued again."""

    parked: int = 0
    queued: int = 0


class Engine(Protocol):
    """Where batches are kept. All methods are asynchronous, and none of them blocks the event loop.

    An object belongs to one process, and several processes, on one machine or many, have their own object for the same
    batches. Every method may raise `EngineError`, its message fit for a person. One that names a batch raises
    `UnknownNameError` if there is no such batch.
    """

    @property
    def name(self) -> str:
        """The name of the engine, as in the entry point `engine.<name>`."""
        ...

    # -- the batch ---------------------------------------------------------------------------------------------------

    async def create(self, name: str, settings: JsonObject, limits: BatchLimits) -> BatchInfo:
        """Create the batch `name`, or give the one that is there these settings and limits; it is not paused then.

        The limits hold before any worker claims again. What was spent stays counted.
        """
        ...

    async def batch(self, name: str) -> BatchInfo | None:
        """Return the batch `name`, or None."""
        ...

    async def batches(self) -> Sequence[BatchInfo]:
        """Return all batches, the last created first."""
        ...

    async def pause(self, name: str, reason: str) -> None:
        """Have no prompt claimed and no first request of a prompt allowed, until `create` is called again."""
        ...

    async def remove(self, name: str) -> None:
        """Delete the batch with all requests and results; nothing happens if there is no such batch.

        Raises:
            EngineError: a living worker has prompts of it.
        """
        ...

    # -- the prompts -------------------------------------------------------------------------------------------------

    async def submit(self, name: str, prompts: Sequence[QueuedPrompt], *, replace: bool = False) -> Submitted:
        """Add prompts, durably. An id that the batch has with the same digest is left as it is; only its index is set.

        A prompt with another digest takes the place of one that is queued and of which nothing was ever sent. Else it
        is left as it is too, and named in the answer; with `replace` it takes the place of the old one and is queued,
        unless that one is running or `sent`.
        """
        ...

    async def prompts(self, name: str, *, after: int = -1, limit: int = 1000) -> Sequence[PromptInfo]:
        """Return prompts with an index greater than `after`, by rising index."""
        ...

    async def outcomes(self, name: str, ids: Sequence[str]) -> Sequence[SettledPrompt]:
        """Return the outcomes of those of the prompts `ids` that are settled, in the order of `ids`.

        One that is `sent` is among them with its result; its sequence is 0, and `watch` does not return it.
        """
        ...

    async def watch(self, name: str, *, after: int = 0, limit: int = 1000, wait_s: float = 0.0) -> News:
        """Return the outcomes with a sequence greater than `after`, waiting up to `wait_s` until there is one.

        No outcome appears later with a sequence that is lower than one that was returned.
        """
        ...

    async def retry(self, name: str, states: Collection[PromptState], ids: Collection[str] | None = None) -> int:
        """Queue settled prompts in one of `states` again (only those in `ids`, if given), and return how many.

        What they cost, or may have cost, stays counted.
        """
        ...

    async def cancel(self, name: str, ids: Collection[str] | None = None) -> int:
        """Make queued prompts `cancelled` (only those in `ids`, if given), and return how many."""
        ...

    # -- the workers -------------------------------------------------------------------------------------------------

    async def join(self, worker: str) -> None:
        """Make this process a worker, which is alive until it ends or calls `aclose`. `worker` is unique for ever."""
        ...

    async def claim(self, name: str, worker: str, limit: int, *, wait_s: float = 0.0) -> Claimed:
        """Give up to `limit` queued prompts to a worker, in the order of their index as far as that is cheap.

        It waits up to `wait_s` for the first one. Workers together never get more than `BatchLimits.concurrency`.
        """
        ...

    async def reserve(self, name: str, reservations: Sequence[Reservation]) -> Sequence[Grant]:
        """Allow requests, and count them as sent: what is allowed is durable when this returns.

        From the first request on, `take_over` parks the prompt. An engine that would have to write once more for this
        may count from the claim on, and say so in its documentation.

        Returns:
            A grant for each reservation, in the same order.
        """
        ...

    async def use(self, name: str, used: Sequence[Used]) -> None:
        """Say what requests really used, so that the limits count that; it need not be durable.

        The prompt is running or `sent`.
        """
        ...

    async def slow_down(self, name: str, model: str, seconds: float) -> None:
        """Allow no request of `model` (`provider/model`) to any worker for so long: its server said `Retry-After`."""
        ...

    async def settle(self, name: str, outcomes: Sequence[Outcome]) -> Sequence[str]:
        """Keep outcomes, which are durable when this returns.

        Returns:
            The ids of those that were not kept, because another worker has the prompt by now or it was parked.
            The claim of a prompt that is `sent` stays the same, also if its worker dies.
        """
        ...

    async def take_over(self, name: str) -> TakenOver:
        """Take the prompts of workers that are proven dead: park what may have been sent, queue the rest again."""
        ...

    async def aclose(self) -> None:
        """Close the engine. A worker leaves: what it still has is taken over as from a dead one."""
        ...
