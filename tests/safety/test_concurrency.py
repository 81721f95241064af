"""Threads and tasks of one Python process on one thread of the disk store: turns one after another, none lost."""

from __future__ import annotations

import itertools

import pytest

from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import Shell, roles_and_texts

COUNT = 16
SCRIPT = """
import asyncio, sys, threading
from afkcli import Agent, Runner

COUNT, way = int(sys.argv[1]) if len(sys.argv) > 1 else 16, {way!r}
agent = Agent(model="gpt-5.2-mini")
results = []

async def turn(runner, number):
    results.append(await runner.run(agent, user_message=f"m{{number}}", thread_id="t"))

async def tasks():
    async with Runner() as runner:
        await asyncio.gather(*(turn(runner, number) for number in range(COUNT)))

async def own_runners():
    async def one(number):
        async with Runner() as runner:
            await turn(runner, number)
    await asyncio.gather(*(one(number) for number in range(COUNT)))

def in_threads(work):
    workers = [threading.Thread(target=work, args=(number,)) for number in range(COUNT)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

if way == "tasks":
    asyncio.run(tasks())
elif way == "tasks with runners":
    asyncio.run(own_runners())
elif way == "threads with runners":
    def work(number):
        async def one():
            async with Runner() as runner:
                await turn(runner, number)
        asyncio.run(one())
    in_threads(work)
else:
    shared = Runner()
    in_threads(lambda number: asyncio.run(turn(shared, number)))
    shared.close()
print(len(results), sum(result.saved and result.state == "completed" for result in results))
"""


@pytest.mark.parametrize("way", ["tasks", "tasks with runners", "threads with runners", "threads with one runner"])
def test_turns_come_strictly_one_after_another(keyed: Shell, server: ModelServer, way: str) -> None:
    script = keyed.folder / "many.py"
    script.write_text(SCRIPT.format(way=way))

    done = keyed.python(script)

    assert (done.code, done.out) == (0, f"{COUNT} {COUNT}\n"), done.err
    requests = [roles_and_texts(body) for body in server.bodies]
    assert [len(request) for request in requests] == [2 * number + 1 for number in range(COUNT)]
    for before, after in itertools.pairwise(requests):
        assert after[: len(before)] == before  # each sees all that was said before it
    asked = [text for role, text in requests[-1] if role == "user"]
    assert sorted(asked) == sorted(f"m{number}" for number in range(COUNT))
    turns = keyed.afk("threads", "show", "t", "--json").events
    assert [(turn["turn"], turn["state"]) for turn in turns] == [(number + 1, "completed") for number in range(COUNT)]
    for run_id in {event["run_id"] for event in keyed.log()}:
        sequence = [event["seq"] for event in keyed.log() if event["run_id"] == run_id]
        assert sequence == list(range(len(sequence)))
