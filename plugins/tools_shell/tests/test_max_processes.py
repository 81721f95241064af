"""A command has so many processes and threads at once and no more, and its end ends all of them; real processes only.

Each script that forks is bounded by itself, and by a limit of its processor time that the kernel holds: a failure of
what is tested here must not fill the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from afk_tools_shell import Settings, afk_tools

from afkcli.plugin import ConfigError, SandboxError, ToolError
from afkcli.processes import sandbox, supervised
from afkcli.processes.pid_group import make_pid_group
from afkcli.processes.sandbox import mechanisms

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these limits")

LIMIT = 60  # seconds after which something hangs; never a measure of speed
MOST = 30
TRIES = 60
SANDBOXES = [*(item.name for item in mechanisms() if item.works), "off", "counted"]
STOPPED = f"the command had more than {MOST} processes and threads at once and was stopped\n"

BEGIN = f"""
import os, resource, signal, sys, threading, time
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
def wait():
    signal.alarm(300)
    signal.pause()
    os._exit(0)
def forked(most={TRIES}):
    pids = []
    for _ in range(most):
        try:
            pid = os.fork()
        except BlockingIOError:
            continue
        if not pid:
            wait()
        os.write(1, b".")
        pids.append(pid)
    return pids
"""


@pytest.fixture(params=SANDBOXES)
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Return the settings for a command in one sandbox, or without it; "counted" is a system without control groups."""
    monkeypatch.chdir(tmp_path)
    if request.param not in ("off", "counted"):
        found = [item for item in mechanisms() if item.name == request.param]
        monkeypatch.setattr(sandbox, "mechanisms", lambda: tuple(found))
    if request.param == "counted":
        _without_groups(monkeypatch, tmp_path)
    off = request.param in ("off", "counted")
    return {"max_processes": MOST, "sandbox": "off" if off else "workspace"}


def _without_groups(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    place = folder / "processes"
    shutil.copytree(supervised.SUPERVISOR.parent, place)
    code = (place / "pid_group.py").read_text().replace("for parent in _parents():", "for parent in ():")
    (place / "pid_group.py").write_text(code)
    monkeypatch.setattr(supervised, "SUPERVISOR", place / "supervisor.py")


def has_groups() -> bool:
    """Return whether this system lets the supervisor make a control group."""
    group = make_pid_group(MOST)
    return group is not None and group.remove()


@pytest.fixture
def word() -> Iterator[str]:
    made = f"marked-{uuid4().hex}"
    yield made
    for pid in running(made):  # what a failure has left
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def running(word: str) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "stat=,pid=,args="], capture_output=True, text=True).stdout
    return [int(line.split()[1]) for line in listed.splitlines() if word in line and not line.startswith("Z")]


def told(code: str, how: dict[str, Any], word: str, timeout_s: float = LIMIT) -> str:
    """Return what the model is told of a program, an error too; nothing of it may run afterwards."""
    (tool,) = afk_tools(Settings(**how))
    argv = [sys.executable, "-I", "-S", "-c", BEGIN + code, word]
    try:
        said = str(asyncio.run(tool.call({"argv": argv, "timeout_s": timeout_s})))
    except ToolError as error:
        said = str(error)
    until = time.monotonic() + LIMIT
    while left := running(word):
        assert time.monotonic() < until, left
        time.sleep(0.02)
    return said


