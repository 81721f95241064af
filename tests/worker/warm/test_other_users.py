"""Workers of several users, and a user whose table of processes is full.

The limit of processes (RLIMIT_NPROC) does not bind root, so that another user reaches it. `AFK_TEST_FREE_PLACES=13`
tries each number of free places below 13.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from afkcli.testing.model_script import Fault, Step
from afkcli.testing.model_server import ModelServer
from afkcli.worker import place, wire
from tests.e2e.shell import AFK, LIMIT
from tests.other_user import OtherUser, other_user
from tests.worker.warm.conftest import WarmShell, until
from tests.worker.warm.processes import processes_of, with_key
from tests.worker.warm.user_shell import UserShell, user_shell

PROCESSES = 120
FREE = range(int(os.environ["AFK_TEST_FREE_PLACES"])) if "AFK_TEST_FREE_PLACES" in os.environ else (2, 5, 7)
EDGE = 3
"""With so many free places, a cold run has those that it needs or not, depending on the moment."""


@pytest.fixture(scope="module")
def user() -> Iterator[OtherUser]:
    with other_user() as user:
        yield user


@pytest.fixture(scope="module")
def theirs(user: OtherUser, server: ModelServer) -> Iterator[UserShell]:
    """A shell of another user, who may have so many processes."""
    with user_shell(user, server, f"--nproc={PROCESSES}") as shell:
        yield shell


_FILL = """
import sys, threading
threading.stack_size(1 << 16)
print("ready", flush=True)
for _ in range(int(sys.stdin.readline())):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print("full", flush=True)
sys.stdin.read()
"""
"""Starts as many threads as stdin says."""


@contextmanager
def all_but(free: int, shell: UserShell) -> Iterator[None]:
    """Fill the user's table of processes up to some places, once neither the worker nor its child starts anything."""
    until(shell.is_at_rest, "the rest of the worker")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(shell.command(sys.executable, "-c", _FILL), text=True, **pipes) as filler:
        assert filler.stdin is not None
        assert filler.stdout is not None
        try:
            assert filler.stdout.readline() == "ready\n"  # it is the user's now
            print(PROCESSES - free - shell.tasks(), file=filler.stdin, flush=True)
            assert filler.stdout.readline() == "full\n"
            assert shell.tasks() == PROCESSES - free
            yield
        finally:
            filler.kill()


def test_a_user_without_rights_has_a_worker(theirs: UserShell) -> None:
    done = theirs.warm(lambda: theirs.afk("run", "-n", "-q", "hi"))

    assert (done.code, done.out[-3:]) == (0, "hi\n")
    pids = processes_of(theirs.runtime)
    assert {Path(f"/proc/{pid}").stat().st_uid for pid in pids} == {theirs.user.uid}
    assert not with_key(pids)


def test_a_process_that_a_tool_starts_does_not_read_the_keys_of_the_client(theirs: UserShell) -> None:
    """What the user's other processes were given it can read; root could read both."""

    def read(pid: int) -> subprocess.CompletedProcess[str]:
        command = theirs.command("cat", f"/proc/{pid}/environ")
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)

    def read_of_run() -> subprocess.CompletedProcess[str]:
        with ModelServer() as slow:
            slow.script(Step(text="hi", fault=Fault.HANG_BEFORE_HEADERS))
            process = theirs.start("run", "-n", "-q", "hi", env=theirs.environment(OPENAI_BASE_URL=slow.base_url))
            slow.wait_for_requests(1, LIMIT)
            found = read(process.pid)
            slow.release()
            process.communicate(timeout=LIMIT)
        assert process.returncode == 0
        return found

    found = theirs.warm(read_of_run)
    with subprocess.Popen(theirs.command("sleep", "60"), env=theirs.environment()) as sleeper:
        until(lambda: "sleep" in Path(f"/proc/{sleeper.pid}/comm").read_text(), "the start of another program")
        other = read(sleeper.pid)
        sleeper.kill()

    assert "sk-canary" not in found.stdout
    assert "Permission denied" in found.stderr
    assert "sk-canary" in other.stdout


def test_in_a_folder_that_may_not_be_entered_a_command_reads_no_other_folder(theirs: UserShell) -> None:
    theirs.warm_up()
    inner = theirs.folder / "inner"
    inner.mkdir()
    theirs.user.gives(inner)
    script = 'cd inner && chmod 0 . && "$0" run -n -q --attach etc/passwd hi'  # there is /etc/passwd
    ends = []
    for switch in ("off", "on"):
        done = subprocess.run(
            theirs.command("sh", "-c", script, AFK),
            env=theirs.environment(AFK_WORKER=switch),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT,
        )
        inner.chmod(0o700)
        ends.append((done.returncode, done.stdout, done.stderr))

    assert ends[0][0] == 2
    assert ends[0] == ends[1]


