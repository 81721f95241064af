"""MCP servers that others wrote, from npm: server-everything over stdio and streamable HTTP, server-filesystem."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from afkcli.plugin import ToolError
from tests.free_port import on_free_port


def everything(npm_servers: Path, *arguments: str) -> list[str]:
    return [str(npm_servers / "server-everything" / "dist" / "index.js"), *arguments]


@pytest.fixture
def url(npm_servers: Path) -> Iterator[str]:
    """The address of server-everything, speaking streamable HTTP."""

    def start(port: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["node", *everything(npm_servers, "streamableHttp")],
            env={**os.environ, "PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def is_ready(server: subprocess.Popen[bytes], port: int) -> bool:
        assert server.stderr is not None
        return any(b"listening" in line for line in server.stderr)

    server, port = on_free_port(start, is_ready)
    with server:
        yield f"http://127.0.0.1:{port}/mcp"
        server.kill()


@pytest.fixture(params=["stdio", "http"])
def table(request: pytest.FixtureRequest, npm_servers: Path) -> dict[str, Any]:
    """server-everything in the config, both ways."""
    if request.param == "http":
        return {"url": request.getfixturevalue("url")}
    return {"command": "node", "args": everything(npm_servers, "stdio")}


def test_everything_lists_and_answers(use_servers: Any, table: dict[str, Any]) -> None:
    async def scenario(bench: Any) -> list[str]:
        assert not (await bench.tools())["everything.get-sum"].changes
        return [
            await bench.call("everything.echo", message="hello"),
            await bench.call("everything.get-sum", a=20, b=22),
            await bench.call("everything.get-tiny-image"),
            await bench.call("everything.get-structured-content", location="Chicago"),
            await bench.error("everything.echo", text="hello"),
        ]

    echo, total, image, weather, wrong = use_servers({"everything": {**table, "read_only": ["get-sum"]}}, scenario)

    assert echo == "Echo: hello"
    assert "42" in total
    assert re.search(r"\[image, image/png, \d+ bytes\]", image)
    assert "temperature" in json.loads(weather)
    assert "'message' is a required property" in wrong


def test_everything_answers_parallel_calls_while_one_is_cancelled(use_servers: Any, table: dict[str, Any]) -> None:
    async def scenario(bench: Any) -> list[str]:
        await bench.tools()
        long = asyncio.ensure_future(bench.call("everything.trigger-long-running-operation", duration=600, steps=600))
        answers = await asyncio.gather(*(bench.call("everything.get-sum", a=n, b=n) for n in range(10)))
        long.cancel()
        await asyncio.wait({long})
        return [*answers, await bench.call("everything.echo", message="after")]

    *sums, after = use_servers({"everything": table}, scenario)

    assert [re.findall(r"\d+", text)[-1] for text in sums] == [str(2 * n) for n in range(10)]
    assert after == "Echo: after"


def test_everything_is_given_no_key(use_servers: Any, npm_servers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-never-to-be-seen")

    async def scenario(bench: Any) -> str:
        return str(await bench.call("everything.get-env"))

    table = {"command": "node", "args": everything(npm_servers, "stdio"), "env": {"GREETING": "hello"}}
    environment = json.loads(use_servers({"everything": table}, scenario))

    assert environment["GREETING"] == "hello"
    assert "OPENAI_API_KEY" not in environment


def test_filesystem_reads_writes_and_refuses(use_servers: Any, npm_servers: Path, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "beans.txt").write_text("Beans need sun.")
    (tmp_path / "secret.txt").write_text("not yours")
    server = str(npm_servers / "server-filesystem" / "dist" / "index.js")
    table = {"command": "node", "args": [server, str(folder)], "read_only": ["read_text_file", "list_directory"]}

    async def scenario(bench: Any) -> list[Any]:
        tools = await bench.tools()
        return [
            [tools["docs.read_text_file"].changes, tools["docs.write_file"].changes],
            await bench.call("docs.read_text_file", path=str(folder / "beans.txt")),
            await bench.call("docs.write_file", path=str(folder / "peas.txt"), content="Peas climb."),
            await bench.call("docs.list_directory", path=str(folder)),
            await bench.error("docs.read_text_file", path=str(tmp_path / "secret.txt")),
            await bench.error("docs.read_text_file", path=str(folder / "none.txt")),
        ]

    changes, read, _, listed, outside, missing = use_servers({"docs": table}, scenario)

    assert changes == [False, True]
    assert read == "Beans need sun."
    assert (folder / "peas.txt").read_text() == "Peas climb."
    assert "beans.txt" in listed
    assert "peas.txt" in listed
    assert "Access denied" in outside
    assert "ENOENT" in missing


def test_a_refusal_of_arguments_is_reported_with_the_servers_reason(
    use_servers: Any, npm_servers: Path, tmp_path: Path
) -> None:
    server = str(npm_servers / "server-filesystem" / "dist" / "index.js")
    table = {"command": "node", "args": [server, str(tmp_path / "nowhere")]}

    async def scenario(bench: Any) -> str:
        with pytest.raises(ToolError) as caught:
            await bench.tools()
        return str(caught.value)

    line = use_servers({"docs": table}, scenario)

    assert line.startswith("the MCP server 'docs' ended (exit code 1); its stderr ends with: ")
    assert "\n" not in line
