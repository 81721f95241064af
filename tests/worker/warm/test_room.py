"""Whether there is room for a warm run in the tables of processes: of a user, of a control group, of the machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from afkcli.processes.pid_group import make_pid_group
from afkcli.worker import room
from tests.e2e.shell import LIMIT
from tests.other_user import OtherUser, other_user

_ASK = "import sys; from afkcli.worker import room; print(room.is_ample(int(sys.argv[1])))"


def said(command: list[str]) -> bool:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True)
    return done.stdout == "True\n"


@pytest.fixture(scope="module")
def user() -> Iterator[OtherUser]:
    with other_user() as user:
        yield user


class TestUser:
    """RLIMIT_NPROC."""

    @pytest.mark.parametrize(
        ("limit", "running", "is_ample"),
        [(room.PLACES, 0, False), (room.PLACES + 20, 0, True), (room.PLACES + 20, 4, False), (5000, 40, True)],
    )
    def test_it_depends_on_the_limit_of_the_user(
        self, user: OtherUser, limit: int, running: int, is_ample: bool
    ) -> None:
        command = user.command(sys.executable, "-c", _ASK, str(running), limits=[f"--nproc={limit}"])

        assert said(command) is is_ample

    def test_processes_that_hide_their_memory_and_threads_count(self, user: OtherUser) -> None:
        """/proc shows the folder of such a process as root's."""
        script = f"""
import ctypes, threading
threading.stack_size(1 << 16)
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
for _ in range(30):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
import subprocess, sys
print(subprocess.run([sys.executable, "-c", {_ASK!r}, "0"], capture_output=True, text=True).stdout, end="", flush=True)
import os; os._exit(0)
"""
        assert not said(user.command(sys.executable, "-c", script, limits=[f"--nproc={room.PLACES + 20}"]))
        assert said(user.command(sys.executable, "-c", script, limits=[f"--nproc={room.PLACES + 60}"]))

    def test_the_limit_does_not_count_for_root(self, user: OtherUser) -> None:
        assert said(["prlimit", "--nproc=2", sys.executable, "-c", _ASK, "0"])


@pytest.mark.parametrize(("most", "is_ample"), [(room.PLACES - 1, False), (room.PLACES + 20, True)])
def test_it_depends_on_the_limit_of_the_control_group(most: int, is_ample: bool) -> None:
    group = make_pid_group(most)
    if group is None:
        pytest.skip("no control group can be made here")
    try:
        command = [sys.executable, "-c", _ASK, "0"]
        done = subprocess.run(command, capture_output=True, timeout=LIMIT, check=True, preexec_fn=group.join)
    finally:
        group.remove()

    assert done.stdout == f"{is_ample}\n".encode()


@pytest.mark.parametrize(("limit", "is_ample"), [("100\n", False), ("4194304\n", True), ("", True)])
def test_it_depends_on_the_limit_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, is_ample: bool
) -> None:
    (tmp_path / "threads-max").write_text(limit)
    monkeypatch.setattr(room, "_OF_MACHINE", (str(tmp_path / "threads-max"), str(tmp_path / "missing")))

    assert room.is_ample() is is_ample
