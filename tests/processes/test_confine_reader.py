"""What a search of files can do in its confinement: read its folders, and nothing else; a user's and root's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from afkcli.plugin import SandboxError, make_reader_sandbox
from afkcli.processes import sandbox
from afkcli.processes.confine import has_seccomp, landlock_version
from afkcli.processes.sandbox import Mechanism

pytestmark = pytest.mark.skipif(
    not (landlock_version() and has_seccomp()), reason="this machine has no Landlock, or no seccomp"
)

BEGIN = """
import ctypes, errno, fcntl, json, os, resource, signal, socket, sys, threading
place, version, target = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def tried(name, call, *values):
    try:
        said[name] = str(call(*values))
    except OSError as error:
        said[name] = errno.errorcode[error.errno]
    except RuntimeError:
        said[name] = "EPERM"
def opened(path, flags=os.O_RDONLY):
    return len(os.read(os.open(path, flags), 100))
kept = os.open(f"{place}/folder/note", os.O_RDONLY)
libc = ctypes.CDLL(None, use_errno=True)
def called(number, *values):
    ctypes.set_errno(0)
    if libc.syscall(number, *values) < 0:
        raise OSError(ctypes.get_errno(), "")
said = {}
if version:
    sys.path.insert(0, CONFINE)
    import confine
    confine.landlock_version = lambda: version
    del sys.path[0]
"""
END = "\nos.write(1, json.dumps(said).encode())\nos._exit(0)\n"

READS = """
tried("a file", opened, f"{place}/folder/note")
tried("a file below", opened, f"{place}/folder/below/note")
tried("a folder", lambda: sorted(os.listdir(f"{place}/folder")))
tried("a file of another user", opened, f"{place}/folder/foreign")
"""
ATTACKS = """
tried("read outside", opened, f"{place}/outside")
tried("read a hidden file", opened, f"{place}/folder/afk/key")
tried("read through a link", opened, f"{place}/folder/link")
tried("list outside", os.listdir, place)
tried("read the environment of afk", opened, f"/proc/{target}/environ")
tried("read its own memory file", opened, "/proc/self/mem")
tried("write a file", opened, f"{place}/folder/note", os.O_WRONLY)
tried("truncate at opening", opened, f"{place}/folder/note", os.O_RDONLY | os.O_TRUNC)
tried("make a file", opened, f"{place}/folder/new", os.O_WRONLY | os.O_CREAT)
tried("write to a device", opened, "/dev/null", os.O_WRONLY)
tried("truncate", os.truncate, f"{place}/folder/note", 0)
tried("remove", os.unlink, f"{place}/folder/note")
tried("rename", os.rename, f"{place}/folder/note", f"{place}/folder/moved")
tried("link", os.link, f"{place}/folder/note", f"{place}/folder/linked")
tried("link symbolically", os.symlink, "/", f"{place}/folder/linked")
tried("make a folder", os.mkdir, f"{place}/folder/made")
tried("make a FIFO", os.mkfifo, f"{place}/folder/fifo")
tried("change a mode", os.chmod, f"{place}/folder/note", 0o777)
tried("change the mode of an open file", os.chmod, kept, 0o777)
tried("change an owner", os.chown, f"{place}/folder/note", os.getuid(), os.getgid())
tried("change the times", os.utime, f"{place}/folder/note")
tried("change the times of an open file", os.utime, kept)
tried("set an attribute", os.setxattr, f"{place}/folder/note", "user.x", b"x")
tried("open a socket", socket.socket)
tried("open a local socket", socket.socket, socket.AF_UNIX)
tried("open a pair of sockets", socket.socketpair)
tried("fork", os.fork)
tried("start a program", os.posix_spawn, sys.executable, [sys.executable], {})
tried("execute a program", os.execv, sys.executable, [sys.executable])
tried("start a thread", lambda: threading.Thread(target=print).start())
tried("signal afk", os.kill, target, 0)
tried("signal all", os.kill, -1, 0)
tried("signal itself", os.kill, os.getpid(), signal.SIGKILL)
tried("open afk as a process", os.pidfd_open, target)
tried("limit afk", resource.prlimit, target, resource.RLIMIT_CPU)
tried("get a signal sent", fcntl.fcntl, 0, fcntl.F_SETOWN, target)
tried("trace", called, 101 if os.uname().machine == "x86_64" else 117, 16, target, 0, 0)
tried("make a namespace", called, 272 if os.uname().machine == "x86_64" else 97, 0x10000000)
tried("set up io_uring", called, 425, 8, 0)
tried("read the key ring", called, 250 if os.uname().machine == "x86_64" else 219, 0, -3, 0)
"""
REFUSED = ("EPERM", "EACCES", "ENOENT")


def said_by(code: str, place: Path, who: str, *, version: int = 0) -> Any:
    """Run `code` as a user or as root, confined to the folder of `place`; `version` hides a newer Landlock."""
    reader = make_reader_sandbox([str(place / "folder")], hidden=[str(place / "folder" / "afk")])
    assert reader.code
    assert reader.sandbox is None
    begin = BEGIN.replace("CONFINE", repr(str(Path(sandbox.__file__).parent)))
    program = [sys.executable, "-I", "-S", "-B", "-c", begin + reader.code + code + END]
    line = [*_as(who), *program, str(place), str(version), str(os.getpid())]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, cwd="/")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _as(who: str) -> Sequence[str]:
    """Return the words that run a program as root, or as a user who has no right of root's."""
    if (who == "root") == (os.getuid() == 0):
        return []
    number = "0" if who == "root" else "1000"
    return ["unshare", "--user", f"--map-user={number}", f"--map-group={number}"]


