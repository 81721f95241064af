"""`afk threads copy --to STORE`, between the store on disk and a real PostgreSQL server."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from afkcli.testing.model_script import Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import LIMIT, Shell, kill
from tests.postgres_server import HAS_SERVER, postgres_server, schema_of

pytestmark = pytest.mark.skipif(not HAS_SERVER, reason="the server comes for Linux")
KILLS = 3


@pytest.fixture
def shared(keyed: Shell, tmp_path: Path) -> Iterator[Shell]:
    """A shell whose store `postgres` is a database of its own."""
    name = schema_of(tmp_path)
    server = postgres_server()
    server.execute(f"CREATE DATABASE {name}")
    keyed.env["AFK_DATABASE_URL"] = server.url(dbname=name)
    yield keyed
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def threads(shell: Shell, store: str) -> list[str]:
    """Return the export of all threads of a store, but for its closing line."""
    done = shell.afk("threads", "export", "--all", AFK_STORE=store)
    assert done.code == 0, done.err
    return done.out.splitlines()[:-1]


def test_threads_go_to_postgres_and_come_back_to_the_letter(shared: Shell, tmp_path: Path) -> None:
    picture = shared.folder / "notes.txt"
    picture.write_text("Beans need sun.")
    for arguments in (
        ("-t", "trip", "hi"),
        ("-t", "trip", "again"),
        ("--attach", "notes.txt", "-t", "beans", "what?"),
        ("hi",),
    ):
        assert shared.afk("run", "-q", *arguments).code == 0

    done = shared.afk("threads", "copy", "--to", "postgres", "--json")

    assert (done.code, done.err) == (0, "afk: 3 copied\n")
    assert [json.loads(line)["type"] for line in done.out.splitlines()] == ["copied"] * 3
    assert threads(shared, "postgres") == threads(shared, "disk")
    again = shared.afk("threads", "copy", "--to", "postgres")
    assert (again.code, again.out, again.err) == (0, "", "afk: 3 already there\n")
    assert shared.afk("run", "-q", "-t", "trip", "more", AFK_STORE="postgres").code == 0
    back = shared.afk("threads", "copy", "--to", "disk", "trip", AFK_STORE="postgres")
    assert (back.code, back.err) == (0, "afk: 1 continued there\n")
    assert threads(shared, "postgres") == threads(shared, "disk")


def test_a_name_that_is_taken_is_refused_and_the_others_are_copied(shared: Shell) -> None:
    assert shared.afk("run", "-q", "-t", "trip", "theirs", AFK_STORE="postgres").code == 0
    for name in ("trip", "soup"):
        assert shared.afk("run", "-q", "-t", name, "mine").code == 0

    done = shared.afk("threads", "copy", "--to", "postgres")

    assert done.code == 2
    assert done.err.splitlines() == [
        "afk: the store has another thread 'trip'; rename one of them with `afk threads rename`",
        "afk: 1 copied, 1 refused",
    ]
    assert "theirs" in shared.afk("threads", "show", "trip", AFK_STORE="postgres").out


def test_a_thread_that_a_run_uses_is_left_for_later_and_the_others_are_copied(shared: Shell) -> None:
    for name in ("trip", "soup"):
        assert shared.afk("run", "-q", "-t", name, "hi").code == 0
    with ModelServer([Step(delay_headers=600)]) as server:
        shared.env["OPENAI_BASE_URL"] = server.base_url
        running = shared.start("run", "-q", "-t", "trip", "more")
        server.wait_for_requests(1, LIMIT)

        done = shared.afk("threads", "copy", "--to", "postgres")

        kill(running)
    assert done.code == 5
    assert "'trip'" in done.err
    assert done.err.splitlines()[-1] == "afk: 1 copied, 1 in use"
    assert shared.afk("threads", "copy", "--to", "postgres").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "disk"), "the threads are in the store 'disk' already"),
        (("--to", "nope"), "there is no store 'nope'"),
        ((), "Missing option '--to'"),
        (("--to", "postgres", "missing"), "missing"),
    ],
)
def test_a_wrong_call_is_a_usage_error(shared: Shell, arguments: tuple[str, ...], said: str) -> None:
    assert shared.afk("run", "-q", "-t", "trip", "hi").code == 0
    done = shared.afk("threads", "copy", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_copy_that_was_killed_goes_on(shared: Shell) -> None:
    made = shared.folder / "made.py"
    made.write_text(
        "from afkcli.plugin import data_dir\n"
        "from afk_store_disk.store import open_store\n"
        "from afkcli.testing.store_steps import *\n"
        "store = open_store()\n"
        "for n in range(60):\n"
        "    lease = acquired(store, f't-{n}')\n"
        "    for turn in range(3): lease = save_turn(store, lease, f'question {n} {turn}', 'answer ' * 500)\n"
        "    store.release(lease)\n"
    )
    assert shared.python(made).code == 0
    dice = random.Random(1)
    for _ in range(KILLS):
        process = shared.start("threads", "copy", "--to", "postgres")
        time.sleep(dice.uniform(0.2, 1.2))  # a random moment: what is true after each kill is looked at below
        kill(process)

    done = shared.afk("threads", "copy", "--to", "postgres")

    assert done.code == 0, done.err
    assert threads(shared, "postgres") == threads(shared, "disk")
