"""What the contract of engines promises of a batch as a whole: it is created, found, paused and removed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from afkcli.core.contract.engine import BatchLimits, Engine
from afkcli.core.contract.errors import EngineError, UnknownNameError
from afkcli.testing.engine_case import (
    FAILED,
    QUEUED,
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


class BatchTests(EngineCase):
    """`create`, `batch`, `batches`, `pause` and `remove`."""

    @with_engine
    async def test_a_batch_is_created_with_its_settings_and_found_again(self, engine: Engine, path: Path) -> None:
        settings = {"results": "/r.jsonl", "nested": {"list": [1, 2.5, None, "é"]}}
        limits = BatchLimits(concurrency=3, requests_per_minute=10, tokens_per_minute=1000, max_cost_usd=1.5)
        assert await engine.batch("b") is None
        made = await engine.create("b", settings, limits)
        found = await engine.batch("b")
        assert found == made
        assert (made.name, made.settings, made.limits) == ("b", settings, limits)
        assert made.created.endswith("Z")
        assert dict(made.counts) == {}
        assert (made.cost_usd, made.reserved_usd, made.tokens, made.requests, made.paused) == (0.0, 0.0, 0, 0, None)

    @with_engine
    async def test_a_batch_that_is_there_keeps_its_prompts_and_gets_the_new_limits(
        self, engine: Engine, path: Path
    ) -> None:
        await batch_of(engine, 2, concurrency=1)
        first = await engine.batch("b")
        assert first is not None
        again = await engine.create("b", {"more": True}, BatchLimits(concurrency=2))
        assert (again.created, again.settings, again.limits.concurrency) == (first.created, {"more": True}, 2)
        assert dict(again.counts) == {QUEUED: 2}
        assert len(await claimed_by(engine)) == 2

    @with_engine
    async def test_names_may_hold_any_text(self, engine: Engine, path: Path) -> None:
        names = ["/home/é/a b.jsonl", "../x", "B", "b", "x" * 400, "%"]
        for name in names:
            await engine.create(name, {"is": name}, BatchLimits())
        found = await engine.batches()
        assert sorted(info.name for info in found) == sorted(names)
        assert all(info.settings == {"is": info.name} for info in found)

    @with_engine
    async def test_batches_are_listed_the_last_created_first(self, engine: Engine, path: Path) -> None:
        assert list(await engine.batches()) == []
        for name in ("one", "two", "six"):
            await engine.create(name, {}, BatchLimits())
            self.pass_time(2)
            await asyncio.sleep(0.002)
        assert [info.name for info in await engine.batches()] == ["six", "two", "one"]

    @with_engine
    async def test_what_is_not_there_is_named(self, engine: Engine, path: Path) -> None:
        for call in (
            engine.submit("x", prompts_of(1)),
            engine.prompts("x"),
            engine.outcomes("x", ["p0"]),
            engine.watch("x"),
            engine.retry("x", [FAILED]),
            engine.cancel("x"),
            engine.pause("x", "why"),
            engine.take_over("x"),
            engine.settle("x", []),
        ):
            with pytest.raises(UnknownNameError, match="x"):
                await call
        await engine.remove("x")

    @with_engine
    async def test_of_a_paused_batch_nothing_is_claimed_or_sent_until_it_is_created_again(
        self, engine: Engine, path: Path
    ) -> None:
        await batch_of(engine, 4)
        sent, unsent = await claimed_by(engine, 2)
        await request_sent(engine, sent)
        await engine.pause("b", "too many errors")
        info = await engine.batch("b")
        assert info is not None
        assert info.paused == "too many errors"
        claimed = await engine.claim("b", "w1", 5, wait_s=WAIT_S)
        assert list(claimed.prompts) == []
        assert claimed.is_over
        (grant,) = await engine.reserve("b", [asked_for(sent)])
        assert grant.allowed, "a prompt of which something was sent goes on"
        if not self.sent_by_claim:
            (grant,) = await engine.reserve("b", [asked_for(unsent)])
            assert grant.refused == "paused"
        assert list(await engine.settle("b", [outcome_of(sent), outcome_of(unsent, QUEUED)])) == []
        await engine.create("b", {}, BatchLimits())
        assert len(await claimed_by(engine)) == 3

    @with_engine
    async def test_a_batch_is_removed_with_its_prompts_unless_a_living_worker_has_some(
        self, engine: Engine, path: Path
    ) -> None:
        await batch_of(engine, 2)
        (prompt,) = await claimed_by(engine, 1)
        with pytest.raises(EngineError):
            await engine.remove("b")
        await engine.settle("b", [outcome_of(prompt)])
        await engine.remove("b")
        assert await engine.batch("b") is None
        assert list(await engine.batches()) == []
        await engine.create("b", {}, BatchLimits())
        assert await counts_of(engine) == {}
        assert await all_settled(engine) == []