class TestOverTheLimit:
    """The command is stopped, and all that it started with it: `told` waits for their end."""

    def test_children_count(self, how: dict[str, Any], word: str) -> None:
        assert told("forked(); wait()", how, word).startswith(STOPPED)

    @pytest.mark.skipif(not has_groups(), reason="no control group can be made here")
    def test_the_kernel_makes_no_more_where_a_group_can_be_made(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, word: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        said = told("forked(); wait()", {"max_processes": MOST, "sandbox": "off"}, word)

        assert said.startswith(STOPPED)
        assert said.count(".") == MOST - 1

    def test_children_of_children_count(self, how: dict[str, Any], word: str) -> None:
        code = f"""
for _ in range({TRIES}):
    try:
        if os.fork():
            wait()
    except BlockingIOError:
        break
wait()
"""
        assert told(code, how, word).startswith(STOPPED)

    def test_threads_count(self, how: dict[str, Any], word: str) -> None:
        code = f"""
threading.stack_size(65536)
done = threading.Event()
for _ in range({TRIES}):
    try:
        threading.Thread(target=done.wait, daemon=True).start()
    except RuntimeError:
        break
wait()
"""
        assert told(code, how, word).startswith(STOPPED)

    def test_daemons_count(self, how: dict[str, Any], word: str) -> None:
        """Which have left the session, and lost their parent."""
        code = f"""
for _ in range({TRIES}):
    try:
        pid = os.fork()
        if not pid:
            os.setsid()
            if os.fork():
                os._exit(0)
            wait()
        os.waitpid(pid, 0)
    except BlockingIOError:
        os.getpid() == os.getsid(0) or wait()
wait()
"""
        assert told(code, how, word).startswith(STOPPED)

    def test_one_that_was_not_waited_for_counts(self, how: dict[str, Any], word: str) -> None:
        code = f"""
for _ in range({TRIES}):
    try:
        if not os.fork():
            os._exit(0)
    except BlockingIOError:
        break
wait()
"""
        assert told(code, how, word).startswith(STOPPED)

    def test_what_the_command_leaves_running_counts(self, how: dict[str, Any], word: str) -> None:
        """Its own process has ended, and those that it left go on forking."""
        code = """
if os.fork():
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
forked()
wait()
"""
        said = told(code, how, word)

        assert "exit status: 0" in said or said.startswith(STOPPED)


class TestUnderTheLimit:
    def test_many_processes_after_each_other_are_no_crowd(self, how: dict[str, Any], word: str) -> None:
        code = """
for _ in range(100):
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
print("all were made")
"""
        said = told(code, how, word)

        assert said == "exit status: 0\nstdout:\nall were made"

    def test_programs_threads_and_pools_work(self, how: dict[str, Any], word: str) -> None:
        code = """
import subprocess
threads = [threading.Thread(target=print, args=("thread",)) for _ in range(3)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
print(subprocess.run(["sh", "-c", "echo piped | cat"], capture_output=True, text=True).stdout)
pid = os.posix_spawn("/bin/sh", ["sh", "-c", "echo spawned"], {})
os.waitpid(pid, 0)
"""
        said = told(code, how, word)

        assert all(word in said for word in ("thread", "piped", "spawned")), said
        assert said.startswith("exit status: 0")

    def test_there_is_room_again_when_some_have_ended(self, how: dict[str, Any], word: str) -> None:
        code = """
for _ in range(5):
    for pid in forked(20):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
"""
        assert "." * 100 in told(code, how, word)

    def test_0_is_no_limit(self, how: dict[str, Any], word: str) -> None:
        assert "." * TRIES in told("forked()", {**how, "max_processes": 0}, word)


class TestEnding:
    def test_a_tree_that_goes_on_forking_is_ended_at_the_time_limit(self, how: dict[str, Any], word: str) -> None:
        """Each process starts another one and ends, all the time, from twelve of them."""
        code = """
for _ in range(12):
    if not os.fork():
        signal.alarm(60)
        while True:
            try:
                if os.fork():
                    os._exit(0)
                signal.alarm(60)
            except BlockingIOError:
                time.sleep(0.01)
print("begun", flush=True)
time.sleep(600)
"""
        assert "was stopped" in told(code, how, word, timeout_s=1.0)

    def test_what_needs_a_process_to_clean_up_gets_it(self, how: dict[str, Any], word: str, tmp_path: Path) -> None:
        code = """
import subprocess
def clean(number, frame):
    subprocess.run(["touch", "cleaned"])
    os._exit(0)
signal.signal(signal.SIGTERM, clean)
print("ready", flush=True)
signal.pause()
"""
        for seconds in (1.0, 5.0, 25.0):
            if "ready" in told(code, how, word, timeout_s=seconds):
                break

        assert (tmp_path / "cleaned").exists()


def test_without_a_group_the_kernel_bounds_what_is_made_before_that_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    """By the number of processes of the user; root has no such limit."""
    monkeypatch.chdir(tmp_path)
    _without_groups(monkeypatch, tmp_path)
    code = "print(resource.getrlimit(resource.RLIMIT_NPROC)[0], open('/proc/loadavg').read().split()[3].split('/')[1])"
    limit, every = map(int, told(code, {"max_processes": MOST, "sandbox": "off"}, word).split()[-2:])

    assert MOST < limit < every + 1000


@pytest.mark.skipif(not has_groups(), reason="no control group can be made here")
def test_no_control_group_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    """One that a killed supervisor has left is removed by the next."""
    monkeypatch.chdir(tmp_path)
    left = make_pid_group(MOST)
    assert left is not None
    dead = subprocess.Popen(["true"])
    dead.wait()
    folder = Path(left._folder).rename(Path(left._folder).with_name(f"afk-{dead.pid}"))

    said = told("print(f'below {os.getppid()}')\nforked(3)", {"max_processes": MOST, "sandbox": "off"}, word)

    own = re.search(r"below (\d+)", said)
    assert own is not None
    assert [path for path in (folder, folder.with_name(f"afk-{own[1]}")) if path.exists()] == []


def test_a_number_below_zero_is_refused() -> None:
    with pytest.raises((ConfigError, SandboxError), match=r"max_processes must be 0 \(no limit\) or more \(got -1\)"):
        afk_tools(Settings(max_processes=-1, sandbox="off"))
