"""A command that attacks its supervisor, or afk, does not outlive its time limit and afk: real processes only.

The tests run as the user who runs them, without a sandbox: the command may send a signal to its supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from uuid import uuid4

import pytest
from afk_tools_shell import Settings, afk_tools

from afkcli.plugin import ToolError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other platforms have no subreaper and no /proc")

LIMIT = 60  # seconds after which something hangs; never a measure of speed


class Marked:
    """Commands whose processes are found by a word in their command lines, wherever they went."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.word = f"marked-{uuid4().hex}"
        (folder / self.word).touch()

    def sh(self, script: str) -> list[str]:
        """Return a command; in `script` FOREVER is a process without end, and READY a file for `start_afk`."""
        forever = f"{shutil.which('tail')} -f /dev/null {self.folder / self.word}"
        return ["sh", "-c", script.replace("FOREVER", forever).replace("READY", str(self.ready)), self.word]

    def python(self, code: str) -> list[str]:
        code = textwrap.dedent(code).replace("READY", repr(str(self.ready)))
        return [sys.executable, "-c", code, self.word]

    @property
    def ready(self) -> Path:
        return self.folder / "ready"

    def running(self) -> list[str]:
        """Return the command lines of the processes that run."""
        listed = subprocess.run(["ps", "-A", "-o", "stat=,pid=,args="], capture_output=True, text=True).stdout
        lines = [line for line in listed.splitlines() if self.word in line and not line.startswith("Z")]
        return [line for line in lines if "import Settings" not in line]  # afk, as `start_afk` starts it

    def wait_until_none_runs(self) -> None:
        until = time.monotonic() + LIMIT
        while self.running():
            assert time.monotonic() < until, self.running()
            time.sleep(0.02)


@pytest.fixture
def marked(tmp_path):
    made = Marked(tmp_path)
    yield made
    listed = subprocess.run(["ps", "-A", "-o", "pid=,args="], capture_output=True, text=True).stdout
    for line in listed.splitlines():  # what a failure has left
        if made.word in line:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.split()[0]), signal.SIGKILL)


def told(argv, timeout_s=300.0):
    """Return what the model is told of a command, an error too."""
    (tool,) = afk_tools(Settings(timeout_s=600, sandbox="off"))
    try:
        return asyncio.run(tool.call({"argv": argv, "timeout_s": timeout_s}))
    except ToolError as error:
        return str(error)


