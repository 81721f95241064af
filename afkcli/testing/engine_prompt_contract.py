"""What the contract of engines promises of prompts and their outcomes: submitted, listed, watched, retried."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from afkcli.core.contract.engine import BatchLimits, Engine, QueuedPrompt
from afkcli.testing.engine_case import (
    CANCELLED,
    DONE,
    FAILED,
    QUEUED,
    RUNNING,
    WAIT_S,
    EngineCase,
    all_settled,
    batch_of,
    claimed_by,
    counts_of,
    outcome_of,
    prompts_of,
    request_sent,
    with_engine,
)


class PromptTests(EngineCase):
    """`submit`, `prompts`, `outcomes`, `watch`, `retry` and `cancel`."""

    @with_engine
    async def test_prompts_are_added_once_by_their_id(self, engine: Engine, path: Path) -> None:
        await engine.create("b", {}, BatchLimits())
        first = await engine.submit("b", prompts_of(3))
        again = await engine.submit("b", prompts_of(5))
        assert (first.new, list(first.changed)) == (3, [])
        assert (again.new, list(again.changed)) == (2, [])
        assert await counts_of(engine) == {QUEUED: 5}
        assert [(info.id, info.index) for info in await engine.prompts("b")] == [(f"p{n}", n) for n in range(5)]
        assert (await engine.submit("b", [])).new == 0

    @with_engine
    async def test_prompts_are_listed_by_their_place_in_pages(self, engine: Engine, path: Path) -> None:
        await engine.create("b", {}, BatchLimits())
        await engine.submit("b", prompts_of(2, first=3))
        await engine.submit("b", prompts_of(3))
        pages = [await engine.prompts("b", after=after, limit=2) for after in (-1, 1, 3, 4)]
        assert [[info.index for info in page] for page in pages] == [[0, 1], [2, 3], [4], []]
        moved = [QueuedPrompt(id="p0", index=9, digest="digest of hello", request={"message": "hello", "n": 0})]
        await engine.submit("b", moved)
        assert [info.id for info in await engine.prompts("b")] == ["p1", "p2", "p3", "p4", "p0"]

    @with_engine
    async def test_a_changed_prompt_is_named_and_left_or_replaced(self, engine: Engine, path: Path) -> None:
        await batch_of(engine, 3)
        done, running = await claimed_by(engine, 2)
        await request_sent(engine, done)
        await engine.settle("b", [outcome_of(done, text="old")])
        changed = await engine.submit("b", prompts_of(4, "changed"))
        assert (changed.new, list(changed.changed)) == (2, ["p0", "p1"]), "nothing of p2 was sent"
        assert [item.result for item in await engine.outcomes("b", ["p0"])] == [{"text": "old"}]
        replaced = await engine.submit("b", prompts_of(3, "changed"), replace=True)
        assert (replaced.new, list(replaced.changed)) == (1, [running.id])
        assert list(await engine.outcomes("b", ["p0"])) == []
        await engine.settle("b", [outcome_of(running)])
        claimed = await claimed_by(engine)
        assert sorted((prompt.id, prompt.request["message"]) for prompt in claimed) == [
            ("p0", "changed"),
            ("p2", "changed"),
            ("p3", "changed"),
        ]

    @with_engine
    async def test_a_request_and_a_result_come_back_as_they_were(self, engine: Engine, path: Path) -> None:
        odd = {"text": "é\u2028\u0000\U0001f600", "deep": [{"a": [1, 2.5, -1e300, True, None]}], "": {}, "n": 2**53}
        await engine.create("b", {}, BatchLimits())
        await engine.submit("b", [QueuedPrompt(id="é /%\t", index=0, digest="d", request=odd)])
        (prompt,) = await claimed_by(engine)
        assert (prompt.id, prompt.request, prompt.attempt) == ("é /%\t", odd, 1)
        await engine.settle("b", [outcome_of(prompt, cost=0.25, out=odd)])
        (settled,) = await engine.outcomes("b", ["nothing", "é /%\t"])
        assert (settled.id, settled.index, settled.digest, settled.state) == ("é /%\t", 0, "d", DONE)
        assert (settled.result, settled.cost_usd) == ({"out": odd}, 0.25)

    @with_engine
    async def test_outcomes_are_followed_in_the_order_in_which_they_were_settled(
        self, engine: Engine, path: Path
    ) -> None:
        await batch_of(engine, 5)
        claimed = await claimed_by(engine)
        order = [claimed[number] for number in (3, 0, 4)]
        for prompt in order:
            await engine.settle("b", [outcome_of(prompt)])
        first = await all_settled(engine)
        assert [item.id for item in first] == [prompt.id for prompt in order]
        assert [item.sequence for item in first] == sorted({item.sequence for item in first})
        await engine.settle("b", [outcome_of(claimed[1], FAILED, error="no")])
        news = await engine.watch("b", after=first[-1].sequence)
        assert [(item.id, item.state, item.result) for item in news.outcomes] == [("p1", FAILED, {"error": "no"})]
        assert dict(news.batch.counts) == {DONE: 3, FAILED: 1, RUNNING: 1}
        assert [item.id for item in await engine.outcomes("b", ["p2", "p4", "p0"])] == ["p4", "p0"]

    @with_engine
    async def test_watch_waits_for_an_outcome(self, engine: Engine, path: Path) -> None:
        await batch_of(engine, 1)
        (prompt,) = await claimed_by(engine)
        waiting = asyncio.ensure_future(engine.watch("b", wait_s=WAIT_S))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await engine.settle("b", [outcome_of(prompt)])
        assert [item.id for item in (await waiting).outcomes] == ["p0"]
        assert list((await engine.watch("b", after=10**9)).outcomes) == []

    @with_engine
    async def test_prompts_are_retried_by_state_and_id(self, engine: Engine, path: Path) -> None:
        await batch_of(engine, 5)
        claimed = await claimed_by(engine)
        states = [DONE, FAILED, FAILED, CANCELLED, FAILED]
        for prompt in claimed:
            await request_sent(engine, prompt)
        await engine.settle(
            "b", [outcome_of(prompt, state, 0.1) for prompt, state in zip(claimed, states, strict=True)]
        )
        last = (await all_settled(engine))[-1].sequence
        assert await engine.retry("b", [FAILED], ["p1", "p0", "nothing"]) == 1
        assert await engine.retry("b", [CANCELLED]) == 1
        assert await engine.retry("b", [RUNNING, QUEUED]) == 0
        assert [item.id for item in await all_settled(engine)] == ["p0", "p2", "p4"]
        again = await claimed_by(engine)
        assert sorted((prompt.id, prompt.attempt) for prompt in again) == [("p1", 2), ("p3", 2)]
        await engine.settle("b", [outcome_of(prompt, cost=0.1) for prompt in again])
        news = await engine.watch("b", after=last)
        assert sorted(item.id for item in news.outcomes) == ["p1", "p3"]
        assert news.batch.cost_usd == pytest.approx(0.7), "what the first attempts cost stays counted"

    @with_engine
    async def test_queued_prompts_are_cancelled_and_others_stay(self, engine: Engine, path: Path) -> None:
        await batch_of(engine, 4)
        (running,) = await claimed_by(engine, 1)
        assert await engine.cancel("b", ["p0", "p3", "nothing"]) == 1
        assert await engine.cancel("b") == 2
        assert await counts_of(engine) == {RUNNING: 1, CANCELLED: 3}
        assert sorted(item.id for item in await all_settled(engine)) == ["p1", "p2", "p3"]
        assert list(await engine.settle("b", [outcome_of(running)])) == []
        assert (await engine.claim("b", "w1", 1, wait_s=WAIT_S)).is_over
