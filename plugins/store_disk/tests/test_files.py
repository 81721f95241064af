"""Folder and files: who may read them, what is planted in them, and what happens when they cannot be written."""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import diskcache
import pytest
from afk_store_disk import Settings, afk_store
from afk_store_disk.cache import SCHEMA_VERSION
from afk_store_disk.store import DiskStore

from afkcli.core.thread.history import load_history
from afkcli.plugin import StoreError
from afkcli.testing.store_steps import acquired, asked, save_turn


def one_line(error: pytest.ExceptionInfo[StoreError]) -> str:
    """Return the message of an error, which is one line."""
    text = str(error.value)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


def modes(folder: Path) -> dict[str, str]:
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in (folder, *folder.rglob("*"))}


@pytest.mark.parametrize("umask", ["000", "022", "077", "777"])
def test_only_the_user_can_read_the_files_whatever_the_umask(start_python, folder: Path, umask: str) -> None:
    code = f"""
os.umask(0o{umask})
store = DiskStore(folder / 'deep' / 'er')
save_turn(store, acquired(store), 'question', 'answer')
store.list(search='question')
print('written', flush=True)
time.sleep(60)
"""
    process = start_python(code)
    assert process.stdout.readline() == "written\n"
    found = modes(folder)
    assert {"data", "deep", "er", "threads.db", "threads.db-wal", "threads.db-shm", "index.db"} <= found.keys()
    for name, mode in found.items():
        assert mode == ("0o700" if name in ("data", "deep", "er") else "0o600"), name


def test_a_database_that_others_could_read_is_closed_to_them(store: DiskStore, folder: Path) -> None:
    store.close()
    (folder / "threads.db").chmod(0o644)
    DiskStore(folder).close()
    assert modes(folder)["threads.db"] == "0o600"


def test_a_folder_of_the_users_keeps_its_mode(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    DiskStore(folder).close()
    assert modes(folder)["data"] == "0o755"


def test_the_default_folder_follows_afk_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFK_HOME", str(tmp_path / "home"))
    store = afk_store(Settings())
    store.close()
    assert (tmp_path / "home/data/threads.db").exists()
    assert modes(tmp_path / "home")["data"] == "0o700"


def test_the_setting_moves_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    afk_store(Settings(path="~/my threads #1?")).close()
    assert (tmp_path / "my threads #1?/threads.db").exists()


def test_nothing_is_written_when_an_existing_store_is_opened(store: DiskStore, folder: Path) -> None:
    save_turn(store, acquired(store), "question", "answer")
    store.close()
    before = (folder / "threads.db").read_bytes()
    again = DiskStore(folder)
    assert again.find("t-42") is not None
    assert (folder / "threads.db-wal").stat().st_size == 0
    again.close()
    assert (folder / "threads.db").read_bytes() == before


def test_large_values_stay_in_the_database(store: DiskStore, folder: Path) -> None:
    save_turn(store, acquired(store), "question", "x" * 3_000_000)
    names = {path.name for path in folder.rglob("*")}
    assert names == {"threads.db", "threads.db-wal", "threads.db-shm", "threads.lock", "threads.queue"}


# planted rows


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.file),)


def plant(folder: Path, where: str, **columns: object) -> None:
    """Change the columns of a row behind the store's back."""
    with sqlite3.connect(folder / "threads.db") as con:
        changes = ", ".join(f"{name} = ?" for name in columns)
        changed = con.execute(f"UPDATE Cache SET {changes} WHERE key LIKE ?", (*columns.values(), where))
        assert changed.rowcount >= 1
    con.close()


def planted_pickle(folder: Path, tmp_path: Path) -> dict[str, object]:
    return {"mode": 4, "value": pickle.dumps(Bomb(tmp_path / "bomb"))}


def planted_file(folder: Path, tmp_path: Path) -> dict[str, object]:
    (folder / "evil.val").write_bytes(pickle.dumps(Bomb(tmp_path / "bomb")))
    return {"mode": 4, "filename": "evil.val", "value": None}


def planted_text_file(folder: Path, tmp_path: Path) -> dict[str, object]:
    (folder / "evil.val").write_text("{}")
    return {"mode": 3, "filename": "../data/evil.val", "value": None}


PLANTS = [planted_pickle, planted_file, planted_text_file]


