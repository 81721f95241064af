"""What Landlock and seccomp hold, by real processes; `python -m tests.sandbox` shows it with the whole afk."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from afkcli.processes import confine
from afkcli.processes.sandbox import mechanisms

pytestmark = pytest.mark.skipif(
    "landlock" not in [item.name for item in mechanisms() if item.works], reason="this machine has no Landlock"
)

BEGIN = f"""
import ctypes, errno, fcntl, json, os, resource, signal, sys
sys.path.insert(0, {str(Path(confine.__file__).parent)!r})
import confine
policy = json.loads(sys.argv[1])
if policy["version"]:
    confine.landlock_version = lambda: policy["version"]
confine.confined(policy, ["true"], policy["temporary"])
target = policy["target"]
def refused(call, *values):
    try:
        call(*values)
    except OSError as error:
        return errno.errorcode[error.errno]
    return ""
"""


def said_by(code: str, tmp_path: Path, *, version: int = 0, target: int = 0, **policy: Any) -> Any:
    """Run `code` in a confined process, and return the JSON that it prints; `version` hides a newer Landlock."""
    (tmp_path / "temporary").mkdir()
    given = {
        "mechanism": "landlock",
        "writable": [],
        "hidden": [],
        "network": False,
        "guarded": [target],
        "version": version,
        "target": target,
        "temporary": str(tmp_path / "temporary"),
        **policy,
    }
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", BEGIN + code, json.dumps(given)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


SIGNALS = """
print(json.dumps([
    refused(os.kill, target, 9),
    refused(os.kill, -target, 9),
    refused(os.kill, -1, 9),
    refused(fcntl.fcntl, 0, fcntl.F_SETOWN, target),
    refused(resource.prlimit, target, resource.RLIMIT_CPU, (0, 0)),
    refused(os.pidfd_open, target),
    refused(os.kill, os.getpid(), 0),
]))
"""


@pytest.mark.parametrize("version", [0, 5, 3])
def test_the_guarded_process_gets_no_signal(tmp_path: Path, version: int) -> None:
    """Before version 6 Landlock knows nothing of signals, so the filter has to refuse them."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as target:
        try:
            said = said_by(SIGNALS, tmp_path, version=version, target=target.pid)

            assert said == ["EPERM"] * 6 + [""]
            assert target.poll() is None
        finally:
            target.send_signal(signal.SIGKILL)


KEYS = """
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *values):
    ctypes.set_errno(0)
    libc.syscall(number, *values)
    return errno.errorcode.get(ctypes.get_errno(), "")
numbers = {**confine.CALLS[os.uname().machine], "io_uring_setup": 425}
print(json.dumps([call(numbers[name], 0, 0, 0, 0, 0) for name in ("keyctl", "add_key", "bpf", "io_uring_setup")]))
"""


def test_the_key_rings_and_the_second_way_to_every_call_are_closed(tmp_path: Path) -> None:
    assert said_by(KEYS, tmp_path) == ["EPERM", "EPERM", "EPERM", "ENOSYS"]


WRITES = """
print(json.dumps([
    refused(open, "made", "w"),
    refused(os.truncate, "old", 0),
    refused(os.mknod, policy["temporary"] + "/device", 0o020600, os.makedev(1, 3)),
    refused(os.rename, "old", policy["temporary"] + "/old"),
    refused(open, policy["temporary"] + "/made", "w"),
    refused(open, "/dev/null", "w"),
]))
"""


@pytest.mark.parametrize("version", [0, 3])
def test_it_writes_only_in_its_temporary_folder(tmp_path: Path, version: int) -> None:
    (tmp_path / "old").write_text("old")
    said = said_by(WRITES, tmp_path, version=version)

    assert all(said[:4])
    assert said[4:] == ["", ""]
    assert (tmp_path / "old").read_text() == "old"
