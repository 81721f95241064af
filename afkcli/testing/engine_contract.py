"""The contract of an engine as a test suite: what `afkcli.core.contract.engine.Engine` promises, sentence by sentence.

For the author of an engine. In your tests:

    from afkcli.testing.engine_contract import EngineContract

    class TestMyEngine(EngineContract):
        def make_engine(self, path):             # `path` is a folder that is empty at first
            return MyEngine(path)                # the same path opens the same batches again

A worker that dies is a process that is forked and kills itself; an engine whose worker cannot be made in a forked
process overrides `dead_worker`. Time is made to pass by moving `time.time` and `time.monotonic`; an engine that counts
by another clock overrides `pass_time`. An engine that counts a prompt as sent from its claim on sets
`sent_by_claim = True`.

Needs `pytest`. Since: 0.2.
"""

from __future__ import annotations

import asyncio
import os
import signal
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from afkcli.core.contract.engine import (
    BatchLimits,
    ClaimedPrompt,
    Engine,
    Grant,
    Outcome,
    PromptState,
    QueuedPrompt,
    Reservation,
    SettledPrompt,
    TakenOver,
    Used,
)
from afkcli.core.contract.errors import EngineError, UnknownNameError
from afkcli.core.contract.structs import replace
from afkcli.testing.store_steps import ShiftedTime

_DONE, _FAILED, _QUEUED = PromptState.DONE, PromptState.FAILED, PromptState.QUEUED
_PARKED, _CANCELLED, _RUNNING = PromptState.PARKED, PromptState.CANCELLED, PromptState.RUNNING
_SENT = PromptState.SENT
_WAIT_S = 30.0


def _prompts(number: int, text: str = "hello", first: int = 0) -> list[QueuedPrompt]:
    return [
        QueuedPrompt(id=f"p{index}", index=index, digest=f"digest of {text}", request={"message": text, "n": index})
        for index in range(first, first + number)
    ]


def _asked(prompt: ClaimedPrompt, **fields: Any) -> Reservation:
    return Reservation(id=prompt.id, claim=prompt.claim, model=fields.pop("model", "one/model"), **fields)


def _outcome(prompt: ClaimedPrompt, state: PromptState = _DONE, cost: float | None = 0.0, **result: Any) -> Outcome:
    return Outcome(id=prompt.id, claim=prompt.claim, state=state, result=result, cost_usd=cost)


def _allowed(grants: Any) -> list[bool]:
    return [grant.allowed for grant in grants]


async def _claimed(engine: Engine, limit: int = 100, worker: str = "w1", name: str = "b") -> list[ClaimedPrompt]:
    await engine.join(worker)
    return list((await engine.claim(name, worker, limit, wait_s=_WAIT_S)).prompts)


async def _sent(engine: Engine, prompt: ClaimedPrompt, **fields: Any) -> None:
    """Reserve a request until it is allowed, which takes no longer than some tries."""
    for _ in range(100):
        (grant,) = await engine.reserve("b", [_asked(prompt, **fields)])
        if grant.allowed:
            return
        assert grant.refused is None, grant
        await asyncio.sleep(min(grant.wait_s, 0.2))
    raise AssertionError(f"a request is never allowed: {grant}")


async def _batch_of(engine: Engine, number: int, **limits: Any) -> None:
    await engine.create("b", {}, BatchLimits(**limits))
    await engine.submit("b", _prompts(number))


async def _all_settled(engine: Engine, name: str = "b") -> list[SettledPrompt]:
    """Return all outcomes, two at a time, as a reader that goes on where it was."""
    found: list[SettledPrompt] = []
    while True:
        news = await engine.watch(name, after=found[-1].sequence if found else 0, limit=2)
        if not news.outcomes:
            return found
        found += news.outcomes


async def _counts(engine: Engine, name: str = "b") -> dict[PromptState, int]:
    info = await engine.batch(name)
    assert info is not None
    return dict(info.counts)


_Test = Callable[[Any, Engine, Path], Awaitable[None]]


def _with_engine(test: _Test) -> Callable[[Any, Path], None]:
    """Run a test with an engine of its own in an event loop."""

    def run(self: EngineContract, tmp_path: Path) -> None:
        path = tmp_path / "engine"

        async def body() -> None:
            engine = self.make_engine(path)
            try:
                await test(self, engine, path)
            finally:
                await engine.aclose()

        asyncio.run(body())

    run.__doc__ = test.__doc__
    return run


