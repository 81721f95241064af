"""The process of a search is confined, by whatever this machine has; real processes only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from afk_tools_files import Settings, afk_tools

from afkcli.plugin import ToolError
from afkcli.processes import confine, sandbox
from afkcli.processes.confine import has_seccomp, landlock_version
from afkcli.processes.sandbox import Mechanism, mechanisms

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a sandbox")

ABSENT = Mechanism(name="landlock", program="", works=False, detail="this kernel does not have it")
BUBBLEWRAP = [item for item in mechanisms() if item.works and item.name == "bubblewrap"]
LANDLOCK = ["landlock"] if landlock_version() and has_seccomp() else []


@pytest.fixture(params=[*LANDLOCK, *(item.name for item in BUBBLEWRAP)])
def mechanism(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give one mechanism that works here, as if it were the only one."""
    if request.param == "bubblewrap":
        monkeypatch.setattr(sandbox, "landlock_version", lambda: 0)
        monkeypatch.setattr(sandbox, "mechanisms", lambda: (*BUBBLEWRAP, ABSENT))
    return str(request.param)


@pytest.fixture
def neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "landlock_version", lambda: 0)
    monkeypatch.setattr(sandbox, "mechanisms", lambda: (ABSENT,))


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a root in it, and with files of afk."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AFK_HOME", str(tmp_path / "afk"))
    for name, text in {"notes/todo.md": "one\ntwo\n", "afk/data/threads.db": "canary", "notes/b/c": "two"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path / "notes"


def search(root: Path, pattern: str, **settings: Any) -> str:
    tools = {tool.name: tool for tool in afk_tools(Settings(roots=[str(root)], **settings))}
    return str(asyncio.run(tools["files.search"].call({"pattern": pattern})))


@pytest.mark.usefixtures("mechanism")
class TestFinds:
    def test_the_lines_of_a_root(self, notes: Path) -> None:
        assert search(notes, "two") == "todo.md:2: two\nb/c:1: two\n[2 lines found, 2 files searched]"

    def test_those_of_a_root_that_has_afks_folders_in_it(self, notes: Path) -> None:
        found = search(notes.parent, "two|canary")

        assert "notes/todo.md:2: two\n" in found
        assert "canary" not in found

    def test_nothing_of_a_file_of_afk_by_another_name(self, notes: Path) -> None:
        os.link(notes.parent / "afk" / "data" / "threads.db", notes / "alias")

        assert search(notes, "canary").startswith("[0 lines found")

    def test_nothing_of_a_link_that_leads_outside(self, notes: Path) -> None:
        (notes / "link").symlink_to(notes.parent / "afk" / "data" / "threads.db")

        assert search(notes, "canary").startswith("[0 lines found")

    def test_errors_of_patterns(self, notes: Path) -> None:
        with pytest.raises(ToolError, match="is not a regular expression"):
            search(notes, "(")

    def test_until_its_time_is_over(self, notes: Path) -> None:
        (notes / "a").write_text("aX\n" + "a" * 50 + "!\n")

        for seconds in (2, 10, 25):  # its process has to start in this time
            said = search(notes, "^(a+)+X?$", timeout_s=seconds)
            if "aX" in said:
                break
        assert said.startswith(f"a:1: aX\n[... the search took longer than {seconds} s;")


def test_the_kernel_confines_the_process_of_a_search(mechanism: str, notes: Path) -> None:
    """Its status says so, while a pattern that never ends is matched."""
    (notes / "a").write_text("a" * 50 + "!\n")
    (tool,) = (tool for tool in afk_tools(Settings(roots=[str(notes)], timeout_s=60)) if tool.name == "files.search")

    async def scenario() -> set[str]:
        call = asyncio.ensure_future(tool.call({"pattern": "^(a+)+$"}))
        try:
            while True:
                for status in _statuses("afk_tools_files"):
                    if "Seccomp:\t2" in status:
                        return {line for line in status.splitlines() if line.startswith(("Seccomp:", "NoNewPrivs:"))}
                assert not call.done(), call.result()
                await asyncio.sleep(0.01)
        finally:
            call.cancel()
            await asyncio.wait({call})

    assert asyncio.run(scenario()) == {"Seccomp:\t2", "NoNewPrivs:\t1"}


def _statuses(word: str) -> Iterator[str]:
    """Yield the status of each process of Python below this one whose command line has a word."""
    waiting = [os.getpid()]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if words[0] == sys.executable.encode() and any(word.encode() in item for item in words):
                yield Path(f"/proc/{pid}/status").read_text()


@pytest.mark.usefixtures("neither")
def test_without_a_sandbox_it_is_refused_with_the_line_that_switches_it_off(notes: Path) -> None:
    with pytest.raises(ToolError) as caught:
        search(notes, "two")

    assert str(caught.value) == (
        "nothing was searched: no sandbox can be made on this machine (landlock: this kernel does not have it); install"
        ' bubblewrap; or write `sandbox = "off"` under [tools.files] to search without a sandbox'
    )
    assert "todo.md:2: two" in search(notes, "two", sandbox="off")


@pytest.mark.skipif(not LANDLOCK, reason="this machine has no Landlock")
def test_what_the_system_refuses_of_the_sandbox_is_an_error(
    notes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken").mkdir()
    code = Path(confine.__file__).read_text().replace(" = 444, 445, 446", " = 444, 445, 9999")
    (tmp_path / "broken" / "confine.py").write_text(code)
    monkeypatch.setattr(confine, "__file__", str(tmp_path / "broken" / "confine.py"))

    with pytest.raises(ToolError, match=r"nothing was searched: the system refused a part of the sandbox: .*Landlock"):
        search(notes, "two")
