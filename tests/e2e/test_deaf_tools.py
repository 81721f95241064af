"""Tools that do not end: neither Ctrl-C nor the end of the run is held up by them."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from afkcli.testing.model_script import ScriptedCall, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import LIMIT, Shell

PLUGIN = """
import asyncio
from pathlib import Path

from afkcli import hookimpl, tool

AFK_HOOKS = 1
AFK_NAME = "deaf"


@tool(name="deaf.swallow", changes=False, timeout_s={timeout})
async def swallow() -> str:
    Path("started").touch()
    while True:
        try:
            await asyncio.sleep(60)
        except BaseException:
            pass


@tool(name="deaf.spin", changes=False)
async def spin() -> str:
    Path("started").touch()
    while True:
        pass


@hookimpl
def afk_tools(settings):
    return [swallow, spin]
"""

RUN = ("run", "--plugin", "deaf.py", "--tool", "deaf.*", "-t", "t", "Hello")


def given(shell: Shell, server: ModelServer, name: str, timeout: float | None = None) -> None:
    (shell.folder / "deaf.py").write_text(PLUGIN.format(timeout=timeout))
    server.script(Step(tool_calls=[ScriptedCall(name=f"deaf__{name}")]), Step(text="Done."))


def started(shell: Shell) -> subprocess.Popen[bytes]:
    process = shell.start(*RUN)
    deadline = time.monotonic() + LIMIT
    while not (shell.folder / "started").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    return process


def test_ctrl_c_ends_a_run_whose_tool_swallows_its_cancellation(keyed: Shell, server: ModelServer) -> None:
    given(keyed, server, "swallow")
    process = started(keyed)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT)
    assert process.returncode == -signal.SIGINT
    assert "cancelled" in keyed.afk("threads", "show", "t").out


def test_a_tool_that_outlives_its_time_limit_does_not_keep_afk_from_ending(keyed: Shell, server: ModelServer) -> None:
    given(keyed, server, "swallow", timeout=0.05)
    done = keyed.afk(*RUN)
    assert (done.code, done.out) == (0, "Done.\n")
    assert "could not be stopped" in done.err


def test_the_second_ctrl_c_ends_a_run_whose_tool_never_lets_go_of_the_event_loop(
    keyed: Shell, server: ModelServer
) -> None:
    given(keyed, server, "spin")
    process = started(keyed)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT)
    assert process.returncode == -signal.SIGINT
    assert "interrupted" in keyed.afk("threads", "show", "t").out
