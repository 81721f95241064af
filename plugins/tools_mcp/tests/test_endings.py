"""No process is left behind, however the use of a server ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from afk_tools_mcp import connection, processes

pytestmark = pytest.mark.skipif(os.name == "nt", reason="process groups are POSIX")

LIMIT = 60  # seconds after which something hangs; never a measure of speed


def runs(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for yet does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except ProcessLookupError:
        return False
    except OSError:
        return not Path("/proc/self").exists()
    return state != b"Z"


def gone(pids: list[int]) -> bool:
    """Wait until none of the processes runs."""
    deadline = time.monotonic() + LIMIT
    while any(map(runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(runs, pids))


def test_ending_takes_less_than_a_second() -> None:
    assert 3 * processes.POLITE_SECONDS < connection.CLOSE_SECONDS < 1
    assert connection.LEAVE_SECONDS < connection.CLOSE_SECONDS


@pytest.mark.parametrize("at_start", ["well", "ignoring_sigterm"])
def test_the_server_and_its_children_end_with_the_toolset(scripted: Any, at_start: str) -> None:
    async def scenario(bench: Any) -> list[int]:
        pids: list[int] = json.loads(await bench.call("s.spawn"))
        assert all(map(runs, pids))
        await bench.toolset.aclose()
        assert await asyncio.to_thread(gone, pids)
        return pids

    assert len(scripted.use(scenario, at_start=at_start)) == 4


def test_a_server_that_does_not_read_is_ended_too(scripted: Any) -> None:
    """Its stdin is full, so nothing can be flushed to it."""

    async def scenario(bench: Any) -> None:
        await bench.call("s.stop_reading")
        calls = [asyncio.ensure_future(bench.call("s.echo", text="x" * 100_000)) for _ in range(5)]
        await asyncio.wait(calls, timeout=0.2)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        await bench.toolset.aclose()
        assert await asyncio.to_thread(gone, scripted.pids)

    scripted.use(scenario)
    assert scripted.pids


def test_a_server_that_was_given_up_is_ended(scripted: Any) -> None:
    async def scenario(bench: Any) -> None:
        error = ""
        try:
            await bench.tools()
        except Exception as failed:
            error = str(failed)
        assert "did not start" in error
        assert await asyncio.to_thread(gone, scripted.pids)  # before the toolset is closed

    scripted.use(scenario, at_start="hang", start_timeout=2)
    assert scripted.pids


def test_the_child_of_a_server_that_ended_is_ended(scripted: Any) -> None:
    async def scenario(bench: Any) -> None:
        await bench.error("s.leave_child")
        assert await asyncio.to_thread(gone, scripted.pids)

    scripted.use(scenario)
    assert len(scripted.pids) == 2


def test_a_cancelled_start_leaves_nothing(scripted: Any) -> None:
    async def scenario(bench: Any) -> None:
        listing = asyncio.ensure_future(bench.tools())
        await scripted.noted("start")
        listing.cancel()
        await asyncio.wait({listing})
        await bench.toolset.aclose()
        assert await asyncio.to_thread(gone, scripted.pids)

    scripted.use(scenario, at_start="hang")
    assert scripted.pids


def test_an_event_loop_that_ends_without_closing_leaves_nothing(scripted: Any) -> None:
    from afk_tools_mcp import ServerSettings, Settings, afk_tools

    async def main() -> None:
        toolset = afk_tools(Settings(servers={"s": ServerSettings(**scripted.table())}))
        tools = {tool.name: tool for tool in await toolset.list_tools(["s"])}
        await tools["s.spawn"].call({})

    asyncio.run(main())

    assert len(scripted.pids) == 4
    assert gone(scripted.pids)


def test_a_call_that_is_cancelled_with_the_run_leaves_nothing(scripted: Any) -> None:
    async def scenario(bench: Any) -> None:
        await bench.tools()
        call = asyncio.ensure_future(bench.call("s.spawn_and_hang"))
        await scripted.noted("spawned")
        call.cancel()
        await asyncio.wait({call})
        await bench.toolset.aclose()
        assert await asyncio.to_thread(gone, scripted.pids)

    scripted.use(scenario)


def test_a_toolset_that_was_closed_can_be_used_again(scripted: Any) -> None:
    async def scenario(bench: Any) -> list[str]:
        first = await bench.call("s.echo", text="one")
        await bench.toolset.aclose()
        return [first, await bench.call("s.echo", text="two")]

    assert scripted.use(scenario) == ["you said one", "you said two"]
    assert scripted.notes.count("start") == 2


USER = """
import asyncio, json, os, sys, time
from afk_tools_mcp import ServerSettings, Settings, afk_tools
async def main():
    servers = {name: ServerSettings(**table) for name, table in json.loads(sys.argv[1]).items()}
    toolset = afk_tools(Settings(servers=servers))
    tools = {tool.name: tool for tool in await toolset.list_tools(list(servers))}
    for name in json.loads(sys.argv[2]):
        await tools[name].call({})
    print("ready", flush=True)
    time.sleep(3600)