ATTACKS = {
    "suspend": "kill -STOP $PPID; FOREVER",
    "kill": "kill -KILL $PPID; FOREVER",
    "suspend from a daemon": "(setsid env -i /bin/sh -c 'kill -STOP '$PPID'; FOREVER' &); FOREVER",
    "kill from a daemon": 'S=$PPID; (setsid sh -c "kill -KILL $S; FOREVER" &); FOREVER',
    "daemons, then suspend": "(setsid env -i /bin/sh -c 'FOREVER' &); (setsid setsid /bin/sh -c 'FOREVER &' &);"
    " sleep 0.2; kill -STOP $PPID; FOREVER",
    "daemons without environment, then kill": "(setsid env -i /bin/sh -c 'trap \"\" TERM HUP; FOREVER' &)"
    " ; (setsid env -i /bin/sh -c 'FOREVER & exit' &); sleep 0.2; kill -KILL $PPID; FOREVER",
    "the whole group": "kill -KILL -$PPID; FOREVER",
    "suspend, and continue when it is too late": "kill -STOP $PPID; FOREVER & sleep 0.5; kill -CONT $PPID; FOREVER",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_command_that_attacks_its_supervisor_is_ended_at_once(marked, attack):
    said = told(marked.sh(ATTACKS[attack]))

    assert marked.running() == []
    assert "the supervisor of the command was" in said


def test_a_supervisor_that_is_suspended_again_and_again_keeps_the_limit(marked):
    flip = """
        import os, signal
        supervisor = os.getppid()
        while True:
            os.kill(supervisor, signal.SIGSTOP)
            os.kill(supervisor, signal.SIGCONT)
    """
    told(marked.python(flip), timeout_s=1.0)
    assert marked.running() == []


def test_a_process_that_changes_its_name_session_and_group_is_found(marked):
    change = """
        import ctypes, os, signal, time
        supervisor = os.getppid()
        for step in range(3):
            if os.fork():
                time.sleep(3600) if step == 0 else os._exit(0)
            os.setsid() if step != 1 else os.setpgid(0, 0)
            ctypes.CDLL(None).prctl(15, b"kworker/0:1", 0, 0, 0)
        for descriptor in range(256):
            try:
                os.close(descriptor)
            except OSError:
                pass
        os.kill(supervisor, signal.SIGKILL)
        time.sleep(3600)
    """
    assert "the supervisor of the command was killed" in told(marked.python(change))
    assert marked.running() == []


def test_processes_that_go_from_one_to_the_next_are_ended(marked):
    """Each lives for less time than it takes to read the process table, in a session of its own."""
    hop = """
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        until = time.monotonic() + 60  # if nothing ended them, they would take the whole machine for good
        for _ in range(8):
            if os.fork() == 0:
                while time.monotonic() < until:
                    if os.fork():
                        os._exit(0)
                    os.setsid()
    """
    told(marked.python(hop))
    assert marked.running() == []


def test_processes_that_start_each_other_anew_are_ended(marked):
    """Each starts the other one again when it is gone; up to 300 processes, however fast the machine is."""
    restart = """
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        def guard(generation):
            for _ in range(100):
                child = os.fork()
                if child == 0:
                    os.setsid()
                    if generation < 3:
                        guard(generation + 1)
                    time.sleep(3600)
                while True:
                    try:
                        os.kill(child, 0)
                    except OSError:
                        break
                    time.sleep(0.001)
            time.sleep(3600)
        guard(0)
    """
    assert "took longer than" in told(marked.python(restart), timeout_s=1.0)
    assert marked.running() == []


@pytest.mark.parametrize(
    "attack", ["kill -STOP $PPID; FOREVER", "for _ in $(seq 40); do FOREVER & done; kill -KILL $PPID"]
)
def test_the_limit_of_other_commands_and_their_results_are_not_touched(marked, attack):
    async def both():
        (tool,) = afk_tools(Settings(sandbox="off"))
        other = asyncio.ensure_future(tool.call({"argv": ["sh", "-c", "sleep 1; echo whole"]}))
        await asyncio.sleep(0)
        await tool.call({"argv": marked.sh(attack)})
        return await other

    assert asyncio.run(both()) == "exit status: 0\nstdout:\nwhole"
    assert marked.running() == []


def test_the_supervisor_cannot_be_traced_or_looked_into(marked):
    look = """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        supervisor = os.getppid()
        print("attach", libc.ptrace(16, supervisor, 0, 0), os.strerror(ctypes.get_errno()))
        for what in ("mem", "environ", "fd/3", "maps"):
            try:
                open(f"/proc/{supervisor}/{what}", "rb").read(1)
                print(what, "was read")
            except OSError as error:
                print(what, error.strerror)
        for number in range(3, 64):  # pidfd_getfd(2)
            descriptor = libc.syscall(438, os.pidfd_open(supervisor), number, 0)
            if descriptor >= 0:
                print("got a descriptor of the supervisor")
    """
    said = told(marked.python(look))
    assert "attach -1 Operation not permitted" in said
    assert said.count("Permission denied") == 4
    assert "got" not in said


AFK = """
import asyncio, os, sys
from afk_tools_shell import Settings, afk_tools
(tool,) = afk_tools(Settings(sandbox="off"))
async def main():
    call = asyncio.ensure_future(tool.call({"argv": sys.argv[3:], "timeout_s": float(sys.argv[2])}))
    if sys.argv[1] == "forked":
        while not os.path.exists(os.environ["READY"]):
            await asyncio.sleep(0.01)
        if os.fork() == 0:  # it holds the socket to the supervisor open
            import time
            with open(os.environ["READY"] + ".new", "w") as file:
                file.write(str(os.getpid()))
            os.rename(os.environ["READY"] + ".new", os.environ["READY"] + ".forked")
            time.sleep(600)
    print(await call)
asyncio.run(main())
"""


def start_afk(marked, script, *, how="plain", limit=300.0):
    environment = {**os.environ, "READY": str(marked.ready)}
    argv = [sys.executable, "-c", AFK, how, str(limit), *marked.sh(script)]
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(marked.ready)
    return process


def wait_for(file):
    until = time.monotonic() + LIMIT
    while not file.exists():
        assert time.monotonic() < until, f"there is no {file}"
        time.sleep(0.01)


def wait_for_stop(pid):
    """Wait until a process and those that it started are suspended, or have ended."""
    until = time.monotonic() + LIMIT
    while any(state not in ("T", "Z") for state in states_of(pid)):
        assert time.monotonic() < until, f"not all are suspended: {states_of(pid)}"
        time.sleep(0.01)


def states_of(pid):
    """Return the states of a process and of those that it started, as /proc shows them."""
    states = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            state, parent = file.read_text().rpartition(")")[2].split()[:2]
            if pid in (int(file.parent.name), int(parent)):
                states.append(state)
    return states


def test_no_process_is_left_if_afk_is_killed_and_a_fork_of_it_lives(marked):
    """As a program with worker processes has them: the socket to the supervisor does not close with afk."""
    afk = start_afk(marked, "touch READY; FOREVER", how="forked")
    wait_for(Path(f"{marked.ready}.forked"))
    try:
        afk.kill()
        afk.wait(LIMIT)
        marked.wait_until_none_runs()
    finally:
        os.kill(int(Path(f"{marked.ready}.forked").read_text()), signal.SIGKILL)


def test_no_process_is_left_if_the_supervisor_is_suspended_and_afk_killed(marked):
    """One after the other, with no time for afk between them: the kernel continues the supervisor."""
    afk = start_afk(marked, "touch READY; kill -STOP $(cut -d' ' -f4 /proc/$PPID/stat); kill -STOP $PPID; FOREVER")
    wait_for_stop(afk.pid)  # a thread of afk may still see that the supervisor is suspended, and end the command
    afk.kill()
    afk.wait(LIMIT)
    marked.wait_until_none_runs()


def test_a_command_that_suspends_afk_does_not_outlive_its_limit(marked):
    afk = start_afk(marked, "kill -STOP $(cut -d' ' -f4 /proc/$PPID/stat); touch READY; FOREVER", limit=0.5)
    try:
        marked.wait_until_none_runs()
    finally:
        afk.kill()
        afk.wait(LIMIT)


def test_a_command_that_kills_afk_ends_with_it(marked):
    afk = start_afk(marked, "touch READY; sleep 0.3; kill -KILL $(cut -d' ' -f4 /proc/$PPID/stat); FOREVER")
    afk.wait(LIMIT)
    marked.wait_until_none_runs()