@pytest.mark.parametrize("form", PLANTS)
def test_a_planted_record_is_never_read_and_is_named_as_damage(
    store: DiskStore, folder: Path, tmp_path: Path, form
) -> None:
    lease = save_turn(store, save_turn(store, acquired(store), "first", "answer"), "second", "answer")
    plant(folder, "thread/%/kept/000000000002/%", **form(folder, tmp_path))
    history = load_history(store, lease.thread)
    assert [turn.messages[0].text for turn in history.turns] == ["second"]
    assert "turn 1 of thread 't-42' (record 2) is damaged" in history.damage[0]
    store.delete(lease)
    assert not (tmp_path / "bomb").exists()
    assert (folder / "evil.val").exists() == (form is not planted_pickle)


@pytest.mark.parametrize("form", PLANTS)
def test_a_planted_counter_is_refused_by_name(store: DiskStore, folder: Path, tmp_path: Path, form) -> None:
    store.add("budget", 1)
    plant(folder, "counter/budget", **form(folder, tmp_path))
    with pytest.raises(StoreError, match=r"'counter/budget' of .*threads\.db is refused") as caught:
        store.add("budget", 1)
    one_line(caught)
    assert not (tmp_path / "bomb").exists()


@pytest.mark.parametrize("form", PLANTS)
@pytest.mark.parametrize("where", ["name/%", "thread_name/%", "%/info", "%/holder", "changed/%"])
def test_other_planted_rows_do_no_harm(store: DiskStore, folder: Path, tmp_path: Path, form, where: str) -> None:
    lease = save_turn(store, acquired(store), "question", "answer")
    store.release(lease)
    held = acquired(store)
    plant(folder, where, **form(folder, tmp_path))
    assert [info.key for info in store.list(search="answer")] == [lease.thread.key]
    if where != "%/holder":
        store.release(held)
    save_turn(store, acquired(store), "again", "answer")
    assert not (tmp_path / "bomb").exists()


def test_a_pickled_key_is_never_looked_at(store: DiskStore, folder: Path, tmp_path: Path) -> None:
    asked(store)
    plant(folder, "changed/%", key=pickle.dumps(Bomb(tmp_path / "bomb")), raw=0)
    store.list()
    assert store.find("t-42") is not None
    assert not (tmp_path / "bomb").exists()


# versions, and files that are not databases


def test_a_newer_schema_is_refused_and_left_alone(store: DiskStore, folder: Path) -> None:
    asked(store)
    store.close()
    with sqlite3.connect(folder / "threads.db") as con:
        con.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    con.close()
    before = (folder / "threads.db").read_bytes()
    with pytest.raises(
        StoreError, match=f"version {SCHEMA_VERSION + 1}.*up to {SCHEMA_VERSION}.*upgrade afk"
    ) as caught:
        DiskStore(folder)
    one_line(caught)
    assert (folder / "threads.db").read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"", b"not a database at all, but long enough to look like one" * 100, b"SQLite format 3\0"]
)
def test_a_file_that_is_not_a_database_is_refused_and_unchanged(folder: Path, content: bytes) -> None:
    folder.mkdir()
    (folder / "threads.db").write_bytes(content)
    with pytest.raises(StoreError, match=r"threads\.db.*(damaged|not afk's)") as caught:
        DiskStore(folder)
    one_line(caught)
    assert (folder / "threads.db").read_bytes() == content


def test_a_folder_in_the_place_of_the_database_is_named(folder: Path) -> None:
    (folder / "threads.db").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"threads\.db") as caught:
        DiskStore(folder)
    one_line(caught)


def test_a_file_in_the_place_of_the_folder_is_named(folder: Path) -> None:
    folder.write_text("")
    with pytest.raises(StoreError, match="data") as caught:
        DiskStore(folder)
    one_line(caught)


# folders that cannot be written


def as_nobody(code: str) -> str:
    """Return `code` run without root's rights, which no permission stops; what a search imports is there before."""
    return f"import afk_store_disk.text_index\nif os.geteuid() == 0: os.seteuid(65534)\n{code}"


@pytest.fixture
def open_way(folder: Path) -> Iterator[None]:
    """Let any user reach `folder`."""
    paths = [path for path in folder.parents if path.stat().st_uid == os.geteuid() and path != Path("/")]
    before = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    for path, mode in before.items():
        path.chmod(mode | 0o011)
    yield
    for path, mode in before.items():
        path.chmod(mode)


