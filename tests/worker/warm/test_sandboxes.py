"""A sandbox of which only the kernel knows (landlock(7)) holds for a command beside a warm worker, too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from afkcli.processes.confine import landlock_version
from tests.e2e.shell import AFK, LIMIT
from tests.worker.warm.conftest import WarmShell
from tests.worker.warm.test_warm_runs import CONSOLE_SCRIPT

pytestmark = pytest.mark.skipif(not landlock_version(), reason="this kernel has no Landlock")

CONFINED = """
import os, sys
from afkcli.processes.confine import _libc, _restrict_files, readable
_libc().prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
hidden, *command = sys.argv[1:]
_restrict_files([("/", 1 << 3), *((path, ~0) for path in readable([hidden]))])
os.execv(command[0], command)
"""
"""Runs a command that can use all files but those in one folder."""


@pytest.mark.parametrize("client", ["compiled", "Python"])
@pytest.mark.parametrize("around", ["the command", "the worker too"])
def test_a_command_reads_no_file_that_its_sandbox_hides(
    fresh: WarmShell, tmp_path: Path, client: str, around: str
) -> None:
    """Also where the worker may start nothing that gets more rights, as in many containers: both are alike then."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "note.txt").write_text("a secret")
    script = tmp_path / "script.py"
    script.write_text(CONSOLE_SCRIPT)
    program = [AFK] if client == "compiled" else [sys.executable, script]
    outer = ["setpriv", "--no-new-privs"] if around == "the worker too" else []

    def run(*words: str | Path, switch: str = "on", sandbox: bool = True) -> tuple[int, bytes, bytes]:
        inner = [sys.executable, "-c", CONFINED, hidden] if sandbox else []
        done = subprocess.run(
            [*outer, *inner, *program, "run", "-n", "-q", "--no-memory", *words],
            env=fresh.environment(AFK_WORKER=switch),
            cwd=fresh.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT,
        )
        return done.returncode, done.stdout, done.stderr

    attached = ("--attach", hidden / "note.txt", "hi")
    alone = run(*attached, switch="off")
    fresh.warm(lambda: run("hi", sandbox=False))
    served = fresh.served
    beside = run(*attached)

    assert alone[0] == 2
    assert beside == alone
    assert fresh.served == served
