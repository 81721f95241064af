"""What the contract of engines promises of limits: requests and tokens in any minute, `Retry-After`, the cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from afkcli.core.contract.engine import BatchLimits, ClaimedPrompt, Engine, Used
from afkcli.testing.engine_case import (
    FAILED,
    QUEUED,
    EngineCase,
    allowed,
    asked_for,
    batch_of,
    claimed_by,
    outcome_of,
    request_sent,
    with_engine,
)


class LimitTests(EngineCase):
    """`reserve`, `use` and `slow_down`."""

    @with_engine
    async def test_no_minute_has_more_requests_than_the_limit(self, engine: Engine, path: Path) -> None:
        await batch_of(engine, 30, requests_per_minute=6)
        times = await self._times_of_requests(engine, await claimed_by(engine), 20)
        assert len(times) == 20
        assert _most_in_a_minute([(at, 1) for at in times]) <= 6
        assert times[-1] - times[0] < 20 / 6 * 60 * 1.3 + 60, "the limit is nearly reached"

    async def _times_of_requests(
        self, engine: Engine, prompts: list[ClaimedPrompt], number: int, **fields: Any
    ) -> list[float]:
        """Send requests as fast as they are allowed, and return at which moment each was allowed."""
        now, waiting = 0.0, list(prompts)
        times: list[float] = []
        while len(times) < number:
            grants = await engine.reserve("b", [asked_for(prompt, **fields) for prompt in waiting[:5]])
            assert all(grant.refused is None for grant in grants)
            times += [now for grant in grants if grant.allowed]
            waiting = [p for p, g in zip(waiting, grants, strict=False) if not g.allowed] + waiting[len(grants) :]
            if not any(grant.allowed for grant in grants):
                step = min(max(min(grant.wait_s for grant in grants), 0.01), 30.0)
                self.pass_time(step)
                now += step
        return times

    @with_engine
    async def test_no_minute_has_more_tokens_than_the_limit(self, engine: Engine, path: Path) -> None:
        await batch_of(engine, 30, tokens_per_minute=1000)
        prompts = await claimed_by(engine)
        (grant,) = await engine.reserve("b", [asked_for(prompts.pop(), tokens=1001)])
        assert grant.refused == "tokens_per_minute"
        times = await self._times_of_requests(engine, prompts, 8, tokens=300)
        assert _most_in_a_minute([(at, 300) for at in times]) <= 1000

    @with_engine
    async def test_tokens_that_were_not_used_are_free_again(self, engine: Engine, path: Path) -> None:
        await batch_of(engine, 3, tokens_per_minute=1000)
        one, two, three = await claimed_by(engine)
        await request_sent(engine, one, tokens=900)
        (grant,) = await engine.reserve("b", [asked_for(two, tokens=900)])
        assert not grant.allowed
        assert grant.wait_s > 0
        await engine.use("b", [Used(id=one.id, claim=one.claim, tokens=100)])
        (grant,) = await engine.reserve("b", [asked_for(two, tokens=900)])
        assert grant.allowed
        (grant,) = await engine.reserve("b", [asked_for(three, tokens=1)])
        assert not grant.allowed
        info = await engine.batch("b")
        assert info is not None
        assert (info.tokens, info.requests) == (1000, 2)

    @with_engine
    async def test_requests_without_a_limit_of_their_answer_are_counted_by_the_answers_before(
        self, engine: Engine, path: Path
    ) -> None:
        await batch_of(engine, 12, tokens_per_minute=10_000)
        first, *others = await claimed_by(engine)
        (grant,) = await engine.reserve("b", [asked_for(first, tokens=10, open_ended=True)])
        assert grant.allowed
        assert grant.tokens == 10_000, "nothing is known, so it may take all that the minute has"
        (grant,) = await engine.reserve("b", [asked_for(others[0], tokens=10, open_ended=True)])
        assert not grant.allowed
        assert grant.refused is None
        await engine.use("b", [Used(id=first.id, claim=first.claim, tokens=2000, output_tokens=1990)])
        grants = await engine.reserve("b", [asked_for(each, tokens=10, open_ended=True) for each in others])
        sent = [grant.tokens for grant in grants if grant.allowed]
        assert 2 <= len(sent) <= 4, "each counts as the one before, and a little more"
        assert min(sent) >= 2000
        assert 2000 + sum(sent) <= 10_000
        (grant,) = await engine.reserve("b", [asked_for(others[-1], tokens=10_001, open_ended=True)])
        assert grant.refused == "tokens_per_minute"

    @with_engine
    async def test_the_first_answer_without_a_limit_is_awaited_where_the_cost_has_one(
        self, engine: Engine, path: Path
    ) -> None:
        await batch_of(engine, 4, max_cost_usd=1.0)
        one, two, three, four = await claimed_by(engine)
        asked = [asked_for(each, cost_usd=0.1, open_ended=True) for each in (one, two, three)]
        assert allowed(await engine.reserve("b", asked)) == [True, False, False]
        await engine.use("b", [Used(id=one.id, claim=one.claim, tokens=20, cost_usd=0.2, output_tokens=15)])
        assert allowed(await engine.reserve("b", asked[1:])) == [True, True]
        (grant,) = await engine.reserve("b", [asked_for(four, cost_usd=0.9, open_ended=True)])
        assert (grant.refused, grant.longest_output) == ("max_cost", 15)

    @with_engine
    async def test_a_model_is_slowed_down_for_all_workers_and_others_are_not(self, engine: Engine, path: Path) -> None:
        await batch_of(engine, 3)
        other = self.make_engine(path)
        try:
            (one,) = await claimed_by(engine, 1, "w1")
            two, three = await claimed_by(other, 2, "w2")
            await engine.slow_down("b", "one/model", 40.0)
            await engine.slow_down("b", "one/model", 1.0)
            (grant,) = await other.reserve("b", [asked_for(two)])
            assert not grant.allowed
            assert 30 < grant.wait_s <= 40
            (grant,) = await other.reserve("b", [asked_for(three, model="one/other")])
            assert grant.allowed
            self.pass_time(41)
            grants = [*await other.reserve("b", [asked_for(two)]), *await engine.reserve("b", [asked_for(one)])]
            assert allowed(grants) == [True, True]
        finally:
            await engine.settle("b", [outcome_of(prompt) for prompt in (one, two, three)])
            await other.aclose()

    @with_engine
    async def test_the_cost_of_a_batch_is_never_more_than_its_limit(self, engine: Engine, path: Path) -> None:
        await batch_of(engine, 5, max_cost_usd=1.0)
        one, two, three, four, five = await claimed_by(engine)
        grants = await engine.reserve("b", [asked_for(prompt, cost_usd=0.4) for prompt in (one, two, three)])
        assert allowed(grants) == [True, True, False]
        assert grants[2].refused is None, "the others may turn out to cost less"
        await engine.use("b", [Used(id=one.id, claim=one.claim, cost_usd=0.1)])
        await request_sent(engine, three, cost_usd=0.4)
        await engine.settle("b", [outcome_of(one, cost=0.1), outcome_of(two, cost=0.4), outcome_of(three, cost=0.4)])
        (grant,) = await engine.reserve("b", [asked_for(four, cost_usd=0.2)])
        assert grant.refused == "max_cost"
        await request_sent(engine, four, cost_usd=0.05)
        (grant,) = await engine.reserve("b", [asked_for(four, cost_usd=0.04, more=True)])
        assert grant.allowed
        (grant,) = await engine.reserve("b", [asked_for(four, cost_usd=0.04, more=True)])
        assert grant.refused == "max_cost"
        await engine.settle("b", [outcome_of(four, FAILED, None), outcome_of(five, QUEUED)])
        info = await engine.batch("b")
        assert info is not None
        assert info.cost_usd == pytest.approx(0.99), "what a request may have cost counts where its cost is unknown"
        assert info.reserved_usd == pytest.approx(0.0)

    @with_engine
    async def test_what_was_spent_counts_after_the_limit_was_changed(self, engine: Engine, path: Path) -> None:
        await batch_of(engine, 2, max_cost_usd=1.0)
        one, two = await claimed_by(engine)
        await request_sent(engine, one, cost_usd=0.9)
        await engine.settle("b", [outcome_of(one, cost=0.9)])
        await engine.create("b", {}, BatchLimits(max_cost_usd=1.2))
        (grant,) = await engine.reserve("b", [asked_for(two, cost_usd=0.4)])
        assert grant.refused == "max_cost"
        (grant,) = await engine.reserve("b", [asked_for(two, cost_usd=0.3)])
        assert grant.allowed


def _most_in_a_minute(sent: list[tuple[float, int]]) -> int:
    """Return the greatest sum within any 60 seconds, of moments and amounts."""
    return max(sum(amount for at, amount in sent if start <= at < start + 60) for start, _ in sent)