def _is_possible(who: str) -> bool:
    return subprocess.run([*_as(who), "true"], capture_output=True, check=False).returncode == 0


USERS = [
    pytest.param(who, marks=pytest.mark.skipif(not _is_possible(who), reason="there are no user namespaces here"))
    for who in ("user", "root")
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("below", "afk"):
        (tmp_path / "folder" / name).mkdir(parents=True)
    for name in ("folder/note", "folder/below/note", "folder/afk/key", "folder/foreign", "outside"):
        (tmp_path / name).write_text("text")
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "outside")
    if os.getuid() == 0:
        os.chown(tmp_path / "folder" / "foreign", 12345, 12345)
    (tmp_path / "folder" / "foreign").chmod(0o600)
    return tmp_path


@pytest.mark.parametrize("version", [0, 1, 3])
@pytest.mark.parametrize("who", USERS)
def test_a_search_reads_its_folders(place: Path, who: str, version: int) -> None:
    said = said_by(READS, place, who, version=version)

    foreign = "4" if who == "root" or os.getuid() != 0 else "EACCES"
    names = ["afk", "below", "foreign", "link", "note"]
    assert said == {"a file": "4", "a file below": "4", "a folder": str(names), "a file of another user": foreign}


@pytest.mark.parametrize("version", [0, 1, 3])
@pytest.mark.parametrize("who", USERS)
def test_a_search_can_do_nothing_else(place: Path, who: str, version: int) -> None:
    before = {path: path.lstat() for path in sorted(place.rglob("*"))}

    said = said_by(ATTACKS, place, who, version=version)

    assert len(said) == ATTACKS.count("tried(")
    assert {name: what for name, what in said.items() if what not in REFUSED} == {}
    after = {path: path.lstat() for path in sorted(place.rglob("*"))}
    assert {path: (status.st_mode, status.st_size, status.st_mtime) for path, status in after.items()} == {
        path: (status.st_mode, status.st_size, status.st_mtime) for path, status in before.items()
    }


def test_without_landlock_it_runs_in_bubblewrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = Mechanism(name="bubblewrap", program="/usr/bin/bwrap", works=True, detail="")
    monkeypatch.setattr(sandbox, "landlock_version", lambda: 0)
    monkeypatch.setattr(sandbox, "mechanisms", lambda: (found,))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AFK_HOME", str(tmp_path / "afk"))
    for name in (".ssh", ".aws", "afk/data"):
        (tmp_path / name).mkdir(parents=True)

    reader = make_reader_sandbox([str(tmp_path / ".ssh")])

    assert reader.code == ""
    assert reader.sandbox is not None
    assert (reader.sandbox.writable, reader.sandbox.network) == ((), False)
    assert str(tmp_path / ".aws") in reader.sandbox.hidden
    assert str(tmp_path / "afk" / "data") in reader.sandbox.hidden
    assert str(tmp_path / ".ssh") not in reader.sandbox.hidden


def test_without_both_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "landlock_version", lambda: 0)
    monkeypatch.setattr(sandbox, "mechanisms", lambda: (Mechanism(name="x", program="", works=False, detail="no"),))
    with pytest.raises(SandboxError, match="no sandbox can be made on this machine"):
        make_reader_sandbox(["/"])
