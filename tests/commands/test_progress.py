"""What the commands on many threads tell of how far they have come."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from afk_store_disk.store import DiskStore

from afkcli.core.contract.waits import Wait, observed
from tests.commands.test_llm_import import OLDER, made, respond
from tests.commands.test_session_import import SESSIONS
from tests.commands.test_thread_gc import RULE, configure, old_thread
from tests.e2e.shell import Shell


@dataclass
class Told:
    """Something that took long: what it is, and how far it had come each time that it said so."""

    text: str
    in_bytes: bool
    steps: list[tuple[float, float]] = field(default_factory=list)
    ended: bool = False

    def tell(self, done: float, total: float) -> None:
        self.steps.append((done, total))

    def end(self) -> None:
        self.ended = True


@dataclass
class Listener:
    told: list[Told] = field(default_factory=list)

    def begin(self, text: str, *, in_bytes: bool = False) -> Wait:
        self.told.append(Told(text, in_bytes))
        return self.told[-1]

    def of(self, text: str) -> Told:
        [found] = [told for told in self.told if told.text == text]
        return found


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    with observed(made):
        yield made


def test_an_import_of_an_export_tells_the_bytes_that_were_read(talked: Shell, listener: Listener) -> None:
    exported = talked.in_process("threads", "export", "--all").out
    file = talked.home / "export.jsonl"
    file.write_text(exported)

    assert talked.in_process("threads", "import", str(file)).code == 0

    told = listener.of("importing")
    assert told.in_bytes
    assert [total for _, total in told.steps] == [len(exported.encode())] * len(exported.splitlines())
    assert [done for done, _ in told.steps] == sorted({done for done, _ in told.steps})
    assert told.steps[-1][0] == len(exported.encode())
    assert told.ended


@pytest.mark.parametrize("program", SESSIONS)
def test_an_import_of_a_session_tells_the_bytes_that_were_read(
    shell: Shell, listener: Listener, program: str, tmp_path: Path
) -> None:
    file = tmp_path / "session.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in SESSIONS[program]))

    assert shell.in_process("threads", "import", str(file)).code == 0

    assert listener.of("importing").steps[-1] == (file.stat().st_size, file.stat().st_size)


def test_an_import_from_a_pipe_does_not_need_to_know_how_much_there_is(talked: Shell) -> None:
    exported = talked.in_process("threads", "export", "--all").out
    done = talked.afk("threads", "import", stdin=exported.encode())
    assert (done.code, done.err) == (0, "afk: 2 already present\n")


def test_an_import_of_llm_tells_the_conversations(shell: Shell, listener: Listener) -> None:
    def three(database: sqlite3.Connection) -> None:
        for number in range(3):
            respond(database, f"01h5370000000000000000000{number}", f"question {number}", "answer")

    made(shell.folder, OLDER, three)

    assert shell.in_process("threads", "import", "logs.db").code == 0

    told = listener.of("importing conversations")
    assert told.steps == [(0, 3), (1, 3), (2, 3)]
    assert not told.in_bytes
    assert told.ended


def test_an_export_of_all_threads_tells_the_threads(talked: Shell, listener: Listener) -> None:
    assert talked.in_process("threads", "export", "--all").code == 0
    assert listener.of("exporting threads").steps == [(0, 2), (1, 2)]


def test_the_first_search_tells_the_threads_of_its_index(talked: Shell, listener: Listener) -> None:
    (talked.home / "afk" / "data" / "search.db").unlink(missing_ok=True)

    assert talked.in_process("threads", "search", "Paris").code == 0

    told = listener.of("making the search index, threads")
    assert told.steps == [(0, 2)]  # a step takes up to 500
    assert told.ended


def test_gc_tells_the_threads_that_it_deletes(keyed: Shell, listener: Listener) -> None:
    store = DiskStore(keyed.home / "afk" / "data")
    configure(keyed, RULE)
    for _ in range(3):
        store.release(old_thread(store))
    store.close()

    assert keyed.in_process("threads", "gc").code == 0

    assert listener.of("deleting threads").steps == [(0, 3), (1, 3), (2, 3)]


def test_nothing_is_told_where_nobody_looks_on(talked: Shell) -> None:
    done = talked.in_process("threads", "export", "--all")
    assert (done.code, done.err) == (0, "")
