"""An open turn is journaled beside the database while another process holds its write lock."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from afk_store_disk.spool import name_of
from afk_store_disk.store import DiskStore

from afkcli.core.thread.batch import make_alone
from afkcli.core.thread.history import load_history
from afkcli.core.thread.operations import seal_interrupted
from afkcli.core.thread.store_worker import StoreWorker
from afkcli.core.thread.turns import Beginning
from afkcli.core.thread.writer import TurnWriter
from afkcli.plugin import (
    LEASE_SECONDS,
    HeadMismatchError,
    Lease,
    LeaseLostError,
    Role,
    StoreError,
    current_owner,
    text_message,
)
from afkcli.testing.store_steps import (
    ShiftedTime,
    acquired,
    asked,
    digest,
    save,
    with_journal,
    with_meta,
    with_question,
    with_seal,
)

posix = pytest.mark.skipif(os.name != "posix", reason="files as POSIX has them")


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has to wait for the lock gives up soon."""
    monkeypatch.setattr("afk_store_disk.write_lock.LOCK_TIMEOUT", 0.1)


@pytest.fixture
def other(folder: Path, store: DiskStore) -> Iterator[DiskStore]:
    """The same threads as another process sees them."""
    other = DiskStore(folder)
    yield other
    other.close()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the write lock, as a process does that is stopped while it writes."""
    holder = sqlite3.connect(folder / "threads.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


def journal(store: DiskStore, lease: Lease, *texts: str) -> Lease:
    for text in texts:
        lease = save(store, lease, with_journal(lease.thread, text))
    return lease


def spooled(folder: Path) -> list[Path]:
    return sorted((folder / "spool").iterdir()) if (folder / "spool").exists() else []


def texts_in_database(folder: Path) -> list[str]:
    """Return the texts of the records that the database itself holds."""
    con = sqlite3.connect(folder / "threads.db")
    rows = con.execute("SELECT value FROM Cache WHERE key LIKE 'thread/%/open/%' ORDER BY key").fetchall()
    con.close()
    return [value.partition("\n")[2] for (value,) in rows]


def taken_over(store: DiskStore) -> Lease:
    """Return the lease of the thread, whose owner is gone."""
    lease = store.acquire("t-42", current_owner("next"))
    assert lease is not None
    return lease


def said_by(store: DiskStore, lease: Lease) -> str:
    """Seal what is open and return the answer of the last turn."""
    _, history = seal_interrupted(store, lease, load_history(store, lease.thread))
    assert history.damage == ()
    return history.turns[-1].messages[-1].text


@pytest.fixture
def dead_owner(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have the owner of every lease be proven dead from now on."""
    return lambda: monkeypatch.setattr("afk_store_disk.leases.proven_dead", lambda owner: True)


def test_text_is_journaled_and_read_by_others_while_the_database_is_locked(
    store: DiskStore, other: DiskStore, folder: Path
) -> None:
    lease = journal(store, asked(store), "before, ")
    with locked(folder):
        lease = journal(store, lease, "during, ", "all of it")
        assert store.find("t-42") == other.find("t-42") == lease.thread
        assert other.list() == [lease.thread]
        assert other.load(lease.thread.key) == store.load(lease.thread.key)
        assert load_history(other, lease.thread).damage == ()
        assert [record.index for record in other.load(lease.thread.key, after=1)] == [2, 3]
        assert [record.index for record in other.load(lease.thread.key, limit=2, reverse=True)] == [3, 2]
    assert len(texts_in_database(folder)) == 2


def test_the_next_write_brings_it_in_and_removes_the_file(store: DiskStore, folder: Path) -> None:
    lease = asked(store)
    with locked(folder):
        lease = journal(store, lease, "during, ")
    assert len(spooled(folder)) == 1
    lease = journal(store, lease, "after")
    assert spooled(folder) == []
    assert len(texts_in_database(folder)) == 3
    lease = save(store, lease, with_seal(lease.thread, [text_message(Role.USER, "question")]))
    assert load_history(store, lease.thread).damage == ()


@pytest.mark.parametrize("end", ["renew", "release"])
def test_a_renewal_and_a_release_bring_it_in_too(store: DiskStore, folder: Path, end: str) -> None:
    lease = asked(store)
    with locked(folder):
        lease = journal(store, lease, "text")
    getattr(store, end)(lease)
    assert spooled(folder) == []
    assert len(texts_in_database(folder)) == 2
    assert store.find("t-42") == lease.thread


