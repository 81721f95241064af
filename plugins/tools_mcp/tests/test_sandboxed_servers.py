"""A server's program in a sandbox, by a real program: what it can write and read, and what is refused."""

from __future__ import annotations

import asyncio
import types
from pathlib import Path

import pytest
from afk_tools_mcp.processes import start_process
from afk_tools_mcp.settings import ServerSettings

from afkcli.plugin import ToolError
from afkcli.processes import sandbox
from afkcli.processes.sandbox import Mechanism, mechanisms

pytestmark = pytest.mark.skipif(
    not any(item.works for item in mechanisms()), reason="this machine has neither bubblewrap nor Landlock"
)
CODE = "echo a > made; echo b > ../outside; cat ../keys/id; echo end"


def said(settings: ServerSettings) -> str:
    """Return what the program writes to stdout."""

    async def talk() -> str:
        process = await start_process("notes", settings)
        try:
            return (await process.stdout.read()).decode()
        finally:
            await process.end()

    return asyncio.run(talk())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give the folder of a server, with a key beside it."""
    for name in ("server", "keys"):
        (tmp_path / name).mkdir()
    (tmp_path / "keys" / "id").write_text("PRIVATE\n")
    return tmp_path / "server"


def test_it_writes_in_its_folder_alone_and_reads_no_keys(folder: Path) -> None:
    hidden = [str(folder.parent / "keys")]
    settings = ServerSettings(command="sh", args=["-c", CODE], cwd=str(folder), sandbox="workspace", hidden=hidden)

    assert said(settings) == "end\n"
    assert (folder / "made").read_text() == "a\n"
    assert not (folder.parent / "outside").exists()


def test_in_mode_read_only_it_writes_nowhere(folder: Path) -> None:
    said(ServerSettings(command="sh", args=["-c", CODE], cwd=str(folder), sandbox="read-only"))

    assert not (folder / "made").exists()


def test_by_default_it_has_all_rights(folder: Path) -> None:
    assert said(ServerSettings(command="sh", args=["-c", CODE], cwd=str(folder))) == "PRIVATE\nend\n"
    assert (folder.parent / "outside").exists()


def test_without_a_mechanism_the_server_is_not_started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Mechanism(name="landlock", program="", works=False, detail="no")
    monkeypatch.setattr(sandbox, "mechanisms", lambda: (absent,))
    with pytest.raises(ToolError, match=r"'notes' is not started: no sandbox .* or remove `sandbox` from \[tools\.mcp"):
        said(ServerSettings(command="sh", args=["-c", CODE], cwd=str(folder), sandbox="workspace"))

    assert not (folder / "made").exists()


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"url": "http://a/b", "sandbox": "workspace"}, "`sandbox` goes with `command`"),
        ({"command": "a", "network": True}, "need `sandbox = "),
        ({"command": "a", "writable": ["/tmp"]}, "need `sandbox = "),
    ],
)
def test_settings_that_would_do_nothing_are_refused(table: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ServerSettings(**table)  # type: ignore[arg-type]


def test_on_windows_only_servers_with_an_address_are_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ServerSettings(command="sh", args=["-c", CODE], cwd=str(folder))
    monkeypatch.setattr("afk_tools_mcp.processes.os", types.SimpleNamespace(name="nt"))
    with pytest.raises(ToolError, match="'notes' is not started: on Windows afk uses MCP servers by `url` only"):
        said(settings)