@pytest.mark.parametrize("free", FREE)
def test_with_a_full_table_of_processes_a_command_ends_as_a_cold_one_does(
    theirs: UserShell, server: ModelServer, free: int
) -> None:
    """A run needs threads, which have places in the table too. The worker takes none of those that a cold run has.

    Which thread has no place depends on the moment: without the sink's the run is complete, without another one it is
    not. Where even the program has no place, the code is that of a command that cannot be run. It is always said.
    """
    theirs.warm_up()
    with all_but(free, theirs):
        before = len(server.requests)
        cold = theirs.afk("run", "-n", "-q", "hi", AFK_WORKER="off")
        between = len(server.requests)
        warm = theirs.afk("run", "-n", "-q", "hi")
        after = len(server.requests)
        if warm.code != 126:  # it has asked the worker
            until(lambda: theirs.worker is None, "the end of the worker")
        again = theirs.afk("run", "-n", "-q", "hi")

    for done in (cold, warm, again):
        assert done.code in (0, 1, 126)
        assert done.out[-3:] == "hi\n" if done.code == 0 else done.err
    if cold.code == 0 and free != EDGE:
        assert (warm.code, warm.out[-3:]) == (0, "hi\n")
        assert ("can't start new thread" in warm.err) <= ("can't start new thread" in cold.err)
        assert (between - before, after - between) == (1, 1)
    assert theirs.worker is None or 126 in (warm.code, again.code)  # no other one was started
    assert not with_key(processes_of(theirs.runtime))


def test_where_the_table_of_processes_is_nearly_full_status_says_so(theirs: UserShell) -> None:
    theirs.warm_up()
    with all_but(40, theirs):
        shown = theirs.afk("worker", "status")
        until(lambda: theirs.worker is None, "the end of the worker, which could not fork its next child")
    done = theirs.warm(lambda: theirs.afk("run", "-n", "-q", "hi"))

    assert "no warm worker is started: the table of processes is nearly full (ulimit -u)" in shown.err
    assert (done.code, done.out[-3:]) == (0, "hi\n")


_ASK = """
import ctypes, os, socket, sys
path, uid = sys.argv[1], int(sys.argv[2])
frame = sys.stdin.buffer.read()
libc = ctypes.CDLL(None)
assert libc.prctl(28, 1 << 2) == 0  # PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP: it may still enter every folder
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
with socket.socket(socket.AF_UNIX) as client:
    client.connect(path)
    client.send(frame.replace(b"PID!", os.getpid().to_bytes(4, "little")))
    print(client.recv(1))
"""
"""Asks the worker at a socket as another user, with the rights to enter every folder."""


def asked(address: str, uid: int, program: str) -> bytes:
    """Return what a worker answers a process of the user `uid` that sends a call as its own client does."""
    marker = int.from_bytes(b"PID!", "little")
    order = wire.Order(
        pid=marker, flags=0, umask=0o22, ignored=0, blocked=0, arguments=[program.encode(), b"threads"], environment={}
    )
    done = subprocess.run(
        [sys.executable, "-c", _ASK, address, str(uid)], input=wire.frame(order), capture_output=True, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_worker_of_root_does_not_serve_another_user(fresh: WarmShell, user: OtherUser) -> None:
    """Whose process got past the rights of the folder."""
    state = fresh.warm_up()
    program = str(AFK)

    assert asked(fresh.address, user.uid, program) == b"b'C'"

    until(lambda: (now := fresh.worker) is not None and now.reason, "the reason")
    assert fresh.worker is not None
    assert fresh.worker.reason == "the client has ended"
    assert fresh.worker.served == state.served
    fresh.warm(lambda: fresh.afk("threads"))  # its own user is served
    assert fresh.warm_up().pid == state.pid


def test_a_worker_of_another_user_does_not_serve_root(theirs: UserShell) -> None:
    """Root may enter every folder, and may connect to every socket."""
    theirs.warm(lambda: theirs.afk("threads"))  # a command of root has just stored what it compiled
    state = theirs.warm_up()
    served = theirs.served
    program = str(AFK)

    assert asked(theirs.address, 0, program) == b"b'C'"
    assert theirs.served == served

    theirs.warm(lambda: theirs.afk("threads"))
    assert theirs.warm_up().pid == state.pid


def test_a_command_of_root_does_not_send_its_key_to_a_worker_of_another_user(
    fresh: WarmShell, theirs: UserShell
) -> None:
    theirs.warm_up()
    served = theirs.served
    done = subprocess.run(
        [AFK, "run", "-n", "-q", "hi"],
        env={**fresh.environment(), place.SOCKET_VARIABLE: theirs.address},
        cwd=fresh.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT,
    )

    assert (done.returncode, done.stdout[-3:]) == (0, b"hi\n")
    assert theirs.served == served


def test_a_command_of_another_user_sends_nothing_to_a_socket_of_root(theirs: UserShell) -> None:
    """The client asks who listens, also where the folder is its user's own."""
    theirs.warm_up()
    address = theirs.runtime / "afk" / "of-root.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        theirs.user.gives(address)
        listener.listen()
        listener.settimeout(LIMIT)
        done = subprocess.run(
            theirs.command(AFK, "threads"),
            env={**theirs.environment(), place.SOCKET_VARIABLE: str(address)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT,
        )
        connection, _ = listener.accept()
        with connection:
            received = connection.recv(1)
        address.unlink()

    assert done.returncode == 0
    assert received == b""
