"""No process is left behind, however the use of a server ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

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
        assert not any(map(runs, pids))
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
        assert not any(map(runs, scripted.pids))

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
        assert not any(map(runs, scripted.pids))  # before the toolset is closed

    scripted.use(scenario, at_start="hang", start_timeout=2)
    assert scripted.pids


def test_the_child_of_a_server_that_ended_is_ended(scripted: Any) -> None:
    async def scenario(bench: Any) -> None:
        await bench.error("s.leave_child")
        assert not any(map(runs, scripted.pids))

    scripted.use(scenario)
    assert len(scripted.pids) == 2


def test_a_cancelled_start_leaves_nothing(scripted: Any) -> None:
    async def scenario(bench: Any) -> None:
        listing = asyncio.ensure_future(bench.tools())
        await scripted.noted("start")
        listing.cancel()
        await asyncio.wait({listing})
        await bench.toolset.aclose()
        assert not any(map(runs, scripted.pids))

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
        assert not any(map(runs, scripted.pids))

    scripted.use(scenario)


def test_a_toolset_that_was_closed_can_be_used_again(scripted: Any) -> None:
    async def scenario(bench: Any) -> list[str]:
        first = await bench.call("s.echo", text="one")
        await bench.toolset.aclose()
        return [first, await bench.call("s.echo", text="two")]

    assert scripted.use(scenario) == ["you said one", "you said two"]
    assert scripted.notes.count("start") == 2


def test_a_process_that_is_killed_closes_the_server_s_stdin(scripted: Any, tmp_path: Path) -> None:
    """Nothing can be done in the process itself then; a server ends when its stdin does."""
    script = tmp_path / "user.py"
    table = json.dumps(scripted.table())
    script.write_text(
        "import asyncio, json, time\n"
        "from afk_tools_mcp import ServerSettings, Settings, afk_tools\n"
        "async def main():\n"
        f"    toolset = afk_tools(Settings(servers={{'s': ServerSettings(**json.loads({table!r}))}}))\n"
        "    tools = {tool.name: tool for tool in await toolset.list_tools(['s'])}\n"
        "    await tools['s.pid'].call({})\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(3600)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)

    assert scripted.pids
    assert gone(scripted.pids)


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