def test_a_store_that_cannot_be_created_is_named(start_python, folder: Path, open_way: None) -> None:
    folder.parent.chmod(0o555)
    process = start_python(as_nobody("try: DiskStore(folder)\nexcept StoreError as error: print(error)"))
    output, errors = process.communicate(timeout=30)
    folder.parent.chmod(0o755)
    assert errors == ""
    assert "Permission denied" in output
    assert "AFK_HOME" in output
    assert output.count("\n") == 1


def test_a_read_only_store_can_be_read_and_listed(start_python, folder: Path, open_way: None) -> None:
    store = DiskStore(folder)
    store.release(save_turn(store, acquired(store), "question", "answer"))
    store.close()
    code = """
store = DiskStore(folder)
print(store.find('t-42').name, len(store.list()), len(store.list(search='answer')))
try: store.acquire('t-42', current_owner('run'))
except StoreError as error: print(error)
"""
    for path in (folder / "threads.db", folder / "threads.lock"):
        path.chmod(0o444)
    folder.chmod(0o555)
    process = start_python(as_nobody(code))
    output, errors = process.communicate(timeout=30)
    folder.chmod(0o700)
    assert errors == ""
    first, second = output.splitlines()
    assert first == "t-42 1 1"
    assert "cannot be written" in second


def test_a_permission_lost_in_the_middle_is_named(start_python, folder: Path, open_way: None) -> None:
    """The open connection still works; the next one gets an error."""
    store = DiskStore(folder)
    asked(store)
    store.close()
    for path in folder.iterdir():
        path.chmod(0o000)
    process = start_python(as_nobody("try: DiskStore(folder)\nexcept StoreError as error: print(error)"))
    output, errors = process.communicate(timeout=30)
    assert errors == ""
    assert "threads.db" in output
    assert output.count("\n") == 1


# a full disk


FILL = """
store = DiskStore(folder)
lease = acquired(store)
number = 0
try:
    while True:
        number += 1
        lease = save_turn(store, lease, f'question {number}', 'answer ' * 2000)
        print(number, flush=True)
except StoreError as error:
    print(error)
    print(store.find('t-42') is not None)
"""


def check_after_filling(output: str, folder: Path) -> None:
    *said, line, found = output.splitlines()
    assert "threads.db" in line
    assert "free" in line
    assert found == "True"
    store = DiskStore(folder)
    thread = store.find("t-42")
    assert thread is not None
    history = load_history(store, thread)
    assert history.damage == ()
    assert len(history.turns) >= len(said)
    store.close()


def test_a_full_disk_is_named_and_loses_nothing(start_python, folder: Path) -> None:
    """A file size limit is met like a full disk by every user; SQLite sees a failing write."""
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
    ignored = "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    output, errors = start_python(limited + ignored + FILL).communicate(timeout=50)
    assert errors == ""
    check_after_filling(output, folder)


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mount") is None, reason="only root can mount; the test above holds for all"
)
def test_a_full_file_system_is_named_and_loses_nothing(start_python, folder: Path) -> None:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode != 0:  # a container may forbid it
        return
    try:
        output, errors = start_python(FILL).communicate(timeout=50)
        assert errors == ""
        assert "the disk is full" in output
        check_after_filling(output, folder)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_diskcache_is_imported_to_create_a_database_and_never_again(start_python, folder: Path) -> None:
    code = "store = DiskStore(folder); store.list(); print('diskcache' in sys.modules)"
    assert start_python(code).communicate()[0] == "True\n"
    assert start_python(code).communicate()[0] == "False\n"


def test_diskcache_reads_what_afk_wrote(store: DiskStore, folder: Path, tmp_path: Path) -> None:
    lease = save_turn(store, acquired(store), "question", "answer")
    con = sqlite3.connect(folder / "threads.db")
    (tmp_path / "copy").mkdir()
    con.execute("VACUUM INTO ?", (str(tmp_path / "copy" / "cache.db"),))
    con.close()
    with diskcache.Cache(str(tmp_path / "copy")) as cache:
        assert cache["name/t-42"] == f'"{lease.thread.key}"'
        assert set(cache) == {key for key in cache if isinstance(key, str)}
        assert len(cache) == len(set(cache)) == 6
        assert cache.check() == []
