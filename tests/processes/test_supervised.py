"""Programs below a supervisor, as an author of plugins starts them: real processes only."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from afkcli.plugin import PIPE, SupervisedProcess
from afkcli.processes import descendants, supervised

pytestmark = pytest.mark.skipif(os.name == "nt", reason="processes as POSIX has them")

LIMIT = 60  # seconds after which something hangs; never a measure of speed
ENVIRONMENT = {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}


def test_a_program_is_written_to_and_read_from() -> None:
    async def main() -> tuple[bytes, bytes, int | None]:
        argv = ["sh", "-c", "cat; echo err >&2; exit 3"]
        async with await SupervisedProcess.start(argv, environment=ENVIRONMENT, stdin=PIPE) as process:
            assert process.stdin is not None
            process.stdin.write(b"in")
            process.stdin.write_eof()
            out, err = await asyncio.gather(process.stdout.read(), process.stderr.read())
            return out, err, await process.wait()

    assert asyncio.run(main()) == (b"in", b"err\n", 3)


def test_a_launcher_is_put_in_front_of_the_program() -> None:
    async def main() -> bytes:
        argv = ["env", "-u", "HOME", "A=1", "sh", "-c", "echo $A"]
        async with await SupervisedProcess.start(argv, environment=ENVIRONMENT) as process:
            return await process.stdout.read()

    assert asyncio.run(main()) == b"1\n"


def test_a_program_that_cannot_be_executed_is_an_error_of_the_start() -> None:
    async def main() -> None:
        await SupervisedProcess.start(["/no/such/program"], environment=ENVIRONMENT)

    with pytest.raises(FileNotFoundError):
        asyncio.run(main())


def test_a_program_is_stopped_at_its_limit() -> None:
    async def main() -> tuple[bool, int | None, str]:
        async with await SupervisedProcess.start(["sleep", "600"], environment=ENVIRONMENT, limit=0.2) as process:
            code = await process.wait()
            return process.timed_out, code, process.lost

    assert asyncio.run(main()) == (True, -signal.SIGTERM, "")


def test_what_still_ran_when_a_program_was_stopped_is_counted() -> None:
    async def main() -> supervised.Stopped:
        argv = ["sh", "-c", "sleep 600 & echo ready; sleep 600"]
        async with await SupervisedProcess.start(argv, environment=ENVIRONMENT) as process:
            await process.stdout.readline()
            return await process.stop(0.0)

    assert asyncio.run(main()) in [supervised.Stopped(running=number, left=0) for number in (2, 3)]


def test_a_process_that_cannot_be_killed_is_given_up() -> None:
    """It waits for a broken disk, or belongs to another user: here, it is one that is never seen to end."""
    began = time.monotonic()
    assert descendants.end_all(lambda: [2**22 + 1], began + 0.05) == [2**22 + 1]


AFK = """
import asyncio, json, os, signal, sys
from afkcli.plugin import SupervisedProcess
from afkcli.processes import supervised
from pathlib import Path
supervised.SUPERVISOR = Path(sys.argv[1])
async def main():
    process = await SupervisedProcess.start(["sleep", "600"], environment={"PATH": os.environ["PATH"]})
    print(process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the state of a process")
def test_a_program_ends_if_afk_is_suspended_for_good(tmp_path: Path) -> None:
    changed = supervised.SUPERVISOR.read_text().replace("LOOK_SECONDS = 30.0", "LOOK_SECONDS = 0.05")
    shutil.copytree(supervised.SUPERVISOR.parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "supervisor.py").write_text(changed.replace("SUSPENDED_SECONDS = 600.0", "SUSPENDED_SECONDS = 0.2"))
    argv = [sys.executable, "-c", AFK, str(tmp_path / "supervisor.py")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as afk:
        try:
            assert afk.stdout is not None
            pid = int(afk.stdout.readline())
            until = time.monotonic() + LIMIT
            while descendants.state_of(pid) not in ("", "Z"):
                assert time.monotonic() < until, "it still runs"
                time.sleep(0.02)
            assert descendants.state_of(afk.pid) == "T"
        finally:
            afk.kill()


CAPABILITIES = """
import asyncio, ctypes, json, os
from afkcli.plugin import SupervisedProcess
libc, header, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.capget(header, sets) == 0
sets[2], sets[5] = sets[1], sets[4]  # all that is permitted becomes inheritable, as some container engines have it
assert libc.capset(header, sets) == 0
async def main():
    argv = ["grep", "Cap[IPEB]", "/proc/self/status"]
    async with await SupervisedProcess.start(argv, environment={"PATH": os.environ["PATH"]}) as process:
        lines = (await process.stdout.read()).decode().splitlines()
        print(json.dumps({line.split(":")[0]: int(line.split()[1], 16) for line in lines}))
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root on Linux has capabilities to lose")
def test_a_program_of_root_has_no_capability_to_read_the_memory_of_afk_in_any_set() -> None:
    done = subprocess.run([sys.executable, "-c", CAPABILITIES], capture_output=True, text=True, timeout=LIMIT)

    assert done.returncode == 0, done.stderr
    reading = sum(1 << number for number in (17, 19, 21, 38))
    found = json.loads(done.stdout)
    assert set(found) == {"CapInh", "CapPrm", "CapEff", "CapBnd"}
    assert {name: sets & reading for name, sets in found.items()} == dict.fromkeys(found, 0)