class EngineContract:
    """Subclass it as `TestSomething` and give `make_engine`; see the head of this module."""

    sent_by_claim: ClassVar[bool] = False

    def make_engine(self, path: Path) -> Engine:
        """Return a new engine for the batches in the folder `path`."""
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        """Let `seconds` pass by the clock that the engine counts by."""
        self._time.advance(seconds)

    def dead_worker(self, path: Path, work: Callable[[Engine], Awaitable[None]]) -> None:
        """Do `work` in another process, which then dies by SIGKILL, and wait for its end."""
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(_work_and_die(self.make_engine(path), work))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(70)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the worker failed before it was killed"
        assert os.WTERMSIG(status) == signal.SIGKILL

    @pytest.fixture(autouse=True)
    def _shifted_time(self) -> Iterator[None]:
        self._time = ShiftedTime()
        self._time.start()
        yield
        self._time.stop()

    # create, batch, batches, pause, remove

    @_with_engine
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

    @_with_engine
    async def test_a_batch_that_is_there_keeps_its_prompts_and_gets_the_new_limits(
        self, engine: Engine, path: Path
    ) -> None:
        await _batch_of(engine, 2, concurrency=1)
        first = await engine.batch("b")
        assert first is not None
        again = await engine.create("b", {"more": True}, BatchLimits(concurrency=2))
        assert (again.created, again.settings, again.limits.concurrency) == (first.created, {"more": True}, 2)
        assert dict(again.counts) == {_QUEUED: 2}
        assert len(await _claimed(engine)) == 2

    @_with_engine
    async def test_names_may_hold_any_text(self, engine: Engine, path: Path) -> None:
        names = ["/home/é/a b.jsonl", "../x", "B", "b", "x" * 400, "%"]
        for name in names:
            await engine.create(name, {"is": name}, BatchLimits())
        found = await engine.batches()
        assert sorted(info.name for info in found) == sorted(names)
        assert all(info.settings == {"is": info.name} for info in found)

    @_with_engine
    async def test_batches_are_listed_the_last_created_first(self, engine: Engine, path: Path) -> None:
        assert list(await engine.batches()) == []
        for name in ("one", "two", "six"):
            await engine.create(name, {}, BatchLimits())
            self.pass_time(2)
            await asyncio.sleep(0.002)
        assert [info.name for info in await engine.batches()] == ["six", "two", "one"]

    @_with_engine
    async def test_what_is_not_there_is_named(self, engine: Engine, path: Path) -> None:
        for call in (
            engine.submit("x", _prompts(1)),
            engine.prompts("x"),
            engine.outcomes("x", ["p0"]),
            engine.watch("x"),
            engine.retry("x", [_FAILED]),
            engine.cancel("x"),
            engine.pause("x", "why"),
            engine.take_over("x"),
            engine.settle("x", []),
        ):
            with pytest.raises(UnknownNameError, match="x"):
                await call
        await engine.remove("x")

    @_with_engine
    async def test_of_a_paused_batch_nothing_is_claimed_or_sent_until_it_is_created_again(
        self, engine: Engine, path: Path
    ) -> None:
        await _batch_of(engine, 4)
        sent, unsent = await _claimed(engine, 2)
        await _sent(engine, sent)
        await engine.pause("b", "too many errors")
        info = await engine.batch("b")
        assert info is not None
        assert info.paused == "too many errors"
        claimed = await engine.claim("b", "w1", 5, wait_s=_WAIT_S)
        assert list(claimed.prompts) == []
        assert claimed.is_over
        (grant,) = await engine.reserve("b", [_asked(sent)])
        assert grant.allowed, "a prompt of which something was sent goes on"
        if not self.sent_by_claim:
            (grant,) = await engine.reserve("b", [_asked(unsent)])
            assert grant.refused == "paused"
        assert list(await engine.settle("b", [_outcome(sent), _outcome(unsent, _QUEUED)])) == []
        await engine.create("b", {}, BatchLimits())
        assert len(await _claimed(engine)) == 3

    @_with_engine
    async def test_a_batch_is_removed_with_its_prompts_unless_a_living_worker_has_some(
        self, engine: Engine, path: Path
    ) -> None:
        await _batch_of(engine, 2)
        (prompt,) = await _claimed(engine, 1)
        with pytest.raises(EngineError):
            await engine.remove("b")
        await engine.settle("b", [_outcome(prompt)])
        await engine.remove("b")
        assert await engine.batch("b") is None
        assert list(await engine.batches()) == []
        await engine.create("b", {}, BatchLimits())
        assert await _counts(engine) == {}
        assert await _all_settled(engine) == []

    # submit, prompts, outcomes, watch

    @_with_engine
    async def test_prompts_are_added_once_by_their_id(self, engine: Engine, path: Path) -> None:
        await engine.create("b", {}, BatchLimits())
        first = await engine.submit("b", _prompts(3))
        again = await engine.submit("b", _prompts(5))
        assert (first.new, list(first.changed)) == (3, [])
        assert (again.new, list(again.changed)) == (2, [])
        assert await _counts(engine) == {_QUEUED: 5}
        assert [(info.id, info.index) for info in await engine.prompts("b")] == [(f"p{n}", n) for n in range(5)]
        assert (await engine.submit("b", [])).new == 0

    @_with_engine
    async def test_prompts_are_listed_by_their_place_in_pages(self, engine: Engine, path: Path) -> None:
        await engine.create("b", {}, BatchLimits())
        await engine.submit("b", _prompts(2, first=3))
        await engine.submit("b", _prompts(3))
        pages = [await engine.prompts("b", after=after, limit=2) for after in (-1, 1, 3, 4)]
        assert [[info.index for info in page] for page in pages] == [[0, 1], [2, 3], [4], []]
        moved = [QueuedPrompt(id="p0", index=9, digest="digest of hello", request={"message": "hello", "n": 0})]
        await engine.submit("b", moved)
        assert [info.id for info in await engine.prompts("b")] == ["p1", "p2", "p3", "p4", "p0"]

    @_with_engine
    async def test_a_changed_prompt_is_named_and_left_or_replaced(self, engine: Engine, path: Path) -> None:
        await _batch_of(engine, 3)
        done, running = await _claimed(engine, 2)
        await _sent(engine, done)
        await engine.settle("b", [_outcome(done, text="old")])
        changed = await engine.submit("b", _prompts(4, "changed"))
        assert (changed.new, list(changed.changed)) == (1, ["p0", "p1", "p2"])
        assert [item.result for item in await engine.outcomes("b", ["p0"])] == [{"text": "old"}]
        replaced = await engine.submit("b", _prompts(3, "changed"), replace=True)
        assert (replaced.new, list(replaced.changed)) == (2, [running.id])
        assert list(await engine.outcomes("b", ["p0"])) == []
        await engine.settle("b", [_outcome(running)])
        claimed = await _claimed(engine)
        assert sorted((prompt.id, prompt.request["message"]) for prompt in claimed) == [
            ("p0", "changed"),
            ("p2", "changed"),
            ("p3", "changed"),
        ]

    @_with_engine
    async def test_a_request_and_a_result_come_back_as_they_were(self, engine: Engine, path: Path) -> None:
        odd = {"text": "é\u2028\u0000\U0001f600", "deep": [{"a": [1, 2.5, -1e300, True, None]}], "": {}, "n": 2**53}
        await engine.create("b", {}, BatchLimits())
        await engine.submit("b", [QueuedPrompt(id="é /%\t", index=0, digest="d", request=odd)])
        (prompt,) = await _claimed(engine)
        assert (prompt.id, prompt.request, prompt.attempt) == ("é /%\t", odd, 1)
        await engine.settle("b", [_outcome(prompt, cost=0.25, out=odd)])
        (settled,) = await engine.outcomes("b", ["nothing", "é /%\t"])
        assert (settled.id, settled.index, settled.digest, settled.state) == ("é /%\t", 0, "d", _DONE)
        assert (settled.result, settled.cost_usd) == ({"out": odd}, 0.25)

    @_with_engine
    async def test_outcomes_are_followed_in_the_order_in_which_they_were_settled(
        self, engine: Engine, path: Path
    ) -> None:
        await _batch_of(engine, 5)
        claimed = await _claimed(engine)
        order = [claimed[number] for number in (3, 0, 4)]
        for prompt in order:
            await engine.settle("b", [_outcome(prompt)])
        first = await _all_settled(engine)
        assert [item.id for item in first] == [prompt.id for prompt in order]
        assert [item.sequence for item in first] == sorted({item.sequence for item in first})
        await engine.settle("b", [_outcome(claimed[1], _FAILED, error="no")])
        news = await engine.watch("b", after=first[-1].sequence)
        assert [(item.id, item.state, item.result) for item in news.outcomes] == [("p1", _FAILED, {"error": "no"})]
        assert dict(news.batch.counts) == {_DONE: 3, _FAILED: 1, _RUNNING: 1}
        assert [item.id for item in await engine.outcomes("b", ["p2", "p4", "p0"])] == ["p4", "p0"]

    @_with_engine
    async def test_watch_waits_for_an_outcome(self, engine: Engine, path: Path) -> None:
        await _batch_of(engine, 1)
        (prompt,) = await _claimed(engine)
        waiting = asyncio.ensure_future(engine.watch("b", wait_s=_WAIT_S))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await engine.settle("b", [_outcome(prompt)])
        assert [item.id for item in (await waiting).outcomes] == ["p0"]
        assert list((await engine.watch("b", after=10**9)).outcomes) == []

    # claim

    @_with_engine
    async def test_each_prompt_goes_to_one_worker(self, engine: Engine, path: Path) -> None:
        await _batch_of(engine, 20)
        other = self.make_engine(path)
        try:
            parts = await asyncio.gather(
                *(_claimed(each, 4, f"w{number}") for number, each in enumerate([engine, other, engine, other, engine]))
            )
        finally:
            claims = [prompt for part in parts for prompt in part]
            assert sorted(prompt.id for prompt in claims) == sorted(f"p{n}" for n in range(20))
            assert len({prompt.claim for prompt in claims}) == 20
            await engine.settle("b", [_outcome(prompt) for prompt in claims])
            await other.aclose()
        assert (await engine.claim("b", "w0", 5, wait_s=_WAIT_S)).is_over

    @_with_engine
    async def test_workers_together_have_no_more_prompts_than_the_concurrency(self, engine: Engine, path: Path) -> None:
        await _batch_of(engine, 5, concurrency=3)
        first = await _claimed(engine, 2, "w1")
        second = await _claimed(engine, 9, "w2")
        assert (len(first), len(second)) == (2, 1)
        none = await engine.claim("b", "w1", 9)
        assert list(none.prompts) == []
        assert not none.is_over
        await engine.settle("b", [_outcome(first[0])])
        assert len(await _claimed(engine, 9, "w1")) == 1

    @_with_engine
    async def test_claim_waits_for_a_prompt(self, engine: Engine, path: Path) -> None:
        await _batch_of(engine, 1)
        (prompt,) = await _claimed(engine)
        waiting = asyncio.ensure_future(engine.claim("b", "w1", 1, wait_s=_WAIT_S))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await engine.settle("b", [_outcome(prompt, _QUEUED)])
        assert [item.id for item in (await waiting).prompts] == ["p0"]

    @_with_engine
    async def test_a_prompt_that_is_given_back_unsent_counts_as_no_attempt(self, engine: Engine, path: Path) -> None:
        await _batch_of(engine, 1)
        (prompt,) = await _claimed(engine)
        assert list(await engine.settle("b", [_outcome(prompt, _QUEUED)])) == []
        assert list(await engine.settle("b", [_outcome(prompt)])) == ["p0"], "the old claim is over"
        (again,) = await _claimed(engine)
        if not self.sent_by_claim:
            assert again.attempt == 1
        assert again.claim != prompt.claim
        await _sent(engine, again)
        await engine.settle("b", [_outcome(again)])
        (settled,) = await engine.outcomes("b", ["p0"])
        assert settled.attempts == again.attempt

    # sent

    @_with_engine
    async def test_a_prompt_that_is_sent_is_left_alone_until_its_claim_settles_it(
        self, engine: Engine, path: Path
    ) -> None:
        await _batch_of(engine, 2)
        (prompt,) = await _claimed(engine, 1)
        await _sent(engine, prompt)
        assert list(await engine.settle("b", [_outcome(prompt, _SENT, chunk="c1")])) == []
        assert await engine.cancel("b") == 1
        assert await engine.retry("b", [*PromptState]) == 1
        assert await engine.cancel("b") == 1
        assert list((await engine.submit("b", _prompts(1, "changed"), replace=True)).changed) == ["p0"]
        assert await engine.take_over("b") == TakenOver()
        claimed = await engine.claim("b", "w1", 9)
        assert (list(claimed.prompts), claimed.is_over) == ([], True)
        assert await _counts(engine) == {_SENT: 1, _CANCELLED: 1}
        assert [item.id for item in await _all_settled(engine)] == ["p1"]
        (there,) = await engine.outcomes("b", ["p0"])
        assert (there.state, there.sequence, there.result, there.attempts) == (
            _SENT,
            0,
            {"chunk": "c1"},
            prompt.attempt,
        )
        assert list(await engine.settle("b", [Outcome(id="p0", claim="another", state=_DONE)])) == ["p0"]
        assert list(await engine.settle("b", [_outcome(prompt, cost=0.5, text="late")])) == []
        assert list(await engine.settle("b", [_outcome(prompt)])) == ["p0"]
        (ended,) = await engine.outcomes("b", ["p0"])
        assert (ended.state, ended.result, ended.cost_usd) == (_DONE, {"text": "late"}, 0.5)
        assert ended.sequence > 0

    @_with_engine
    async def test_a_prompt_that_is_sent_outlives_its_worker_and_is_settled_by_another_process(
        self, engine: Engine, path: Path
    ) -> None:
        await _batch_of(engine, 3)
        others = await _claimed(engine, 3)
        for prompt in others:
            await _sent(engine, prompt)
        await engine.settle("b", [_outcome(prompt, _SENT, n=n) for n, prompt in enumerate(others)])
        await engine.aclose()
        later = self.make_engine(path)
        try:
            await later.take_over("b")
            assert await _counts(later) == {_SENT: 3}
            ends = [_DONE, _PARKED, _QUEUED]
            outcomes = [_outcome(prompt, end) for prompt, end in zip(others, ends, strict=True)]
            assert list(await later.settle("b", outcomes)) == []
            assert await _counts(later) == {_DONE: 1, _PARKED: 1, _QUEUED: 1}
            assert await later.retry("b", [_PARKED]) == 1
            assert [prompt.id for prompt in await _claimed(later, 9, "w2")] == ["p1", "p2"]
        finally:
            await later.aclose()

    @_with_engine
    async def test_what_was_reserved_for_a_sent_prompt_stays_counted(self, engine: Engine, path: Path) -> None:
        await _batch_of(engine, 3, max_cost_usd=1.0)
        first, second, third = await _claimed(engine)
        await _sent(engine, first, cost_usd=0.8)
        await engine.settle("b", [_outcome(first, _SENT)])
        (grant,) = await engine.reserve("b", [_asked(second, cost_usd=0.5)])
        assert not grant.allowed
        await engine.settle("b", [_outcome(first, cost=0.1)])
        (grant,) = await engine.reserve("b", [_asked(third, cost_usd=0.5)])
        assert grant.allowed

    @_with_engine
    async def test_a_sent_prompt_that_was_refused_is_queued_again_and_costs_nothing(
        self, engine: Engine, path: Path
    ) -> None:
        await _batch_of(engine, 1, max_cost_usd=1.0)
        (prompt,) = await _claimed(engine)
        await _sent(engine, prompt, cost_usd=0.8)
        await engine.settle("b", [_outcome(prompt, _SENT)])
        await engine.use("b", [Used(id="p0", claim=prompt.claim, tokens=0, cost_usd=0.0)])
        await engine.settle("b", [_outcome(prompt, _QUEUED)])
        (again,) = await _claimed(engine)
        (grant,) = await engine.reserve("b", [_asked(again, cost_usd=0.9)])
        assert grant.allowed

    # settle

    @_with_engine
    async def test_an_outcome_is_kept_once(self, engine: Engine, path: Path) -> None:
        await _batch_of(engine, 1)
        (prompt,) = await _claimed(engine)
        assert list(await engine.settle("b", [_outcome(prompt, text="first")])) == []
        assert list(await engine.settle("b", [_outcome(prompt, _FAILED, text="second")])) == ["p0"]
        assert list(await engine.settle("b", [Outcome(id="none", claim="x", state=_DONE)])) == ["none"]
        (settled,) = await _all_settled(engine)
        assert (settled.state, settled.result) == (_DONE, {"text": "first"})
        (grant,) = await engine.reserve("b", [_asked(prompt)])
        assert grant == Grant(refused="lost")
        assert list(await engine.settle("b", [])) == []

    @_with_engine
    async def test_what_was_settled_is_there_in_a_new_engine(self, engine: Engine, path: Path) -> None:
        await _batch_of(engine, 2)
        (prompt,) = await _claimed(engine, 1)
        await _sent(engine, prompt)
        await engine.settle("b", [_outcome(prompt, text="kept", cost=0.5)])
        other = self.make_engine(path)
        try:
            (settled,) = await _all_settled(other)
            assert (settled.id, settled.result, settled.attempts) == ("p0", {"text": "kept"}, 1)
            assert await _counts(other) == {_DONE: 1, _QUEUED: 1}
        finally:
            await other.aclose()

    @_with_engine
    async def test_tokens_and_unknown_costs_of_outcomes_are_counted(self, engine: Engine, path: Path) -> None:
        await _batch_of(engine, 4)
        claimed = await _claimed(engine)
        for prompt, reserved in zip(claimed, (0, 0, 0, 50), strict=True):
            await _sent(engine, prompt, tokens=reserved)
        costs, tokens = (0.5, None, None, 0.0), (10, 20, None, 40)
        outcomes = [_outcome(prompt, cost=cost) for prompt, cost in zip(claimed, costs, strict=True)]
        await engine.settle(
            "b", [replace(outcome, tokens=count) for outcome, count in zip(outcomes, tokens, strict=True)]
        )
        info = await engine.batch("b")
        assert info is not None
        assert info.unknown_costs == 2
        assert info.tokens == 80, "what was reserved counts in place of what the outcome says"

    # retry, cancel

    @_with_engine
    async def test_prompts_are_retried_by_state_and_id(self, engine: Engine, path: Path) -> None:
        await _batch_of(engine, 5)
        claimed = await _claimed(engine)
        states = [_DONE, _FAILED, _FAILED, _CANCELLED, _FAILED]
        for prompt in claimed:
            await _sent(engine, prompt)
        await engine.settle("b", [_outcome(prompt, state, 0.1) for prompt, state in zip(claimed, states, strict=True)])
        last = (await _all_settled(engine))[-1].sequence
        assert await engine.retry("b", [_FAILED], ["p1", "p0", "nothing"]) == 1
        assert await engine.retry("b", [_CANCELLED]) == 1
        assert await engine.retry("b", [_RUNNING, _QUEUED]) == 0
        assert [item.id for item in await _all_settled(engine)] == ["p0", "p2", "p4"]
        again = await _claimed(engine)
        assert sorted((prompt.id, prompt.attempt) for prompt in again) == [("p1", 2), ("p3", 2)]
        await engine.settle("b", [_outcome(prompt, cost=0.1) for prompt in again])
        news = await engine.watch("b", after=last)
        assert sorted(item.id for item in news.outcomes) == ["p1", "p3"]
        assert news.batch.cost_usd == pytest.approx(0.7), "what the first attempts cost stays counted"

    @_with_engine
    async def test_queued_prompts_are_cancelled_and_others_stay(self, engine: Engine, path: Path) -> None:
        await _batch_of(engine, 4)
        (running,) = await _claimed(engine, 1)
        assert await engine.cancel("b", ["p0", "p3", "nothing"]) == 1
        assert await engine.cancel("b") == 2
        assert await _counts(engine) == {_RUNNING: 1, _CANCELLED: 3}
        assert sorted(item.id for item in await _all_settled(engine)) == ["p1", "p2", "p3"]
        assert list(await engine.settle("b", [_outcome(running)])) == []
        assert (await engine.claim("b", "w1", 1, wait_s=_WAIT_S)).is_over

    # take_over

    @_with_engine
    async def test_what_a_dead_worker_may_have_sent_is_parked_and_the_rest_is_queued(
        self, engine: Engine, path: Path
    ) -> None:
        await _batch_of(engine, 6)
        await engine.aclose()

        async def work(other: Engine) -> None:
            await other.join("dying")
            claimed = await other.claim("b", "dying", 4, wait_s=_WAIT_S)
            await other.reserve("b", [_asked(prompt, cost_usd=0.5) for prompt in claimed.prompts[:2]])
            await other.settle("b", [_outcome(claimed.prompts[0], text="kept", cost=0.25)])

        self.dead_worker(path, work)
        again = self.make_engine(path)
        try:
            (alive,) = await _claimed(again, 1, "alive")
            await _sent(again, alive)
            found = await self._taken_over(again)
            assert found == (TakenOver(parked=3) if self.sent_by_claim else TakenOver(parked=1, queued=2))
            assert await again.take_over("b") == TakenOver()
            settled = {item.id: item for item in await _all_settled(again)}
            parked = [item for item in settled.values() if item.state is _PARKED]
            assert len(parked) == found.parked
            assert settled["p0"].result == {"text": "kept"}
            assert settled["p1"].state is _PARKED
            info = await again.batch("b")
            assert info is not None
            assert info.cost_usd == pytest.approx(0.25)
            assert info.reserved_usd == pytest.approx(0.5), "what the parked prompt may have cost is counted"
            rest = await _claimed(again, 9, "alive")
            assert "p1" not in {prompt.id for prompt in rest}
            assert await again.retry("b", [_PARKED], ["p1"]) == 1
            (retried,) = await _claimed(again, 9, "alive")
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

    @_with_engine
    async def test_a_worker_that_leaves_keeps_nothing(self, engine: Engine, path: Path) -> None:
        await _batch_of(engine, 2)
        other = self.make_engine(path)
        claimed = await _claimed(other, 2, "leaving")
        assert len(claimed) == 2
        await other.aclose()
        found = await self._taken_over(engine)
        assert (found.parked if self.sent_by_claim else found.queued) == 2

    @_with_engine
    async def test_an_outcome_that_comes_after_the_take_over_is_not_kept(self, engine: Engine, path: Path) -> None:
        await _batch_of(engine, 1)
        other = self.make_engine(path)
        (prompt,) = await _claimed(other, 1, "left")
        await _sent(other, prompt)
        await other.aclose()
        await self._taken_over(engine)
        assert list(await engine.settle("b", [_outcome(prompt)])) == ["p0"]
        assert [item.state for item in await _all_settled(engine)] == [_PARKED]

    # the limits

    @_with_engine
    async def test_no_minute_has_more_requests_than_the_limit(self, engine: Engine, path: Path) -> None:
        await _batch_of(engine, 30, requests_per_minute=6)
        times = await self._times_of_requests(engine, await _claimed(engine), 20)
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
            grants = await engine.reserve("b", [_asked(prompt, **fields) for prompt in waiting[:5]])
            assert all(grant.refused is None for grant in grants)
            times += [now for grant in grants if grant.allowed]
            waiting = [p for p, g in zip(waiting, grants, strict=False) if not g.allowed] + waiting[len(grants) :]
            if not any(grant.allowed for grant in grants):
                step = min(max(min(grant.wait_s for grant in grants), 0.01), 30.0)
                self.pass_time(step)
                now += step
        return times

    @_with_engine
    async def test_no_minute_has_more_tokens_than_the_limit(self, engine: Engine, path: Path) -> None:
        await _batch_of(engine, 30, tokens_per_minute=1000)
        prompts = await _claimed(engine)
        (grant,) = await engine.reserve("b", [_asked(prompts.pop(), tokens=1001)])
        assert grant.refused == "tokens_per_minute"
        times = await self._times_of_requests(engine, prompts, 8, tokens=300)
        assert _most_in_a_minute([(at, 300) for at in times]) <= 1000

    @_with_engine
    async def test_tokens_that_were_not_used_are_free_again(self, engine: Engine, path: Path) -> None:
        await _batch_of(engine, 3, tokens_per_minute=1000)
        one, two, three = await _claimed(engine)
        await _sent(engine, one, tokens=900)
        (grant,) = await engine.reserve("b", [_asked(two, tokens=900)])
        assert not grant.allowed
        assert grant.wait_s > 0
        await engine.use("b", [Used(id=one.id, claim=one.claim, tokens=100)])
        (grant,) = await engine.reserve("b", [_asked(two, tokens=900)])
        assert grant.allowed
        (grant,) = await engine.reserve("b", [_asked(three, tokens=1)])
        assert not grant.allowed
        info = await engine.batch("b")
        assert info is not None
        assert (info.tokens, info.requests) == (1000, 2)

    @_with_engine
    async def test_a_model_is_slowed_down_for_all_workers_and_others_are_not(self, engine: Engine, path: Path) -> None:
        await _batch_of(engine, 3)
        other = self.make_engine(path)
        try:
            (one,) = await _claimed(engine, 1, "w1")
            two, three = await _claimed(other, 2, "w2")
            await engine.slow_down("b", "one/model", 40.0)
            await engine.slow_down("b", "one/model", 1.0)
            (grant,) = await other.reserve("b", [_asked(two)])
            assert not grant.allowed
            assert 30 < grant.wait_s <= 40
            (grant,) = await other.reserve("b", [_asked(three, model="one/other")])
            assert grant.allowed
            self.pass_time(41)
            grants = [*await other.reserve("b", [_asked(two)]), *await engine.reserve("b", [_asked(one)])]
            assert _allowed(grants) == [True, True]
        finally:
            await engine.settle("b", [_outcome(prompt) for prompt in (one, two, three)])
            await other.aclose()

    @_with_engine
    async def test_the_cost_of_a_batch_is_never_more_than_its_limit(self, engine: Engine, path: Path) -> None:
        await _batch_of(engine, 5, max_cost_usd=1.0)
        one, two, three, four, five = await _claimed(engine)
        grants = await engine.reserve("b", [_asked(prompt, cost_usd=0.4) for prompt in (one, two, three)])
        assert _allowed(grants) == [True, True, False]
        assert grants[2].refused is None, "the others may turn out to cost less"
        await engine.use("b", [Used(id=one.id, claim=one.claim, cost_usd=0.1)])
        await _sent(engine, three, cost_usd=0.4)
        await engine.settle("b", [_outcome(one, cost=0.1), _outcome(two, cost=0.4), _outcome(three, cost=0.4)])
        (grant,) = await engine.reserve("b", [_asked(four, cost_usd=0.2)])
        assert grant.refused == "max_cost"
        await _sent(engine, four, cost_usd=0.05)
        (grant,) = await engine.reserve("b", [_asked(four, cost_usd=0.04, more=True)])
        assert grant.allowed
        (grant,) = await engine.reserve("b", [_asked(four, cost_usd=0.04, more=True)])
        assert grant.refused == "max_cost"
        await engine.settle("b", [_outcome(four, _FAILED, None), _outcome(five, _QUEUED)])
        info = await engine.batch("b")
        assert info is not None
        assert info.cost_usd == pytest.approx(0.99), "what a request may have cost counts where its cost is unknown"
        assert info.reserved_usd == pytest.approx(0.0)

    @_with_engine
    async def test_what_was_spent_counts_after_the_limit_was_changed(self, engine: Engine, path: Path) -> None:
        await _batch_of(engine, 2, max_cost_usd=1.0)
        one, two = await _claimed(engine)
        await _sent(engine, one, cost_usd=0.9)
        await engine.settle("b", [_outcome(one, cost=0.9)])
        await engine.create("b", {}, BatchLimits(max_cost_usd=1.2))
        (grant,) = await engine.reserve("b", [_asked(two, cost_usd=0.4)])
        assert grant.refused == "max_cost"
        (grant,) = await engine.reserve("b", [_asked(two, cost_usd=0.3)])
        assert grant.allowed


async def _work_and_die(engine: Engine, work: Callable[[Engine], Awaitable[None]]) -> None:
    await work(engine)
    os.kill(os.getpid(), signal.SIGKILL)


def _most_in_a_minute(sent: list[tuple[float, int]]) -> int:
    """Return the greatest sum within any 60 seconds, of moments and amounts."""
    return max(sum(amount for at, amount in sent if start <= at < start + 60) for start, _ in sent)
