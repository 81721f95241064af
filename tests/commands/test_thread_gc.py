"""`afk threads gc` deletes what nobody named and used, by a rule of the config, and what is left over."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from afk_store_disk.store import DiskStore

from afkcli.core.contract.ids import rfc3339, uuid7
from afkcli.core.contract.messages import Role, text_message
from afkcli.core.contract.protocols import Lease, RecordKind
from afkcli.core.contract.result import RunState
from afkcli.core.contract.structs import replace
from afkcli.core.thread.operations import rename, tag
from afkcli.core.thread.records import advance, next_record
from afkcli.core.thread.turns import SealedTurn, after_seal, turn_to_json
from afkcli.testing.model_server import Fault, ModelServer, Step
from afkcli.testing.store_steps import acquired, save, with_question
from tests.commands.conftest import on_terminal
from tests.commands.test_thread_remove import rescue_file
from tests.e2e.shell import Shell, wait_for_output

RULE = "[threads]\nkeep_unnamed_days = 30\n"


@pytest.fixture
def store(keyed: Shell) -> DiskStore:
    return DiskStore(keyed.home / "afk" / "data")


def configure(shell: Shell, text: str) -> None:
    folder = shell.home / "afk" / "config"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / "config.toml").write_text(text)


def old_thread(store: DiskStore, *, days: float = 40, name: str | None = None, run: str | None = None) -> Lease:
    """Make a thread of one turn that ended so many days ago; by default its name is the id of its run."""
    run = run or uuid7()
    lease = acquired(store, name or run)
    ended = rfc3339(time.time() - days * 86400)
    turn = SealedTurn(
        turn=1,
        run_id=run,
        state=RunState.COMPLETED,
        reason=None,
        error=None,
        error_kind=None,
        agent="afk",
        model="m",
        started=ended,
        sealed=ended,
        messages=(text_message(Role.USER, "An old question"), text_message(Role.ASSISTANT, "Yes.")),
        cost_usd=0.0,
    )
    record = next_record(lease.thread, RecordKind.SEAL, 1, turn_to_json(turn))
    thread = after_seal(replace(advance(lease.thread, record), turns=1, title="An old question"), turn)
    return save(store, lease, (thread, record))


def names(store: DiskStore) -> set[str]:
    return {info.name for info in store.list()}


@pytest.mark.parametrize("config", ["", "[threads]\nkeep_unnamed_days = 0\n"])
def test_without_a_rule_nothing_is_deleted_and_a_line_says_so(keyed: Shell, store: DiskStore, config: str) -> None:
    configure(keyed, config)
    store.release(old_thread(store, days=4000))
    done = keyed.in_process("threads", "gc")
    assert (done.code, done.out) == (0, "")
    assert done.err == (
        "afk: unnamed threads are kept: [threads] keep_unnamed_days is 0; set it in your config to delete old ones\n"
    )
    assert len(names(store)) == 1


def test_old_unnamed_threads_are_deleted_and_all_others_stay(keyed: Shell, store: DiskStore) -> None:
    configure(keyed, RULE)
    gone = old_thread(store)
    stay = {"new": old_thread(store, days=29), "named": old_thread(store, name="named")}
    stay["other run"] = old_thread(store, name=uuid7(), run=uuid7())
    stay["tagged"] = replace(lease := old_thread(store), thread=tag(store, lease, ["keep"]))
    lease = old_thread(store)
    lease = replace(lease, thread=tag(store, lease, ["no longer"[:2]]))
    stay["was tagged"] = replace(lease, thread=tag(store, lease, (), ["no"]))
    lease = old_thread(store)
    first = lease.thread.name
    lease = replace(lease, thread=rename(store, lease, "meanwhile"))
    stay["was renamed"] = replace(lease, thread=rename(store, lease, first))
    opened = old_thread(store)
    stay["unfinished"] = save(store, opened, with_question(opened.thread, "question"))
    for lease in (gone, *stay.values()):
        store.release(lease)
    held = old_thread(store)
    wanted = {lease.thread.name for lease in (held, *stay.values())}

    done = keyed.in_process("threads", "gc", "--dry-run", "--json")
    assert [(row["type"], row["what"], row["thread_id"]) for row in done.events] == [
        ("would_delete", "thread", gone.thread.name)
    ]
    assert names(store) == wanted | {gone.thread.name}
    done = keyed.in_process("threads", "gc")
    assert done.code == 0
    assert done.out.split()[0] == gone.thread.name
    assert done.err == "afk: deleted 1 unnamed thread that was not used for 30 days\n"
    assert names(store) == wanted
    assert keyed.in_process("threads", "gc").out == ""


@pytest.mark.parametrize(("rule", "said"), [(1, "1 day"), (2, "2 days")])
def test_the_age_of_the_rule_is_named(keyed: Shell, store: DiskStore, rule: int, said: str) -> None:
    configure(keyed, f"[threads]\nkeep_unnamed_days = {rule}\n")
    for _ in range(2):
        store.release(old_thread(store))
    done = keyed.in_process("threads", "gc", "--dry-run")
    assert done.err == f"afk: would delete 2 unnamed threads that were not used for {said}\n"


def test_the_list_fits_a_terminal(keyed: Shell, store: DiskStore) -> None:
    configure(keyed, RULE)
    for _ in range(3):
        store.release(old_thread(store))
    code, seen = on_terminal(keyed, "threads", "gc", "--dry-run", NO_COLOR="1", columns=80)
    assert code == 0
    assert "afk: would delete 3 unnamed threads that were not used for 30 days" in seen
    assert all(len(line) <= 80 for line in seen.splitlines())


def test_a_thread_of_a_run_that_is_not_over_stays(keyed: Shell, store: DiskStore, server: ModelServer) -> None:
    configure(keyed, RULE)
    lease = old_thread(store)
    store.release(lease)
    server.script(Step(text=["So far ", "so good"], fault=Fault.HANG, fault_after=1))
    process = keyed.start("run", "-t", lease.thread.name, "Go")
    wait_for_output(process, b"So far")
    assert keyed.in_process("threads", "gc").code == 0
    assert names(store) == {lease.thread.name}
    server.release()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


def test_a_thread_with_a_turn_in_a_rescue_file_stays_until_it_is_restored(keyed: Shell, store: DiskStore) -> None:
    configure(keyed, RULE)
    lease = old_thread(store)
    store.release(lease)
    file = rescue_file(keyed, lease.thread.name, uuid7())
    keyed.in_process("threads", "gc")
    assert names(store) == {lease.thread.name}
    assert file.exists()


def test_rescue_files_whose_turn_was_restored_are_removed(keyed: Shell, store: DiskStore) -> None:
    restored, waiting = rescue_file(keyed, "saved", "run-1"), rescue_file(keyed, "lost", "run-2")
    damaged = restored.with_name("afk-damaged.json")
    damaged.write_text("rubbish")
    assert keyed.in_process("threads", "import", str(restored)).code == 0
    done = keyed.in_process("threads", "gc", "--dry-run", "--json")
    assert [row["file"] for row in done.events] == [str(restored)]
    assert restored.exists()
    done = keyed.in_process("threads", "gc")
    assert "afk: deleted 1 rescue file whose turn was restored" in done.err
    assert (restored.exists(), waiting.exists(), damaged.exists()) == (False, True, True)


def test_attachments_without_a_thread_are_dropped_and_others_stay(
    keyed: Shell, store: DiskStore, tmp_path: Path
) -> None:
    note = tmp_path / "note.txt"
    note.write_text("attached")
    assert keyed.in_process("run", "-t", "has", "--attach", str(note), "Read it").code == 0
    with closing(sqlite3.connect(store.file)) as con, con:
        ((key,),) = con.execute("SELECT DISTINCT thread FROM Content").fetchall()
        con.execute("INSERT INTO Content VALUES ('gone', 'a', x'0011'), ('gone', 'b', x'22')")
    done = keyed.in_process("threads", "gc", "--dry-run", "--json")
    assert [(row["what"], row["count"], row["bytes"]) for row in done.events] == [("contents", 2, 3)]
    assert "deleted 2 attachments without a thread" in keyed.in_process("threads", "gc").err
    with closing(sqlite3.connect(store.file)) as con:
        assert con.execute("SELECT DISTINCT thread FROM Content").fetchall() == [(key,)]


@pytest.mark.parametrize("value", ["-1", '"30d"', "true", "1.5"])
def test_a_rule_that_is_no_number_of_days_is_named_with_its_line(keyed: Shell, value: str) -> None:
    configure(keyed, f"[threads]\nkeep_unnamed_days = {value}\n")
    done = keyed.in_process("threads", "gc")
    assert done.code == 2
    assert "line 2: 'threads.keep_unnamed_days' must be" in done.err


def test_a_project_file_has_no_say(keyed: Shell, store: DiskStore) -> None:
    store.release(old_thread(store))
    (keyed.folder / "afk.toml").write_text(RULE)
    keyed.in_process("trust", "--yes")
    assert keyed.in_process("threads", "gc").out == ""
    assert len(names(store)) == 1


def test_gc_at_once_by_several_deletes_each_thread_once(keyed: Shell, store: DiskStore) -> None:
    configure(keyed, RULE)
    for _ in range(12):
        store.release(old_thread(store))
    processes = [keyed.start("threads", "gc", "--json") for _ in range(4)]
    rows = []
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        rows += [json.loads(line)["thread_id"] for line in out.splitlines()]
    assert len(rows) == len(set(rows)) == 12
    assert names(store) == set()