def test_the_next_owner_of_the_lease_finds_it(
    store: DiskStore, other: DiskStore, folder: Path, dead_owner: Callable[[], None]
) -> None:
    lease = asked(store)
    with locked(folder):
        lease = journal(store, lease, "half ", "an answer")
    dead_owner()
    lease = taken_over(other)
    assert spooled(folder) == []
    assert said_by(other, lease) == "half an answer"


def test_a_killed_process_loses_nothing_of_it(store: DiskStore, folder: Path, start_python) -> None:
    code = """
store = DiskStore(folder)
lease = asked(store)
print('asked', flush=True)
sys.stdin.readline()
for number in range(50):
    lease = save(store, lease, with_journal(lease.thread, f'{number} '))
print('aside', flush=True)
time.sleep(60)
"""
    import subprocess

    process = start_python(code, stdin=subprocess.PIPE)
    assert process.stdout.readline() == "asked\n"
    with locked(folder):
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "aside\n"
        process.kill()
        process.wait()
        thread = store.find("t-42")
        assert thread is not None
        assert thread.next_index == 51
    assert said_by(store, taken_over(store)) == "".join(f"{number} " for number in range(50))


def test_bringing_in_twice_changes_nothing(store: DiskStore, folder: Path, dead_owner: Callable[[], None]) -> None:
    """As after a crash between the commit and the removal of the file."""
    lease = asked(store)
    with locked(folder):
        lease = journal(store, lease, "one, ")
    [file] = spooled(folder)
    content = file.read_bytes()
    lease = journal(store, lease, "two")
    file.write_bytes(content)
    assert store.find("t-42") == lease.thread
    assert [record.index for record in store.load(lease.thread.key)] == [0, 1, 2]
    with locked(folder):
        lease = journal(store, lease, ", three")
    dead_owner()
    assert said_by(store, taken_over(store)) == "one, two, three"
    assert spooled(folder) == []


def test_a_seal_that_waits_for_the_lock_is_kept_if_its_process_dies(
    store: DiskStore, other: DiskStore, folder: Path, dead_owner: Callable[[], None]
) -> None:
    lease = asked(store)
    with locked(folder):
        lease = journal(store, lease, "half")
        step = with_seal(lease.thread, [text_message(Role.USER, "question"), text_message(Role.ASSISTANT, "all of it")])
        with pytest.raises(StoreError, match="was locked by another process"):
            save(store, lease, step)
        assert [record.kind.value for record in other.load(lease.thread.key)] == ["seal"]
    dead_owner()
    lease = taken_over(other)
    assert lease.thread == step[0]
    history = load_history(other, lease.thread)
    assert history.damage == ()
    assert [turn.state.value for turn in history.turns] == ["completed"]
    assert texts_in_database(folder) == []
    assert other.list(search="all of it") == [lease.thread]


def test_a_seal_that_gets_the_lock_in_time_is_there_once(store: DiskStore, folder: Path) -> None:
    lease = asked(store)
    with locked(folder):
        lease = journal(store, lease, "half")
        step = with_seal(lease.thread, [text_message(Role.USER, "question")])
        with pytest.raises(StoreError):
            save(store, lease, step)
    lease = save(store, lease, step)
    assert [record.kind.value for record in store.load(lease.thread.key)] == ["seal"]
    assert spooled(folder) == []


@pytest.mark.parametrize("with_step", [with_question, lambda thread, text: with_meta(thread, title=text)])
def test_what_opens_a_turn_or_changes_a_thread_is_not_put_aside(store: DiskStore, folder: Path, with_step) -> None:
    lease = acquired(store)
    with locked(folder), pytest.raises(StoreError, match=r"threads\.db was locked by another process"):
        save(store, lease, with_step(lease.thread, "text"))
    assert spooled(folder) == []
    save(store, lease, with_step(lease.thread, "text"))


