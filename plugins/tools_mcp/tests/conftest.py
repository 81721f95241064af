"""A scripted server that misbehaves, the npm servers that others wrote, and what calls their tools."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from afk_tools_mcp import Settings, afk_tools
from afk_tools_mcp.toolset import McpToolset

from afkcli.core.contract.tools import in_tool_context
from afkcli.plugin import Tool, ToolContext
from afkcli.testing.settings import settings_for

T = TypeVar("T")

SCRIPT = Path(__file__).with_name("scripted_server.py")
NPM_SERVERS = {
    "@modelcontextprotocol/server-everything": "2026.8.31",
    "@modelcontextprotocol/server-filesystem": "2026.8.31",
}


@dataclass
class Bench:
    """The tools of a toolset, called by their full names."""

    toolset: McpToolset
    _tools: dict[str, Tool] = field(default_factory=dict)

    async def tools(self) -> Mapping[str, Tool]:
        if not self._tools:
            self._tools = {tool.name: tool for tool in await self.toolset.list_tools(self.toolset.namespaces)}
        return self._tools

    async def call(self, name: str, **arguments: Any) -> str:
        return await (await self.tools())[name].call(arguments)

    async def error(self, name: str, **arguments: Any) -> str:
        """Return what the model is told of a call that fails."""
        with pytest.raises(Exception) as caught:
            await self.call(name, **arguments)
        assert caught.typename == "ToolError", caught.value
        return str(caught.value)


def use(servers: Mapping[str, Any], scenario: Callable[[Bench], Awaitable[T]]) -> T:
    """Run a scenario with the tools of some servers, and end them."""

    async def main() -> T:
        settings: Settings = settings_for(afk_tools, {"servers": servers}, "[tools.mcp]")
        toolset: McpToolset = afk_tools(settings)
        try:
            return await scenario(Bench(toolset))
        finally:
            await toolset.aclose()

    return asyncio.run(main())


@dataclass
class Scripted:
    """The scripted server as `s`; `notes` are the lines that its processes wrote down."""

    folder: Path

    def table(self, *, at_start: str = "well", lists: str = "usual", **settings: Any) -> dict[str, Any]:
        args = ["-u", str(SCRIPT), "--at-start", at_start, "--list", lists, "--note", str(self.folder / "notes")]
        return {"command": sys.executable, "args": args, **settings}

    def use(self, scenario: Callable[[Bench], Awaitable[T]], **kinds: Any) -> T:
        return use({"s": self.table(**kinds)}, scenario)

    @property
    def notes(self) -> list[str]:
        file = self.folder / "notes"
        return file.read_text().splitlines() if file.exists() else []

    async def noted(self, line: str, times: int = 1) -> None:
        """Wait until the server has noted a line so often."""
        while self.notes.count(line) < times:  # noqa: ASYNC110  (another process writes it)
            await asyncio.sleep(0.01)

    @property
    def pids(self) -> list[int]:
        """The processes of the server, and those that it started."""
        file = self.folder / "notes.pids"
        return sorted(set(map(int, file.read_text().split()))) if file.exists() else []


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("AFK_HOME", str(folder))
    return folder


@pytest.fixture
def warned() -> Iterator[list[tuple[str, str]]]:
    """The code and message of each warning that is raised in the test."""
    raised: list[tuple[str, str]] = []
    with in_tool_context(ToolContext(on_warning=lambda code, message: raised.append((code, message)))):
        yield raised


@pytest.fixture
def use_servers() -> Callable[..., Any]:
    """What runs a scenario with the tools of some servers."""
    return use


@pytest.fixture
def scripted(tmp_path: Path) -> Scripted:
    return Scripted(tmp_path)


@pytest.fixture(scope="session")
def npm_servers() -> Path:
    """The folder of the npm servers' packages, installed once into the user's cache."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        if os.environ.get("CI"):
            pytest.fail("Node is not installed: CI runs the tests against MCP servers of npm")
        pytest.skip("Node is not installed, and these tests run MCP servers of npm")
    import platformdirs

    pins = json.dumps(NPM_SERVERS, sort_keys=True)
    cache = platformdirs.user_cache_path("afk-tests", appauthor=False)
    folder = cache / f"mcp-servers-{hashlib.sha256(pins.encode()).hexdigest()[:16]}"
    if not folder.is_dir():
        new = cache / f"{folder.name}.{os.getpid()}"
        new.mkdir(parents=True)
        names = [f"{name}@{version}" for name, version in NPM_SERVERS.items()]
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(new), *names]
        done = subprocess.run(command, cwd=new, capture_output=True, text=True)
        if done.returncode != 0:
            shutil.rmtree(new, ignore_errors=True)
            pytest.fail(f"npm could not install the MCP servers of the tests: {done.stderr[-500:]}")
        try:
            new.rename(folder)
        except OSError:  # another test run was faster
            shutil.rmtree(new, ignore_errors=True)
    return folder / "node_modules" / "@modelcontextprotocol"
