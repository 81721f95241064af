"""The copies of the lists on disk: naming tools starts nothing, and a tool that was changed is not called."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from afk_tools_mcp.lists import KEPT_SECONDS


async def names(bench: Any) -> list[str]:
    return list(await bench.tools())


async def echo(bench: Any) -> str:
    return str(await bench.call("s.echo", text="hello"))


def copies(home: Path) -> list[Path]:
    return sorted((home / "state" / "mcp").glob("*.json"))


def test_tools_that_were_listed_before_start_no_server(scripted: Any) -> None:
    first, second = scripted.use(names), scripted.use(names)

    assert first == second
    assert scripted.notes == ["start", "list"]


def test_the_first_call_starts_the_server_and_lists_anew(scripted: Any) -> None:
    scripted.use(names)
    assert scripted.use(echo) == "you said hello"

    assert scripted.notes == ["start", "list", "start", "list", "call echo"]


def test_the_copy_is_for_the_user_alone(scripted: Any, home: Path) -> None:
    before = os.umask(0)
    try:
        scripted.use(names)
    finally:
        os.umask(before)

    (copy,) = copies(home)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    for folder in (copy.parent, copy.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(copy.parent.iterdir()) == [copy]  # no temporary file is left


def test_another_config_has_another_copy(scripted: Any, home: Path) -> None:
    scripted.use(names)
    scripted.use(names, env={"LOG_LEVEL": "debug"})

    assert len(copies(home)) == 2
    assert scripted.notes.count("start") == 2


def test_what_does_not_concern_the_list_has_the_same_copy(scripted: Any, home: Path) -> None:
    scripted.use(names)
    scripted.use(names, read_only=["echo"], timeout=3)

    assert len(copies(home)) == 1
    assert scripted.notes.count("start") == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"v": 1}',
        b'{"v": 2, "tools": []}',
        b'{"v": 1, "tools": [{"name": 3}]}',
        b"\xff",
        b"[" * 99999,
    ],
)
def test_a_copy_that_is_damaged_is_made_again(scripted: Any, home: Path, content: bytes) -> None:
    expected = scripted.use(names)
    (copy,) = copies(home)
    copy.write_bytes(content)

    assert scripted.use(names) == expected
    assert json.loads(copy.read_bytes())["tools"]
    assert scripted.notes.count("start") == 2


@pytest.mark.parametrize("age", [KEPT_SECONDS + 60, -3600])
def test_a_copy_that_is_old_or_of_the_future_is_made_again(scripted: Any, home: Path, age: float) -> None:
    scripted.use(names)
    (copy,) = copies(home)
    os.utime(copy, (time.time() - age, time.time() - age))
    scripted.use(names)

    assert scripted.notes.count("start") == 2


def test_where_no_copy_can_be_kept_the_server_is_asked_each_time(scripted: Any, home: Path) -> None:
    home.mkdir()
    (home / "state").write_text("a file is in its place")

    assert scripted.use(names) == scripted.use(names)
    assert scripted.notes.count("start") == 2


def test_a_tool_that_was_changed_since_is_not_called(scripted: Any) -> None:
    async def both(bench: Any) -> tuple[str, str, str]:
        changed = await bench.error("s.echo", text="hello")
        gone = await bench.error("s.env")
        return changed, gone, await bench.call("s.slow")

    scripted.use(names, lists="changing")
    changed, gone, slow = scripted.use(both, lists="changing")

    after = "since its list was read, so it is not called; the next run has the new list"
    assert changed == f"the MCP server 's' changed the tool 'echo' {after}"
    assert gone == f"the MCP server 's' no longer has the tool 'env' {after}"
    assert slow.startswith("slow ")
    assert "call echo" not in scripted.notes


def test_the_live_list_takes_the_place_of_the_copy(scripted: Any) -> None:
    async def described(bench: Any) -> tuple[str, str]:
        tool = (await bench.tools())["s.echo"]
        return tool.description, tool.fingerprint

    async def slow(bench: Any) -> None:
        await bench.call("s.slow")

    first = scripted.use(described, lists="changing")
    scripted.use(slow, lists="changing")
    second = scripted.use(described, lists="changing")

    assert (first[0], second[0]) == ("Start 1", "Start 2")
    assert first[1] != second[1]
    assert scripted.notes.count("start") == 2


def test_a_server_that_announces_a_change_is_asked_again(scripted: Any) -> None:
    async def scenario(bench: Any) -> tuple[str, str]:
        before = await bench.call("s.echo", text="before")
        await bench.call("s.announce")
        return before, await bench.error("s.echo", text="after")

    before, error = scripted.use(scenario, lists="growing")

    assert before == "you said before"
    assert error.startswith("the MCP server 's' changed the tool 'echo'")
    assert scripted.notes.count("list") == 2


def test_one_server_that_cannot_be_listed_does_not_hold_up_the_others(scripted: Any) -> None:
    from afk_tools_mcp import ServerSettings, Settings, afk_tools

    async def main() -> list[str]:
        tables = {"good": scripted.table(), "bad": scripted.table(at_start="die")}
        toolset = afk_tools(Settings(servers={name: ServerSettings(**table) for name, table in tables.items()}))
        try:
            good, bad = await asyncio.gather(
                toolset.list_tools(["good"]), toolset.list_tools(["bad"]), return_exceptions=True
            )
            assert "ended (exit code 7)" in str(bad)
            return [tool.name for tool in good]
        finally:
            await toolset.aclose()

    assert "good.echo" in asyncio.run(main())
