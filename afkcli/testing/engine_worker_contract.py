"""What the contract of engines promises the workers of a batch: claims, outcomes, and what the dead leave."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from afkcli.core.contract.engine import Engine, Grant, Outcome, PromptState, TakenOver, Used
from afkcli.core.contract.structs import replace
from afkcli.testing.engine_case import (
    CANCELLED,
    DONE,
    FAILED,
    PARKED,
    QUEUED,
    SENT,
    WAIT_S,
    EngineCase,
    all_settled,
    asked_for,
    batch_of,
    claimed_by,
    counts_of,
    outcome_of,
    prompts_of,
    request_sent,
    with_engine,
)


class WorkerTests(EngineCase):
    """`claim`, `settle`, prompts that are `sent`, and `take_over`."""

    @with_engine
    async def test_each_prompt_goes_to_one_worker(self, engine: Engine, path: Path) -> None:
        await batch_of(engine, 20)
        other = self.make_engine(path)
        try:
            parts = await asyncio.gather(
                *(
                    claimed_by(each, 4, f"w{number}")
                    for number, each in enumerate([engine, other, engine, other, engine])
                )
            )
        finally:
            claims = [prompt for part in parts for prompt in part]
            assert sorted(prompt.id for prompt in claims) == sorted(f"p{n}" for n in range(20))
            assert len({prompt.claim for prompt in claims}) == 20
            await engine.settle("b", [outcome_of(prompt) for prompt in claims])
            await other.aclose()
        assert (await engine.claim("b", "w0", 5, wait_s=WAIT_S)).is_over

    @with_engine
    async def test_workers_together_have_no_more_prompts_than_the_concurrency(self, engine: Engine, path: Path) -> None:
        await batch_of(engine, 5, concurrency=3)
        first = await claimed_by(engine, 2, "w1")
        second = await claimed_by(engine, 9, "w2")
        assert (len(first), len(second)) == (2, 1)
        none = await engine.claim("b", "w1", 9)
        assert list(none.prompts) == []
        assert not none.is_over
        await engine.settle("b", [outcome_of(first[0])])
        assert len(await claimed_by(engine, 9, "w1")) == 1

    @with_engine
    async def test_claim_waits_for_a_prompt(self, engine: Engine, path: Path) -> None:
        await batch_of(engine, 1)
        (prompt,) = await claimed_by(engine)
        waiting = asyncio.ensure_future(engine.claim("b", "w1", 1, wait_s=WAIT_S))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await engine.settle("b", [outcome_of(prompt, QUEUED)])
        assert [item.id for item in (await waiting).prompts] == ["p0"]

    @with_engine
    async def test_a_prompt_that_is_given_back_unsent_counts_as_no_attempt(self, engine: Engine, path: Path) -> None:
        await batch_of(engine, 1)
        (prompt,) = await claimed_by(engine)
        assert list(await engine.settle("b", [outcome_of(prompt, QUEUED)])) == []
        assert list(await engine.settle("b", [outcome_of(prompt)])) == ["p0"], "the old claim is over"
        (again,) = await claimed_by(engine)
        if not self.sent_by_claim:
            assert again.attempt == 1
        assert again.claim != prompt.claim
        await request_sent(engine, again)
        await engine.settle("b", [outcome_of(again)])
        (settled,) = await engine.outcomes("b", ["p0"])
        assert settled.attempts == again.attempt

    @with_engine
    async def test_a_prompt_that_is_sent_is_left_alone_until_its_claim_settles_it(
        self, engine: Engine, path: Path
    ) -> None:
        await batch_of(engine, 2)
        (prompt,) = await claimed_by(engine, 1)
        await request_sent(engine, prompt)
        assert list(await engine.settle("b", [outcome_of(prompt, SENT, chunk="c1")])) == []
        assert await engine.cancel("b") == 1
        assert await engine.retry("b", [*PromptState]) == 1
        assert await engine.cancel("b") == 1
        assert list((await engine.submit("b", prompts_of(1, "changed"), replace=True)).changed) == ["p0"]
        assert await engine.take_over("b") == TakenOver()
        claimed = await engine.claim("b", "w1", 9)
        assert (list(claimed.prompts), claimed.is_over) == ([], True)
        assert await counts_of(engine) == {SENT: 1, CANCELLED: 1}
        assert [item.id for item in await all_settled(engine)] == ["p1"]
        (there,) = await engine.outcomes("b", ["p0"])
        assert (there.state, there.sequence, there.result, there.attempts) == (
            SENT,
            0,
            {"chunk": "c1"},
            prompt.attempt,
        )
        assert list(await engine.settle("b", [Outcome(id="p0", claim="another", state=DONE)])) == ["p0"]
        assert list(await engine.settle("b", [outcome_of(prompt, cost=0.5, text="late")])) == []
        assert list(await engine.settle("b", [outcome_of(prompt)])) == ["p0"]
        (ended,) = await engine.outcomes("b", ["p0"])
        assert (ended.state, ended.result, ended.cost_usd) == (DONE, {"text": "late"}, 0.5)
        assert ended.sequence > 0

    @with_engine
    async def test_a_prompt_that_is_sent_outlives_its_worker_and_is_settled_by_another_process(
        self, engine: Engine, path: Path
    ) -> None:
        await batch_of(engine, 3)
        others = await claimed_by(engine, 3)
        for prompt in others:
            await request_sent(engine, prompt)
        await engine.settle("b", [outcome_of(prompt, SENT, n=n) for n, prompt in enumerate(others)])
        await engine.aclose()
        later = self.make_engine(path)
        try:
            await later.take_over("b")
            assert await counts_of(later) == {SENT: 3}
            ends = [DONE, PARKED, QUEUED]
            outcomes = [outcome_of(prompt, end) for prompt, end in zip(others, ends, strict=True)]
            assert list(await later.settle("b", outcomes)) == []
            assert await counts_of(later) == {DONE: 1, PARKED: 1, QUEUED: 1}
            assert await later.retry("b", [PARKED]) == 1
            assert [prompt.id for prompt in await claimed_by(later, 9, "w2")] == ["p1", "p2"]
        finally:
            await later.aclose()

    @with_engine
    async def test_what_was_reserved_for_a_sent_prompt_stays_counted(self, engine: Engine, path: Path) -> None:
        await batch_of(engine, 3, max_cost_usd=1.0)
        first, second, third = await claimed_by(engine)
        await request_sent(engine, first, cost_usd=0.8)
        await engine.settle("b", [outcome_of(first, SENT)])
        (grant,) = await engine.reserve("b", [asked_for(second, cost_usd=0.5)])
        assert not grant.allowed
        await engine.settle("b", [outcome_of(first, cost=0.1)])
        (grant,) = await engine.reserve("b", [asked_for(third, cost_usd=0.5)])
        assert grant.allowed

    @with_engine
    async def test_a_sent_prompt_that_was_refused_is_queued_again_and_costs_nothing(
        self, engine: Engine, path: Path
    ) -> None:
        await batch_of(engine, 1, max_cost_usd=1.0)
        (prompt,) = await claimed_by(engine)
        await request_sent(engine, prompt, cost_usd=0.8)
        await engine.settle("b", [outcome_of(prompt, SENT)])
        await engine.use("b", [Used(id="p0", claim=prompt.claim, tokens=0, cost_usd=0.0)])
        await engine.settle("b", [outcome_of(prompt, QUEUED)])
        (again,) = await claimed_by(engine)
        (grant,) = await engine.reserve("b", [asked_for(again, cost_usd=0.9)])
        assert grant.allowed

    @with_engine
    async def test_an_outcome_is_kept_once(self, engine: Engine, path: Path) -> None:
        await batch_of(engine, 1)
        (prompt,) = await claimed_by(engine)
        assert list(await engine.settle("b", [outcome_of(prompt, text="first")])) == []
        assert list(await engine.settle("b", [outcome_of(prompt, FAILED, text="second")])) == ["p0"]
        assert list(await engine.settle("b", [Outcome(id="none", claim="x", state=DONE)])) == ["none"]
        (settled,) = await all_settled(engine)
        assert (settled.state, settled.result) == (DONE, {"text": "first"})
        (grant,) = await engine.reserve("b", [asked_for(prompt)])
        assert grant == Grant(refused="lost")
        assert list(await engine.settle("b", [])) == []

    @with_engine
    async def test_what_was_settled_is_there_in_a_new_engine(self, engine: Engine, path: Path) -> None:
        await batch_of(engine, 2)
        (prompt,) = await claimed_by(engine, 1)
        await request_sent(engine, prompt)
        await engine.settle("b", [outcome_of(prompt, text="kept", cost=0.5)])
        other = self.make_engine(path)
        try:
            (settled,) = await all_settled(other)
            assert (settled.id, settled.result, settled.attempts) == ("p0", {"text": "kept"}, 1)
            assert await counts_of(other) == {DONE: 1, QUEUED: 1}
        finally:
            await other.aclose()

    @with_engine
    async def test_tokens_and_unknown_costs_of_outcomes_are_counted(self, engine: Engine, path: Path) -> None:
        await batch_of(engine, 4)
        claimed = await claimed_by(engine)
        for prompt, reserved in zip(claimed, (0, 0, 0, 50), strict=True):
            await request_sent(engine, prompt, tokens=reserved)
        costs, tokens = (0.5, None, None, 0.0), (10, 20, None, 40)
        outcomes = [outcome_of(prompt, cost=cost) for prompt, cost in zip(claimed, costs, strict=True)]
        await engine.settle(
            "b", [replace(outcome, tokens=count) for outcome, count in zip(outcomes, tokens, strict=True)]
        )
        info = await engine.batch("b")
        assert info is not None
        assert info.unknown_costs == 2
        assert info.tokens == 80, "what was reserved counts in place of what the outcome says"

    @with_engine
    async def test_what_a_dead_worker_may_have_sent_is_parked_and_the_rest_is_queued(
        self, engine: Engine, path: Path
    ) -> None:
        await batch_of(engine, 6)
        await engine.aclose()

        async def work(other: Engine) -> None:
            await other.join("dying")
            claimed = await other.claim("b", "dying", 4, wait_s=WAIT_S)
            await other.reserve("b", [asked_for(prompt, cost_usd=0.5) for prompt in claimed.prompts[:2]])
            await other.settle("b", [outcome_of(claimed.prompts[0], text="kept", cost=0.25)])

        self.dead_worker(path, work)
        again = self.make_engine(path)
        try:
            (alive,) = await claimed_by(again, 1, "alive")
            await request_sent(again, alive)
            found = await self._taken_over(again)
            assert found == (TakenOver(parked=3) if self.sent_by_claim else TakenOver(parked=1, queued=2))
            assert await again.take_over("b") == TakenOver()
            settled = {item.id: item for item in await all_settled(again)}
            parked = [item for item in settled.values() if item.state is PARKED]
            assert len(parked) == found.parked
            assert settled["p0"].result == {"text": "kept"}
            assert settled["p1"].state is PARKED
            info = await again.batch("b")
            assert info is not None
            assert info.cost_usd == pytest.approx(0.25)
            assert info.reserved_usd == pytest.approx(0.5), "what the parked prompt may have cost is counted"
            rest = await claimed_by(again, 9, "alive")
            assert "p1" not in {prompt.id for prompt in rest}
            assert await again.retry("b", [PARKED], ["p1"]) == 1
            (retried,) = await claimed_by(again, 9, "alive")
            assert (retried.id, retried.attempt) == ("p1", 2)
        finally:
            await again.aclose()

    async def _taken_over(self, engine: Engine) -> TakenOver:
        """Take over until something is found: an engine may need a moment to prove a worker dead."""
        for _ in range(600):
            found = await engine.take_over("b")
            if found != TakenOver():
                return found
            self.pass_time(1.0)
            await asyncio.sleep(0.05)
        raise AssertionError("the dead worker was never proven dead")

    @with_engine
    async def test_a_worker_that_leaves_keeps_nothing(self, engine: Engine, path: Path) -> None:
        await batch_of(engine, 2)
        other = self.make_engine(path)
        claimed = await claimed_by(other, 2, "leaving")
        assert len(claimed) == 2
        await other.aclose()
        found = await self._taken_over(engine)
        assert (found.parked if self.sent_by_claim else found.queued) == 2

    @with_engine
    async def test_an_outcome_that_comes_after_the_take_over_is_not_kept(self, engine: Engine, path: Path) -> None:
        await batch_of(engine, 1)
        other = self.make_engine(path)
        (prompt,) = await claimed_by(other, 1, "left")
        await request_sent(other, prompt)
        await other.aclose()
        await self._taken_over(engine)
        assert list(await engine.settle("b", [outcome_of(prompt)])) == ["p0"]
        assert [item.state for item in await all_settled(engine)] == [PARKED]