asyncio.run(main())
"""


@contextlib.contextmanager
def user(servers: dict[str, Any], *calls: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has started servers and called tools; it is busy then, and sees nothing that happens."""
    argv = [sys.executable, "-c", USER, json.dumps(servers), json.dumps(calls)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("at_start", ["well", "ignoring_sigterm", "launcher", "launched_ignoring_all"])
@pytest.mark.parametrize("signals", [[signal.SIGKILL], [signal.SIGSTOP, signal.SIGKILL]], ids=["killed", "suspended"])
def test_nothing_is_left_if_afk_is_killed(scripted: Any, at_start: str, signals: list[signal.Signals]) -> None:
    """Nothing can be done in the process itself then: neither for a server that ignores the end of its input, nor for
    its children in sessions of their own."""
    with user({"s": scripted.table(at_start=at_start)}, "s.spawn", "s.spawn_daemon") as process:
        assert all(map(runs, scripted.pids))
        for number in signals:
            process.send_signal(number)
        process.wait(LIMIT)

    assert len(scripted.pids) == (6 if at_start.startswith("launch") else 5)
    assert gone(scripted.pids)


def test_nothing_is_left_of_ten_servers_if_afk_is_killed(scripted: Any) -> None:
    servers = {f"s{number}": scripted.table(at_start="ignoring_sigterm") for number in range(10)}
    with user(servers, *(f"{name}.spawn_daemon" for name in servers)) as process:
        process.kill()
        process.wait(LIMIT)

    assert len(scripted.pids) == 20
    assert gone(scripted.pids)


def test_a_start_without_end_is_ended_if_afk_is_killed(scripted: Any) -> None:
    argv = [sys.executable, "-c", USER, json.dumps({"s": scripted.table(at_start="hang")}), "[]"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        while not scripted.pids:
            time.sleep(0.01)
        process.kill()

    assert gone(scripted.pids)


@pytest.mark.parametrize("at_start", ["well", "ignoring_sigterm", "launcher", "launched_ignoring_all"])
def test_a_daemon_ends_with_the_toolset(scripted: Any, at_start: str) -> None:
    async def scenario(bench: Any) -> None:
        await bench.call("s.spawn_daemon")
        await bench.toolset.aclose()

    scripted.use(scenario, at_start=at_start)
    assert len(scripted.pids) == (3 if at_start.startswith("launch") else 2)
    assert gone(scripted.pids)


def test_a_server_that_starts_a_daemon_and_ends_leaves_nothing(scripted: Any) -> None:
    async def scenario(bench: Any) -> None:
        assert "ended (exit code 0)" in await bench.error("s.leave_daemon")
        assert gone(scripted.pids)

    scripted.use(scenario)
    assert len(scripted.pids) == 2


@pytest.mark.parametrize("attack", ["suspend_supervisor", "kill_supervisor"])
def test_a_server_that_attacks_its_supervisor_is_ended_and_started_again(scripted: Any, attack: str) -> None:
    async def scenario(bench: Any) -> str:
        assert "the MCP server 's' ended (" in await bench.error(f"s.{attack}")
        assert gone(scripted.pids)
        return await bench.call("s.echo", text="again")

    assert scripted.use(scenario) == "you said again"
    assert len(scripted.pids) == 3
    assert gone(scripted.pids)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hides it")
def test_a_server_does_not_find_a_key_in_the_process_table(scripted: Any) -> None:
    """As the user who runs the tests: a server of root loses the rights that would show it all."""
    code = """
import asyncio, json, os, sys
from afk_tools_mcp import ServerSettings, Settings, afk_tools
async def main():
    toolset = afk_tools(Settings(servers={"s": ServerSettings(**json.loads(sys.argv[1]))}))
    tools = {tool.name: tool for tool in await toolset.list_tools(["s"])}
    print(await tools["s.look"].call({"pid": os.getpid(), "key": os.environ["OPENAI_API_KEY"]}))
    await toolset.aclose()
asyncio.run(main())
"""
    argv = [sys.executable, "-c", code, json.dumps(scripted.table())]
    environment = {**os.environ, "OPENAI_API_KEY": f"sk-canary-{uuid4().hex}"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=LIMIT)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"afk": [f"error {errno.EACCES}"], "key": False}


LATE_END = """
import asyncio, os, signal, sys, threading
from afk_tools_mcp.processes import start_process
from afk_tools_mcp.settings import ServerSettings

if sys.argv[1] == "ignored":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as some shells and supervisors hand it down

async def main():
    process = await start_process("s", ServerSettings(command="sleep", args=["60"]))
    if sys.argv[1] == "ignored":
        await process.end()
    return process

process = asyncio.run(main())
if sys.argv[1] == "late":
    os.kill(process._process.pid, signal.SIGKILL)
for thread in threading.enumerate():
    if thread.name.startswith("asyncio-waitpid-"):
        thread.join()
os._exit(0)
"""


@pytest.mark.parametrize("how", ["late", "ignored"])
def test_an_end_that_comes_late_leaves_no_line_of_the_event_loop(how: str) -> None:
    done = subprocess.run([sys.executable, "-c", LATE_END, how], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
