"""afk's own files by another name inside a root: a hard link, a bind mount, the file that a link of afk's leads to."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from afk_store_disk.store import open_store
from afk_tools_files import Settings, afk_tools

from afkcli.plugin import ToolError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="tools.files is refused on Windows")

KEY = "sk-canary-0123456789"
OWN = (
    "config/config.toml",
    "state/trusted.toml",
    "state/events/2026-01-02.jsonl",
    "state/rescue/afk-1.json",
    "data/threads.db",
    "data/threads.db-wal",
    "data/threads.db-shm",
    "data/inner/deep/file",
)


class Tools:
    """The tools of one root by name, called as a run calls them."""

    def __init__(self, root: Path, *, write: bool = False) -> None:
        self._tools = {tool.name: tool for tool in afk_tools(Settings(roots=[str(root)], write=write))}

    def call(self, name: str, **arguments: Any) -> Any:
        return asyncio.run(self._tools[f"files.{name}"].call(arguments))

    def refused(self, name: str, **arguments: Any) -> str:
        with pytest.raises(ToolError) as caught:
            self.call(name, **arguments)
        return str(caught.value)


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with a file, in a home with afk's folders."""
    monkeypatch.setenv("AFK_HOME", str(tmp_path / "afk"))
    folder = tmp_path / "notes"
    (folder / "garden").mkdir(parents=True)
    (folder / "todo.md").write_text("one\ntwo\n")
    return folder


@pytest.fixture
def own(notes: Path) -> Path:
    """The folder of afk's files, with one of each kind."""
    folder = notes.parent / "afk"
    for name in OWN:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{KEY}\n")
    return folder


def check_unreachable(tools: Tools, path: str) -> None:
    """Expect that no tool reads, writes, lists or finds the file at `path`."""
    assert "belongs to afk and cannot be used" in tools.refused("read", path=path)
    assert "belongs to afk and cannot be used" in tools.refused("write", path=path, text="x")
    assert "belongs to afk and cannot be used" in tools.refused("search", path=path, pattern="canary")
    found = tools.call("search", pattern="canary")
    assert KEY not in found
    assert found.startswith("[0 lines found")
    listed = tools.call("list", path=str(Path(path).parent))
    assert Path(path).name not in [line.split(" ")[0] for line in listed.splitlines()]


@pytest.mark.parametrize("name", OWN)
def test_a_hard_link_to_a_file_of_afk_is_refused(notes: Path, own: Path, name: str) -> None:
    os.link(own / name, notes / "garden" / "alias.txt")
    check_unreachable(Tools(notes, write=True), "garden/alias.txt")
    assert (own / name).read_text() == f"{KEY}\n"


def test_a_link_that_is_made_between_two_calls_is_refused(notes: Path, own: Path) -> None:
    tools = Tools(notes, write=True)
    assert "one" in tools.call("read", path="todo.md")
    (own / "state" / "new.json").write_text(f"{KEY}\n")
    os.link(own / "state" / "new.json", notes / "alias")
    check_unreachable(tools, "alias")


def test_a_config_that_is_a_link_into_a_root_is_refused_there(notes: Path, own: Path) -> None:
    (notes / "dotfile.toml").write_text(f"{KEY}\n")
    (own / "config" / "config.toml").unlink()
    (own / "config" / "config.toml").symlink_to(notes / "dotfile.toml")
    check_unreachable(Tools(notes, write=True), "dotfile.toml")


@pytest.mark.parametrize("name", ["threads.db", "threads.db-wal", "threads.lock"])
def test_a_store_in_another_folder_is_refused_by_every_name(notes: Path, name: str) -> None:
    """In a folder that the config names, which is inside a root here; its other files are read."""
    store = open_store(str(notes / "kept"))
    try:
        tools = Tools(notes, write=True)
        os.link(notes / "kept" / name, notes / "alias")
        (notes / "kept" / "other.md").write_text("other\n")
        for path in ("alias", f"kept/{name}"):
            for call, more in (("read", {}), ("write", {"text": "x"}), ("search", {"pattern": "x"})):
                assert "belongs to afk and cannot be used" in tools.refused(call, path=path, **more)
        assert "other" in tools.call("read", path="kept/other.md")
        assert "kept/other.md:1: other" in tools.call("search", pattern="^other")
    finally:
        store.close()


def test_hard_links_to_other_files_are_read(notes: Path, own: Path) -> None:
    os.link(notes / "todo.md", notes / "twice.md")
    tools = Tools(notes)
    assert "two" in tools.call("read", path="twice.md")
    assert "twice.md:2: two" in tools.call("search", pattern="^two")
    assert "twice.md" in tools.call("list")


def test_refusing_the_database_leaves_its_locks(notes: Path) -> None:
    """The system ends a process's locks on a file when the process closes any descriptor of it."""
    store = open_store()
    data = notes.parent / "afk" / "data"
    database = data / "threads.db"
    os.link(database, notes / "alias.db")
    tools = Tools(notes)
    ours = sqlite3.connect(database)
    try:
        ours.execute("BEGIN IMMEDIATE")
        assert "belongs to afk" in tools.refused("read", path="alias.db")
        code = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
        done = subprocess.run([sys.executable, "-c", code, str(database)], capture_output=True, text=True)
        assert "database is locked" in done.stderr
    finally:
        ours.close()
        store.close()


def can_mount() -> bool:
    """Return whether this machine lets us bind-mount in a namespace of our own."""
    if sys.platform != "linux":
        return False
    try:
        return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not can_mount(), reason="only root can mount; CI runs as root in its container")
@pytest.mark.parametrize("what", ["config/config.toml", "data/inner", "state/events"])
def test_a_bind_mount_of_a_file_or_folder_of_afk_is_refused(notes: Path, own: Path, what: str) -> None:
    target = notes / "mounted"
    if (own / what).is_dir():
        target.mkdir()
    else:
        target.touch()
    code = (
        "import asyncio, sys\n"
        "from afk_tools_files import Settings, afk_tools\n"
        "made = {tool.name: tool for tool in afk_tools(Settings(roots=[sys.argv[1]]))}\n"
        "print(asyncio.run(made['files.list'].call({})))\n"
        "try: asyncio.run(made['files.list' if sys.argv[2] == 'folder' else 'files.read'].call({'path': 'mounted'}))\n"
        "except Exception as error: print(error)\n"
        "print(asyncio.run(made['files.search'].call({'pattern': 'canary'})))\n"
    )
    kind = "folder" if target.is_dir() else "file"
    script = 'mount --bind "$0" "$1" && shift && exec "$@"'
    line = ["unshare", "-m", "sh", "-c", script, str(own / what), str(target), sys.executable, "-c", code]
    done = subprocess.run([*line, str(notes), kind], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed, _, rest = done.stdout.partition("'mounted' belongs to afk and cannot be used\n")
    assert "mounted" not in listed
    assert rest.startswith("[0 lines found")
