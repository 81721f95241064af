"""Threads on a real PostgreSQL server: runs that are killed, hosts that race, a server and a network that go away."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from afkcli.testing.model_script import Step
from tests.faults import kills, races
from tests.faults.ledger import result_of, settle, shown_text
from tests.faults.proxy import CuttableProxy
from tests.faults.server import numbered
from tests.faults.table import Row
from tests.faults.world import PLUGINS, Running, World, new_world, wait_until
from tests.postgres_server import HAS_SERVER, PostgresServer

HOSTS = ("one-host", "another-host")
WITH_FAR_STORE = ("--plugin", str(PLUGINS / "far_store.py"))


@contextlib.contextmanager
def postgres_world(seed: str, *steps: Step, server: PostgresServer | None = None) -> Iterator[World]:
    """Make a world whose threads are on a server of its own, or on `server`."""
    own = server or PostgresServer()
    try:
        with new_world(seed, *steps) as world:
            world.shell.env.update(AFK_STORE="postgres", AFK_DATABASE_URL=own.url())
            yield world
    finally:
        if server is None:
            own.close()


def _without_server(row: Row) -> bool:
    if not HAS_SERVER:
        row.notes.append("skipped: the server comes for Linux")
    return not HAS_SERVER


def killed(seed: str, tries: int) -> Row:
    """Kill runs at random moments."""
    if _without_server(row := Row(case="PostgreSQL: SIGKILL at random moments")):
        return row
    row = kills.random_moments(seed, tries, postgres_world)
    row.case = "PostgreSQL: SIGKILL at random moments"
    return row


def two_hosts(seed: str, processes: int, turns: int) -> Row:
    """Run `processes` at a time on one thread, `turns` each; half of them believe to be on another host."""
    row = Row(case=f"PostgreSQL: {processes} processes of two hosts x {turns}", tries=processes * turns)
    if _without_server(row):
        return row
    with postgres_world(seed, numbered(12, 0.02)) as world:
        chaos = races.Chaos(world, races.REAL_LEASE)

        def talk(number: int) -> None:
            env = {"AFK_STORE": "far_store", "AFK_TEST_HOST": HOSTS[number % 2]}
            for turn in range(turns):
                running = world.start("t", f"p{number} m{turn}", [*WITH_FAR_STORE, "--busy-timeout", "900"], env)
                running.wait(1200)

        with ThreadPoolExecutor(processes) as pool, chaos:
            list(pool.map(talk, range(processes)))
        settle(world, row)
        row.notes.append(f"{chaos.killed} killed, {chaos.stopped} stopped for longer than the lease")
    return row


def server_restarts(seed: str, runs: int, restarts: int) -> Row:
    """Let the server lose its power again and again while answers stream, for up to three seconds each time."""
    row = Row(case="PostgreSQL: the server loses its power in turns", tries=runs)
    if _without_server(row):
        return row
    server = PostgresServer()
    try:
        with postgres_world(seed, numbered(120, 0.05), server=server) as world:
            world.run("first", "makes the tables")
            started = _streaming(world, runs)
            for number in range(restarts):
                chance = world.chance("restart", number)
                time.sleep(chance.uniform(0.1, 1.0))
                server.stop_at_once()
                time.sleep(chance.uniform(0.0, 3.0))
                server.start()
            _all_saved(started, row)
            settle(world, row)
    finally:
        server.close()
    return row


def network_cut(seed: str, runs: int) -> Row:
    """Cut the network to the server in the middle of answers, without a sign, for longer than a reply may take."""
    row = Row(case="PostgreSQL: the network is cut without a sign", tries=runs)
    if _without_server(row):
        return row
    server = PostgresServer()
    try:
        with (
            CuttableProxy(f"{server.socket_folder}/.s.PGSQL.5432") as proxy,
            postgres_world(seed, numbered(120, 0.05), server=server) as world,
        ):
            world.shell.env["AFK_DATABASE_URL"] = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
            world.run("first", "makes the tables")
            started = _streaming(world, runs)
            proxy.cut()
            time.sleep(world.chance("cut").uniform(11.0, 14.0))  # longer than the lease and than a reply may take
            proxy.mend()
            _all_saved(started, row)
            settle(world, row)
    finally:
        server.close()
    return row


def server_away(seed: str, runs: int) -> Row:
    """Take the server away for good in the middle of answers: each turn is in a rescue file, and can be imported."""
    row = Row(case="PostgreSQL: the server is away at the end", tries=runs)
    if _without_server(row):
        return row
    server = PostgresServer()
    try:
        with postgres_world(seed, numbered(2, 0.01), server=server) as world:
            config = world.shell.home / "afk" / "config" / "config.toml"
            config.parent.mkdir(parents=True)
            config.write_text("[stores.postgres]\nwait_timeout = 1\n")
            world.run("first", "makes the tables")
            world.server.script(numbered(2_000, 0.05))
            started = _streaming(world, runs)
            server.stop_at_once()
            for running in started:
                world.server.hurry(running.message)
                running.wait()
            world.server.script(numbered(2, 0.01))
            late = world.run("late", "begins without the server")
            server.start()
            for running in [*started, late]:
                _check_rescued(world, running, row)
    finally:
        server.close()
    return row


def _streaming(world: World, runs: int) -> list[Running]:
    started = [world.start(f"t{number}", f"streams {number}") for number in range(runs)]
    for running in started:
        world.asked(running)
        wait_until(lambda running=running: shown_text(running))  # type: ignore[misc]
    return started


def _all_saved(started: Sequence[Running], row: Row) -> None:
    for running in started:
        running.wait()
        result = result_of(running) or {}
        if (running.process.returncode, result.get("saved")) != (0, True):
            row.problems.append(f"{running.message!r} was not saved: {result} {running.stderr}")


def _check_rescued(world: World, running: Running, row: Row) -> None:
    """The run ended with 1 and named a rescue file, which brings its whole answer into the thread."""
    named = [event["message"] for event in running.events() if event["type"] == "warning"]
    files = list({text.rpartition("it is kept in ")[2] for text in named if "it is kept in " in text})
    if running.process.returncode != 1 or len(files) != 1:
        row.problems.append(f"{running.message!r} ended with {running.process.returncode}: {named} {running.stderr}")
        return
    done = world.afk("threads", "import", files[0])
    kept = world.afk("threads", "show", running.thread).out
    if done.code != 0 or shown_text(running) not in kept:
        row.problems.append(f"the rescue file of {running.message!r}: {done.err} {kept}")
