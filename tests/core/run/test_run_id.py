"""The run id that a caller chooses: it is used as it is, and an id that is in use is refused before a write."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.ids import uuid7
from afkcli.core.contract.messages import TextDelta
from afkcli.core.contract.result import AgentResult, RunState
from afkcli.core.run.config import RunnerConfig, unknown_owner
from afkcli.core.thread.history import load_history
from afkcli.core.thread.memory_store import MemoryStore
from tests.core.scripted import Scripted, agent, answer, runner_of

RUN_ID = "0198c0de-1234-7abc-8def-0123456789ab"


def run(store: MemoryStore, *scripts: Any, busy: Any = "wait", **options: Any) -> AgentResult:
    async def work() -> AgentResult:
        async with runner_of(Scripted(*scripts), store=store, config=RunnerConfig(busy=busy)) as runner:
            return await runner.run(agent(), user_message="hi", **options)

    return asyncio.run(work())


def state_of(store: MemoryStore, name: str) -> object:
    thread = store.find(name)
    return thread and (thread, store.load(thread.key))


def test_the_chosen_id_is_in_the_events_the_result_and_the_thread() -> None:
    store = MemoryStore()

    async def work() -> set[str]:
        async with runner_of(Scripted(answer("a")), store=store) as runner:
            handle = await runner.run_stream(agent(), user_message="hi", thread_id="t", run_id=RUN_ID)
            ids = {event.run_id async for event in handle}
            return ids | {handle.run_id, handle.result.run_id}

    assert asyncio.run(work()) == {RUN_ID}
    thread = store.find("t")
    assert thread is not None
    assert [turn.run_id for turn in load_history(store, thread).turns] == [RUN_ID]


def test_the_chosen_id_names_a_new_thread() -> None:
    store = MemoryStore()
    assert run(store, answer("a"), run_id=RUN_ID).thread_id == RUN_ID


@pytest.mark.parametrize(
    "run_id",
    [
        "",
        "run-1",
        RUN_ID.upper(),
        RUN_ID.replace("-", ""),
        RUN_ID + "\n",
        "0198c0de-1234-4abc-8def-0123456789ab",
        "0198c0de-1234-7abc-7def-0123456789ab",
        7,
    ],
)
def test_an_id_that_is_not_a_uuid7_is_refused(run_id: Any) -> None:
    store = MemoryStore()
    with pytest.raises(UsageError, match="must be a UUIDv7"):
        run(store, run_id=run_id)
    assert store.list() == []


def test_an_id_that_the_thread_already_has_is_refused_before_a_write() -> None:
    store = MemoryStore()
    run(store, answer("a"), thread_id="t", run_id=RUN_ID)
    run(store, answer("b"), thread_id="t")
    before = state_of(store, "t")
    with pytest.raises(UsageError, match="already has a turn of the run id"):
        run(store, thread_id="t", run_id=RUN_ID)
    assert state_of(store, "t") == before
    assert run(store, answer("c"), thread_id="t", run_id=uuid7()).final_text == "c"  # the lease was given back


def test_an_id_of_an_open_turn_is_refused_before_it_is_sealed() -> None:
    store = MemoryStore()

    async def die() -> None:
        runner = runner_of(Scripted([TextDelta("a"), asyncio.Event()]), store=store)
        handle = await runner.run_stream(agent(), user_message="hi", thread_id="t", run_id=RUN_ID)
        assert (await anext(handle)).type == "run_started"
        thread = store.find("t")
        assert thread is not None
        assert thread.open_turn is not None
        opened.append(state_of(store, "t"))
        await handle.cancel()
        await runner.aclose()

    opened: list[Any] = []
    asyncio.run(die())
    copy = MemoryStore()
    thread, records = opened[0]
    lease = copy.acquire("t", unknown_owner("other"), key=thread.key)
    assert lease is not None
    copy.append(thread, records, "", lease)
    copy.release(lease)
    before = state_of(copy, "t")
    with pytest.raises(UsageError, match="already has a turn of the run id"):
        run(copy, thread_id="t", run_id=RUN_ID)
    assert state_of(copy, "t") == before


@pytest.mark.parametrize("busy", ["wait", "fail", "fork"])
def test_an_id_that_names_a_thread_is_refused_for_a_new_thread(busy: Any) -> None:
    store = MemoryStore()
    run(store, answer("a"), run_id=RUN_ID)
    before = state_of(store, RUN_ID)
    with pytest.raises(UsageError, match="there is already a thread"):
        run(store, busy=busy, run_id=RUN_ID)
    assert state_of(store, RUN_ID) == before
    lease = store.acquire(RUN_ID, unknown_owner("other"))  # also at once while another run holds it
    assert lease is not None
    with pytest.raises(UsageError, match="there is already a thread"):
        run(store, busy=busy, run_id=RUN_ID)
    store.release(lease)
    assert [thread.name for thread in store.list()] == [RUN_ID]


def test_a_resumed_turn_may_have_a_chosen_id_but_not_the_one_that_it_resumes() -> None:
    store = MemoryStore()
    cut = run(store, [TextDelta("a"), OSError("broken")], thread_id="t", run_id=RUN_ID)
    assert cut.state is RunState.FAILED

    async def resume(run_id: str) -> AgentResult:
        async with runner_of(Scripted(answer("b")), store=store) as runner:
            return await runner.resume(agent(), thread_id="t", run_id=run_id)

    with pytest.raises(UsageError, match="already has a turn of the run id"):
        asyncio.run(resume(RUN_ID))
    fresh = uuid7()
    assert asyncio.run(resume(fresh)).run_id == fresh