def test_the_lease_of_a_run_that_streams_is_renewed_all_the_same(
    store: DiskStore, other: DiskStore, folder: Path
) -> None:
    lease = asked(store)
    shifted = ShiftedTime()
    shifted.start()
    try:
        with locked(folder):
            for _ in range(4):
                shifted.advance(LEASE_SECONDS * 0.6)
                renewed = store.renew(lease)
                lease = journal(store, replace(renewed, thread=lease.thread), "text ")
        assert other.holder("t-42") is not None
        assert other.acquire("t-42", current_owner("other")) is None
        shifted.advance(LEASE_SECONDS * 1.1)
        assert other.holder("t-42") is None
        assert said_by(other, taken_over(other)) == "text " * 4
    finally:
        shifted.stop()


class TestAnOwnerThatLostItsLease:
    def test_can_put_nothing_aside(
        self, store: DiskStore, other: DiskStore, folder: Path, dead_owner: Callable[[], None]
    ) -> None:
        lease = asked(store)
        dead_owner()
        taken_over(other)
        with locked(folder):
            with pytest.raises(LeaseLostError):
                journal(store, lease, "too late")
            with pytest.raises(LeaseLostError):
                store.renew(lease)
        assert spooled(folder) == []

    def test_a_suspended_owner_gets_an_error_and_its_late_lines_are_ignored(
        self,
        store: DiskStore,
        other: DiskStore,
        folder: Path,
        dead_owner: Callable[[], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """It is taken over after it looked at its lease and before it writes to its file."""
        lease = journal(store, asked(store), "in time")
        put = store._spool.put_records
        dead_owner()
        released: list[Lease] = []

        def put_later(*arguments: object) -> None:
            holder.rollback()
            released.append(taken_over(other))
            put(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(store._spool, "put_records", put_later)
        holder = sqlite3.connect(folder / "threads.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(LeaseLostError):
            journal(store, lease, ", too late")
        holder.close()
        assert len(spooled(folder)) == 1
        assert other.find("t-42") == released[0].thread
        assert len(other.load(lease.thread.key)) == 2
        assert said_by(other, released[0]) == "in time"
        other.release(released[0])
        assert spooled(folder) == []

    def test_leaves_a_file_that_the_next_one_removes(
        self, store: DiskStore, folder: Path, dead_owner: Callable[[], None]
    ) -> None:
        lease = asked(store)
        with locked(folder):
            journal(store, lease, "text")
        [file] = spooled(folder)
        content = file.read_bytes()
        dead_owner()
        lease = taken_over(store)
        file.write_bytes(content)
        assert len(store.load(lease.thread.key)) == 2
        taken_over(store)
        assert spooled(folder) == []


def test_nothing_of_an_open_turn_waits_for_the_lock(store: DiskStore, folder: Path) -> None:
    """Also where the lease is as it was taken, before the turn was opened."""
    taken = acquired(store)
    lease = save(store, taken, with_question(taken.thread, "question"))
    con = store._cache._con
    allowed: list[int] = []
    con.set_trace_callback(lambda sql: allowed.append(con.busy_timeout) if sql == "BEGIN IMMEDIATE" else None)
    with locked(folder):
        renewed = store.renew(taken)
        journal(store, replace(renewed, thread=lease.thread), "one", "two")
    assert 0 < allowed[0] <= 20
    assert set(allowed[1:]) == {0}
    assert con.execute("PRAGMA busy_timeout").fetchone() == (0,)


def test_turns_of_a_process_are_journaled_while_another_call_of_it_waits(
    store: DiskStore, other: DiskStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store._cache.lock, "timeout", 30)
    calls, problems = StoreWorker(), list[Exception]()
    writer = TurnWriter(store, acquired(store), "run", problems.append)
    beginning = Beginning(messages=(text_message(Role.USER, "question"),))
    make_alone(writer.open(beginning, agent="agent", model="model", now="2026-01-01T00:00:00.000Z"))
    calls.submit(calls.watch, writer).result()
    with locked(folder):
        waiting = calls.submit(store.acquire, "another", current_owner("run"))
        writer.journal_text("while it waits")
        while "while it waits" not in load_history(other, other.find("t-42")).open_records[-1].body:
            time.sleep(0.01)
        assert not waiting.done()
    assert waiting.result() is not None
    calls.submit(calls.unwatch, writer).result()
    calls.close()
    assert problems == []


def test_the_same_record_twice_is_a_wrong_head(store: DiskStore, folder: Path) -> None:
    lease = asked(store)
    step = with_journal(lease.thread, "text")
    save(store, lease, step)
    with pytest.raises(HeadMismatchError):
        save(store, lease, step)
    with locked(folder), pytest.raises(HeadMismatchError):
        save(store, lease, step)


def test_another_process_with_the_same_lease_waits_for_the_lock(
    store: DiskStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = asked(store)
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    with locked(folder), pytest.raises(StoreError, match="was locked by another process"):
        journal(store, lease, "text")
    assert spooled(folder) == []


def test_a_wrong_head_is_refused_while_the_database_is_locked(store: DiskStore, folder: Path) -> None:
    lease = asked(store)
    with locked(folder):
        later = journal(store, lease, "text")
        with pytest.raises(HeadMismatchError):
            journal(store, lease, "from an older head")
        journal(store, later, "from the right one")


def test_a_deleted_thread_leaves_no_file(store: DiskStore, folder: Path) -> None:
    lease = asked(store)
    with locked(folder):
        lease = journal(store, lease, "text")
    store.delete(lease)
    assert spooled(folder) == []


class TestDamage:
    @pytest.fixture
    def file(self, store: DiskStore, folder: Path, dead_owner: Callable[[], None]) -> Path:
        """The file of an owner that died, three lines long."""
        lease = asked(store)
        with locked(folder):
            journal(store, lease, "one, ", "two, ", "three")
        [file] = spooled(folder)
        dead_owner()
        return file

    def test_of_a_line_is_named_and_the_lines_before_it_are_used(
        self, store: DiskStore, folder: Path, file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        content = bytearray(file.read_bytes())
        content[content.index(b"two")] ^= 1
        file.write_bytes(content)
        assert said_by(store, taken_over(store)) == "one, "
        [line] = [record.message for record in caplog.records]
        [copy] = spooled(folder)
        assert str(file) in line
        assert str(copy) in line
        assert copy.read_bytes() == content

    def test_that_a_kill_leaves_at_the_end_is_not_mentioned(
        self, store: DiskStore, folder: Path, file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        os.truncate(file, file.stat().st_size - 20)
        assert said_by(store, taken_over(store)) == "one, two, "
        assert caplog.records == []
        assert spooled(folder) == []

    @pytest.mark.parametrize(
        "content", [b"", b"\n", b"\0" * 5000, b"00000000 {}\n", b"x" * 300 + b"\n", b"\xff \xfe\n"]
    )
    def test_of_any_kind_raises_no_unexpected_error(self, store: DiskStore, file: Path, content: bytes) -> None:
        file.write_bytes(content)
        assert store.load(taken_over(store).thread.key)[0].kind.value == "question"

    @posix
    @pytest.mark.parametrize("kind", ["link", "FIFO", "folder"])
    def test_a_planted_file_is_left_out(
        self, store: DiskStore, folder: Path, file: Path, kind: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        target = folder / "elsewhere"
        file.rename(target)
        {"link": lambda: file.symlink_to(target), "FIFO": lambda: os.mkfifo(file), "folder": file.mkdir}[kind]()
        lease = taken_over(store)
        assert len(store.load(lease.thread.key)) == 1
        assert "is left out" in caplog.records[0].message
        assert target.exists()
        assert len(caplog.records) == 1


@posix
class TestFiles:
    def test_are_readable_by_the_user_alone_under_any_umask(self, store: DiskStore, folder: Path) -> None:
        lease = asked(store)
        before = os.umask(0)
        try:
            with locked(folder):
                journal(store, lease, "text")
        finally:
            os.umask(before)
        [file] = spooled(folder)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

    def test_are_made_private_where_the_folder_was_open_to_all(self, store: DiskStore, folder: Path) -> None:
        (folder / "spool").mkdir()
        (folder / "spool").chmod(0o777)
        lease = asked(store)
        with locked(folder):
            journal(store, lease, "text")
        assert stat.S_IMODE((folder / "spool").stat().st_mode) == 0o700

    @pytest.mark.parametrize("planted", ["folder", "file"])
    def test_are_never_written_through_a_link(
        self, store: DiskStore, folder: Path, tmp_path: Path, planted: str
    ) -> None:
        lease = asked(store)
        elsewhere = tmp_path / "elsewhere"
        if planted == "folder":
            elsewhere.mkdir()
            (folder / "spool").symlink_to(elsewhere)
        else:
            elsewhere.write_text("mine")
            (folder / "spool").mkdir()
            (folder / "spool" / name_of(lease.thread.key, lease.token)).symlink_to(elsewhere)
        with locked(folder), pytest.raises(StoreError):
            journal(store, lease, "text")
        assert list(elsewhere.iterdir()) == [] if planted == "folder" else elsewhere.read_text() == "mine"

    def test_a_line_that_the_disk_had_no_room_for_is_not_left_by_half(
        self, store: DiskStore, folder: Path, start_python
    ) -> None:
        code = """
import resource, sqlite3
store = DiskStore(folder)
lease = asked(store)
holder = sqlite3.connect(folder / 'threads.db', isolation_level=None)
holder.execute('BEGIN IMMEDIATE')
lease = save(store, lease, with_journal(lease.thread, 'text'))
[file] = (folder / 'spool').iterdir()
size = file.stat().st_size
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))
try:
    save(store, lease, with_journal(lease.thread, 'no room'))
except StoreError as error:
    print(error)
assert file.stat().st_size == size
os.kill(os.getpid(), signal.SIGKILL)
"""
        process = start_python(code)
        output, errors = process.communicate(timeout=50)
        assert process.returncode == -signal.SIGKILL, errors
        assert "the disk is full" in output
        assert said_by(store, taken_over(store)) == "text"


class TestContents:
    """Images that tools returned, which come with the journal."""

    CONTENTS: ClassVar = {digest(data): data for data in (b"one image", b"\x00\xff another")}

    def put_aside(self, store: DiskStore, folder: Path) -> Lease:
        lease = asked(store)
        with locked(folder):
            return save(store, lease, with_journal(lease.thread, "seen"), self.CONTENTS)

    def there(self, store: DiskStore, lease: Lease) -> dict[str, bytes | None]:
        return {sha256: store.content(lease.thread.key, sha256) for sha256 in self.CONTENTS}

    def test_are_read_by_others_while_the_database_is_locked(
        self, store: DiskStore, other: DiskStore, folder: Path
    ) -> None:
        lease = asked(store)
        with locked(folder):
            lease = save(store, lease, with_journal(lease.thread, "seen"), self.CONTENTS)
            assert self.there(other, lease) == self.CONTENTS
            assert len(load_history(other, lease.thread).open_records) == 2

    def test_are_brought_in_with_the_next_write(self, store: DiskStore, folder: Path) -> None:
        lease = self.put_aside(store, folder)
        lease = save(store, lease, with_journal(lease.thread, "more"))
        assert spooled(folder) == []
        assert self.there(store, lease) == self.CONTENTS

    def test_are_brought_in_by_the_next_owner_of_the_lease(
        self, store: DiskStore, other: DiskStore, folder: Path, dead_owner: Callable[[], None]
    ) -> None:
        self.put_aside(store, folder)
        dead_owner()
        lease = acquired(other)
        assert spooled(folder) == []
        assert self.there(other, lease) == self.CONTENTS

    def test_of_a_seal_that_waits_for_the_lock_are_kept_if_its_process_dies(
        self, store: DiskStore, other: DiskStore, folder: Path, dead_owner: Callable[[], None]
    ) -> None:
        lease = asked(store)
        with locked(folder), pytest.raises(StoreError):
            save(store, lease, with_seal(lease.thread, [text_message(Role.USER, "question")]), self.CONTENTS)
        dead_owner()
        lease = acquired(other)
        assert len(load_history(other, lease.thread).turns) == 1
        assert self.there(other, lease) == self.CONTENTS

    def test_without_their_records_are_not_brought_in(
        self, store: DiskStore, other: DiskStore, folder: Path, dead_owner: Callable[[], None]
    ) -> None:
        self.put_aside(store, folder)
        [file] = spooled(folder)
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join(lines[:-1]))  # a kill tore the line of the records
        dead_owner()
        lease = acquired(other)
        assert set(self.there(other, lease).values()) == {None}

    def test_that_are_there_already_are_not_written_again(self, store: DiskStore, folder: Path) -> None:
        lease = asked(store)
        contents = {digest(data): data for data in (os.urandom(1_000_000),)}
        lease = save(store, lease, with_journal(lease.thread, "seen"), contents)
        log = folder / "threads.db-wal"
        before = log.stat().st_size
        save(store, lease, with_seal(lease.thread, [text_message(Role.USER, "question")]), contents)
        assert log.stat().st_size < before + 500_000
