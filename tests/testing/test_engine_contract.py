"""The contract suite of engines finds engines that lose prompts, pay them twice or pass limits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest

from afkcli.batch.batch_file import BatchFile
from afkcli.batch.local_engine import LocalEngine
from afkcli.core.contract.engine import (
    BatchInfo,
    BatchLimits,
    Claimed,
    Engine,
    Grant,
    News,
    Outcome,
    PromptState,
    QueuedPrompt,
    Reservation,
    Submitted,
    TakenOver,
    Used,
)
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.structs import replace
from afkcli.testing.engine_contract import EngineContract
from afkcli.testing.store_steps import ShiftedTime


class TakesLateOutcomes(LocalEngine):
    """It keeps an outcome whose claim was taken over."""

    async def settle(self, name: str, outcomes: Sequence[Outcome]) -> Sequence[str]:
        def settle(file: BatchFile) -> list[str]:
            for outcome in outcomes:
                row = file._row(outcome.id)
                if row is not None and not file.settle(outcome):
                    file._settle(row, 2, "{}", None)
            return []

        return await self._group(name).write(settle)


class QueuesWhatWasSent(LocalEngine):
    """It has the prompts of dead workers asked again, whether they were sent or not."""

    async def take_over(self, name: str) -> TakenOver:
        found = await super().take_over(name)
        again = await self.retry(name, [PromptState.PARKED])
        return TakenOver(queued=found.queued + again)


class ForgetsWhatWasReserved(LocalEngine):
    """A request that was allowed does not count as sent."""

    async def reserve(self, name: str, reservations: Sequence[Reservation]) -> Sequence[Grant]:
        info = await self.batch(name)
        if info is not None and info.limits == BatchLimits():
            return [Grant(allowed=True)] * len(reservations)
        return await super().reserve(name, reservations)


class CountsByTheMinuteOfTheClock(LocalEngine):
    """Its minute begins with the minute of the clock, so two minutes' requests may leave within seconds."""

    async def reserve(self, name: str, reservations: Sequence[Reservation]) -> Sequence[Grant]:
        import time

        info = await self.batch(name)
        assert info is not None
        if info.limits.requests_per_minute is None:
            return await super().reserve(name, reservations)
        grants = []
        for _ in reservations:
            minute = int(time.time() // 60)
            used = self.__dict__.setdefault("used", {})
            used[minute] = used.get(minute, 0) + 1
            allowed = used[minute] <= info.limits.requests_per_minute
            grants.append(Grant(allowed=allowed, wait_s=0.0 if allowed else 60 - time.time() % 60))
        return grants


class SlowsDownItselfAlone(LocalEngine):
    """`Retry-After` holds back the requests of one worker."""

    async def slow_down(self, name: str, model: str, seconds: float) -> None:
        pass


class CountsCostWhenItIsKnown(LocalEngine):
    """What requests in progress may cost is not counted."""

    async def reserve(self, name: str, reservations: Sequence[Reservation]) -> Sequence[Grant]:
        return await super().reserve(name, [replace(item, cost_usd=0.0) for item in reservations])


class CountsTheInputOnly(LocalEngine):
    """What an answer without a limit may take is not counted before it is there."""

    async def reserve(self, name: str, reservations: Sequence[Reservation]) -> Sequence[Grant]:
        return await super().reserve(name, [replace(item, open_ended=False) for item in reservations])


class KeepsReservations(LocalEngine):
    """What a request did not use stays reserved."""

    async def use(self, name: str, used: Sequence[Used]) -> None:
        pass


class IgnoresTheConcurrency(LocalEngine):
    async def create(self, name: str, settings: JsonObject, limits: BatchLimits) -> BatchInfo:
        info = await super().create(name, settings, replace(limits, concurrency=None))
        return replace(info, limits=limits)


class ReplacesSilently(LocalEngine):
    """A changed prompt takes the place of the old one."""

    async def submit(self, name: str, prompts: Sequence[QueuedPrompt], *, replace: bool = False) -> Submitted:
        return await super().submit(name, prompts, replace=True)


class ClaimsWhilePaused(LocalEngine):
    async def pause(self, name: str, reason: str) -> None:
        await self._group(name).write(lambda file: None)


class FollowsByPlace(LocalEngine):
    """It returns outcomes in the order of the input, so a reader that goes on misses some."""

    async def watch(self, name: str, *, after: int = 0, limit: int = 1000, wait_s: float = 0.0) -> News:
        news = await super().watch(name, after=0, limit=10**6, wait_s=wait_s)
        by_place = sorted(news.outcomes, key=lambda item: item.index)
        return replace(news, outcomes=[item for item in by_place if item.sequence > after][:limit])


class RetriesEverything(LocalEngine):
    async def retry(self, name: str, states: Collection[PromptState], ids: Collection[str] | None = None) -> int:
        return await super().retry(name, [*states, PromptState.DONE], ids)


class NeverSaysThatItIsOver(LocalEngine):
    async def claim(self, name: str, worker: str, limit: int, *, wait_s: float = 0.0) -> Claimed:
        return replace(await super().claim(name, worker, limit, wait_s=min(wait_s, 0.2)), is_over=False)


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (TakesLateOutcomes, "test_an_outcome_that_comes_after_the_take_over_is_not_kept"),
        (QueuesWhatWasSent, "test_what_a_dead_worker_may_have_sent_is_parked_and_the_rest_is_queued"),
        (ForgetsWhatWasReserved, "test_what_a_dead_worker_may_have_sent_is_parked_and_the_rest_is_queued"),
        (CountsByTheMinuteOfTheClock, "test_no_minute_has_more_requests_than_the_limit"),
        (SlowsDownItselfAlone, "test_a_model_is_slowed_down_for_all_workers_and_others_are_not"),
        (CountsCostWhenItIsKnown, "test_the_cost_of_a_batch_is_never_more_than_its_limit"),
        (CountsTheInputOnly, "test_requests_without_a_limit_of_their_answer_are_counted_by_the_answers_before"),
        (CountsTheInputOnly, "test_the_first_answer_without_a_limit_is_awaited_where_the_cost_has_one"),
        (KeepsReservations, "test_tokens_that_were_not_used_are_free_again"),
        (IgnoresTheConcurrency, "test_workers_together_have_no_more_prompts_than_the_concurrency"),
        (ReplacesSilently, "test_a_changed_prompt_is_named_and_left_or_replaced"),
        (ClaimsWhilePaused, "test_of_a_paused_batch_nothing_is_claimed_or_sent_until_it_is_created_again"),
        (FollowsByPlace, "test_outcomes_are_followed_in_the_order_in_which_they_were_settled"),
        (RetriesEverything, "test_prompts_are_retried_by_state_and_id"),
        (NeverSaysThatItIsOver, "test_queued_prompts_are_cancelled_and_others_stay"),
    ],
)
def test_a_faulty_engine_is_found(kind: type[LocalEngine], found: str, tmp_path: Path) -> None:
    class Suite(EngineContract):
        def make_engine(self, path: Path) -> Engine:
            return kind(path)

    suite: Any = Suite()
    suite._time = ShiftedTime()
    suite._time.start()
    try:
        with pytest.raises(Exception):  # noqa: B017 - an assertion, or what the fault leads to
            getattr(suite, found)(tmp_path)
    finally:
        suite._time.stop()
