"""A warm start leaves a process as a cold one does, except for the imported modules."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.shell import LIMIT, Shell, kill, wait_for_output
from tests.e2e.warm import start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="all starts are cold elsewhere")

STATE = """
import sys
imported = "afkcli.cli" in sys.modules
import json, os, signal
umask = os.umask(0)
stream = lambda it: [it.encoding, it.errors, it.line_buffering, it.isatty(), it.fileno()]
print(json.dumps({
    "arguments": sys.argv, "path": sys.path, "folder": os.getcwd(), "environment": dict(os.environ), "name": __name__,
    "umask": umask, "group": os.getpgid(0), "session": os.getsid(0),
    "descriptors": [fd for fd in range(256) if os.path.exists(f"/proc/self/fd/{fd}")],
    "signals": {number: str(signal.getsignal(number)) for number in map(int, signal.valid_signals())},
    "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
    "streams": [stream(it) for it in (sys.stdin, sys.stdout, sys.stderr)],
    "imported": imported,
}))
"""


def state(shell: Shell, script: Path, *, cold: bool, **options: Any) -> dict[str, Any]:
    script.write_text(STATE)
    options.setdefault("env", shell.environment())
    process = start(
        [sys.executable, script, "a word", "--option"],
        cold=cold,
        cwd=shell.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )
    out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, err) == (0, b"")
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize("options", [{}, {"umask": 0o027}, {"umask": 0o077}], ids=str)
def test_a_warm_process_has_the_state_of_a_cold_one(shell: Shell, tmp_path: Path, options: dict[str, Any]) -> None:
    warm = state(shell, tmp_path / "script.py", cold=False, **options)
    cold = state(shell, tmp_path / "script.py", cold=True, **options)

    assert (warm.pop("imported"), cold.pop("imported")) == (True, False)
    assert warm == cold


def test_the_variable_pythonpath_counts_for_both(shell: Shell, tmp_path: Path) -> None:
    env = shell.environment(PYTHONPATH=f"{tmp_path / 'a'}{os.pathsep}{tmp_path / 'b'}")

    paths = [state(shell, tmp_path / "script.py", cold=cold, env=env)["path"] for cold in (False, True)]

    assert paths[0] == paths[1]
    assert paths[0][1:3] == [str(tmp_path / "a"), str(tmp_path / "b")]


def test_a_session_of_its_own_has_its_own_group(shell: Shell, tmp_path: Path) -> None:
    found = state(shell, tmp_path / "script.py", cold=False, start_new_session=True)

    assert found["group"] == found["session"] != os.getsid(0)


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
@pytest.mark.parametrize(("statement", "status"), [("sys.exit(7)", 7), ("sys.exit()", 0), ("raise OSError", 1)])
def test_the_exit_status_is_that_of_the_script(
    shell: Shell, tmp_path: Path, statement: str, status: int, cold: bool
) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"import sys\nprint('text without a newline', end='')\n{statement}\n")
    shell.cold = cold

    done = shell.python(script)

    assert (done.code, done.out) == (status, "text without a newline")


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_a_signal_ends_it_and_is_reported(shell: Shell, tmp_path: Path, number: int, cold: bool) -> None:
    script = tmp_path / "script.py"
    script.write_text("import time\nprint('ready', flush=True)\ntime.sleep(600)\n")
    shell.cold = cold
    process = shell.start_python(script)
    wait_for_output(process, b"ready")

    kill(process, number)

    assert process.returncode == -number
