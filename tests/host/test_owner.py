"""An owner is called dead only when that is proven."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from afkcli.core.contract.protocols import Owner
from afkcli.host.owner import current_owner, proven_dead

_SAY_OWNER = (
    "from afkcli.host.owner import current_owner; import time; o = current_owner('child'); print(o.pid, o.start_time)"
)


@pytest.fixture
def child() -> Iterator[tuple[subprocess.Popen[str], Owner]]:
    """A process that sleeps, and who it says it is."""
    code = f"{_SAY_OWNER}; import sys; sys.stdout.flush(); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid, start_time = process.stdout.readline().split()
        yield process, replace(current_owner("child"), pid=int(pid), start_time=start_time)
        process.kill()


def test_this_process_is_described_fully() -> None:
    owner = current_owner("a-run")
    assert owner.run_id == "a-run"
    assert owner.pid == os.getpid()
    assert owner.host
    if sys.platform == "linux":
        assert owner.boot_id
        assert owner.pid_namespace.startswith("pid:")
        assert owner.start_time.isdigit()


def test_the_living_are_not_dead(child: tuple[subprocess.Popen[str], Owner]) -> None:
    assert not proven_dead(current_owner("me"))
    assert not proven_dead(child[1])


def test_a_stopped_process_is_not_dead(child: tuple[subprocess.Popen[str], Owner]) -> None:
    child[0].send_signal(signal.SIGSTOP)
    assert not proven_dead(child[1])


def test_a_killed_process_is_dead_also_before_its_parent_looks(child: tuple[subprocess.Popen[str], Owner]) -> None:
    process, owner = child
    process.kill()
    while "State:\tZ" not in Path(f"/proc/{owner.pid}/status").read_text():
        time.sleep(0.01)
    assert proven_dead(owner)
    process.wait()
    assert proven_dead(owner)


def test_a_process_id_that_is_used_again_is_another_process() -> None:
    assert proven_dead(replace(current_owner("me"), start_time="1"))


def test_an_earlier_boot_of_this_host_is_dead() -> None:
    assert proven_dead(replace(current_owner("me"), boot_id="00000000-0000-0000-0000-000000000000"))


@pytest.mark.parametrize(
    "change",
    [
        {"host": "elsewhere"},
        {"host": ""},
        {"boot_id": ""},
        {"pid_namespace": "pid:[1]"},
        {"pid_namespace": ""},
        {"host": "elsewhere", "boot_id": "another"},
    ],
)
def test_what_is_unknown_or_elsewhere_is_not_dead(change: dict[str, str]) -> None:
    gone = replace(current_owner("gone"), pid=2**22 + 5, start_time="1")  # above the greatest pid of Linux
    assert proven_dead(gone)
    assert not proven_dead(replace(gone, **change))


@pytest.mark.parametrize("pid", [0, -1, 2**70])
def test_a_process_id_that_cannot_be_proves_nothing(pid: int) -> None:
    assert not proven_dead(replace(current_owner("odd"), pid=pid))


def test_a_child_of_a_fork_is_an_owner_of_its_own() -> None:
    parent = current_owner("me")
    code = (
        "import os; from afkcli.host.owner import current_owner\n"
        "one = current_owner('r'); pid = os.fork()\n"
        "if pid == 0: os._exit(0 if current_owner('r').pid == os.getpid() != one.pid else 1)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert parent.pid == os.getpid()
