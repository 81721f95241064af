"""What can happen to a worker, its child and its socket: the answer is that of the cold path, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from afkcli.testing.model_script import Fault, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import LIMIT, Finished
from tests.worker.warm.conftest import WarmShell, is_so_within, standing_by, until
from tests.worker.warm.processes import children_of, has_ended, state_of


def standby(shell: WarmShell) -> int:
    """Return the child that stands by."""

    def found() -> list[int]:
        return standing_by(shell.warm_up().pid)

    until(found, "a child that stands by")
    return found()[0]


def finished(process: subprocess.Popen[bytes]) -> Finished:
    out, err = process.communicate(timeout=LIMIT)
    return Finished(process.returncode, out.decode(), err.decode())


def answers(shell: WarmShell) -> bool:
    done = shell.afk("run", "-n", "-q", "hi")
    return (done.code, done.out.endswith("hi\n")) == (0, True)


class TestSockets:
    """What is in the place of the socket."""

    def test_the_socket_of_a_dead_worker(self, fresh: WarmShell) -> None:
        state = fresh.warm_up()
        os.kill(state.pid, signal.SIGKILL)
        until(lambda: has_ended(state.pid), "the end")

        assert answers(fresh)
        assert Path(fresh.address).is_socket()
        fresh.warm(lambda: answers(fresh))

    @pytest.mark.parametrize("what", ["file", "folder", "link", "fifo", "dangling"])
    def test_something_else_is_there(self, fresh: WarmShell, what: str) -> None:
        place = Path(fresh.address)
        place.parent.mkdir(mode=0o700)
        if what == "file":
            place.write_text("")
        elif what == "folder":
            place.mkdir()
        elif what == "link":
            place.symlink_to("/etc/passwd")
        elif what == "fifo":
            os.mkfifo(place)
        else:
            place.symlink_to("nowhere")

        assert answers(fresh)

    def test_a_folder_that_others_may_enter_is_not_used(self, fresh: WarmShell) -> None:
        state = fresh.warm_up()
        for mode in (0o755, 0o770, 0o711):
            (fresh.runtime / "afk").chmod(mode)

            assert answers(fresh)

            assert (fresh.served, mode) == (state.served, mode)

    def test_a_folder_that_is_a_link_is_not_used(self, fresh: WarmShell) -> None:
        state = fresh.warm_up()
        (fresh.runtime / "afk").rename(fresh.runtime / "real")
        (fresh.runtime / "afk").symlink_to("real")

        assert answers(fresh)

        assert fresh.served == state.served
        os.kill(state.pid, signal.SIGTERM)

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can make files of another user")
    def test_a_folder_of_another_user_is_not_used(self, fresh: WarmShell) -> None:
        state = fresh.warm_up()
        os.chown(fresh.runtime / "afk", 65534, 65534)

        assert answers(fresh)

        os.chown(fresh.runtime / "afk", 0, 0)
        assert fresh.served == state.served

    @pytest.mark.parametrize("answer", [b"", b"C", b"?", b"W", b"W\x01\x00\x00\x00", b"HTTP/1.1 400 Bad Request\r\n"])
    def test_a_socket_that_answers_anything(self, fresh: WarmShell, answer: bytes) -> None:
        folder = Path(fresh.address).parent
        folder.mkdir(mode=0o700)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(fresh.address)
            listener.listen()

            def serve() -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1 << 20)
                    connection.send(answer)

            thread = threading.Thread(target=serve)
            thread.start()
            assert answers(fresh)
            thread.join()

    def test_a_socket_that_answers_nothing(self, fresh: WarmShell) -> None:
        folder = Path(fresh.address).parent
        folder.mkdir(mode=0o700)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(fresh.address)
            listener.listen()

            assert answers(fresh)


@pytest.mark.parametrize(
    "frame",
    [b"", b"x", b"AFKWARM1", b"AFKWARM1\xff\xff\xff\xff", b"AFKWARM1\x02\x00\x00\x00ab", b"GET /\r\n\r\n"],
)
def test_a_client_that_sends_anything_does_no_harm(shell: WarmShell, frame: bytes) -> None:
    state = shell.warm_up()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(shell.address)
        client.send(frame)
        client.shutdown(socket.SHUT_WR)
        client.recv(1)

    shell.warm(lambda: answers(shell))
    assert shell.warm_up().pid == state.pid


class TestKills:
    """SIGKILL of the worker and of its child."""

    def test_the_child_that_stands_by(self, shell: WarmShell) -> None:
        for _ in range(3):
            os.kill(standby(shell), signal.SIGKILL)
            assert answers(shell)
        shell.warm(lambda: answers(shell))

    def test_the_worker_takes_the_child_that_stands_by_with_it(self, fresh: WarmShell) -> None:
        child, pid = standby(fresh), fresh.warm_up().pid

        os.kill(pid, signal.SIGKILL)

        until(lambda: has_ended(child), "the end of the child")

    def test_the_worker_in_the_middle_of_a_run(self, fresh: WarmShell, slow: ModelServer) -> None:
        process, child = started(fresh, slow)
        os.kill(fresh.warm_up().pid, signal.SIGKILL)
        slow.release()

        done = finished(process)

        assert (done.code, done.out) == (0, "the whole answer\n")
        until(lambda: has_ended(child), "the end of the child")

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
    def test_the_run_itself(self, shell: WarmShell, slow: ModelServer, number: int) -> None:
        process, child = started(shell, slow)

        os.kill(child, number)

        assert finished(process).code == -number

    def test_the_turn_of_a_killed_caller_is_not_lost(self, shell: WarmShell, slow: ModelServer) -> None:
        process, child = started(shell, slow, "-t", "trip")

        process.kill()

        assert finished(process).code == -signal.SIGKILL
        until(lambda: has_ended(child), "the end of the run")
        slow.release()
        shown = shell.afk("threads", "show", "trip", AFK_WORKER="off")
        assert "the question" in shown.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_as_it_ends_a_cold_one(shell: WarmShell, slow: ModelServer, number: int) -> None:
    ends = []
    for warm in (False, True):
        process, child = started(shell, slow, warm=warm)
        process.send_signal(number)
        done = finished(process)
        ends.append((done.code, done.out))
        if warm:
            until(lambda child=child: has_ended(child), "the end of the run")  # type: ignore[misc]

    assert ends[0] == ends[1]
    assert ends[1][0] == -number


def test_an_ignored_signal_stays_ignored(shell: WarmShell, slow: ModelServer) -> None:
    process, _ = started(shell, slow, ignored=signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    slow.release()

    assert finished(process).code == 0


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTSTP])
def test_a_caller_that_is_stopped_stops_the_run_and_continues_it(
    shell: WarmShell, slow: ModelServer, number: int
) -> None:
    process, child = started(shell, slow)

    process.send_signal(number)
    until(lambda: state_of(child) == "T", "the run stops")
    until(lambda: state_of(process.pid) == "T", "the caller stops")
    process.send_signal(signal.SIGCONT)
    until(lambda: "T" not in (state_of(child), state_of(process.pid)), "the run continues")
    slow.release()

    assert finished(process).code == 0


def test_many_runs_at_once_all_answer(shell: WarmShell) -> None:
    number = int(os.environ.get("AFK_TEST_WARM_RUNS", "12"))
    shell.warm_up()
    runs = [shell.start("run", "-n", "-q", f"question {at}") for at in range(number)]

    done = [finished(process) for process in runs]

    assert [one.code for one in done] == [0] * number
    assert all(one.out.endswith(f"question {at}\n") for at, one in enumerate(done))
    until(lambda: len(children_of(shell.warm_up().pid)) == 1, "no child is left")


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_closed_descriptors_are_closed_in_the_warm_run(shell: WarmShell, closed: tuple[int, ...]) -> None:
    words = " ".join(f"{number}{'<' if number == 0 else '>'}&-" for number in closed)

    def run(**env: str) -> Finished:
        done = subprocess.run(
            ["/bin/sh", "-c", f'"$0" threads --json {words}', str(AFK_PROGRAM)],
            env=shell.environment(**env),
            cwd=shell.folder,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    shell.afk("threads")  # which seals the turns of runs that other tests have killed
    cold, warm = run(AFK_WORKER="off"), shell.warm(run)

    assert (warm.code, warm.out, warm.err) == (cold.code, cold.out, cold.err)


def test_a_folder_that_was_deleted_is_as_in_a_cold_run(shell: WarmShell) -> None:
    def run(**env: str) -> tuple[int, str]:
        gone = shell.folder / "gone"
        gone.mkdir()
        done = subprocess.run(
            ["/bin/sh", "-c", 'rmdir "$PWD"; "$0" run -n --no-memory -q hi', str(AFK_PROGRAM)],
            env=shell.environment(**env),
            cwd=gone,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        return done.returncode, done.stderr

    assert run(AFK_WORKER="off") == shell.warm(run)


def test_the_worker_holds_nothing_of_the_caller_that_started_it(fresh: WarmShell) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    process = fresh.start("run", "-n", "-q", "--no-memory", "hi", pass_fds=[writer])
    os.close(writer)
    finished(process)

    assert is_so_within(LIMIT, lambda: os.read(reader, 1) == b"")  # the worker, too, has closed it
    os.close(reader)
    pid = fresh.warm_up().pid
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    for one in (pid, standby(fresh)):
        mounts = f"/proc/{one}/mountinfo"  # the child that stands by is told by it of new mounts
        known = {"/dev/null", "socket", "pipe", f"{fresh.address}.lock", "anon_inode", mounts}
        until(lambda one=one, known=known: kinds_of(one) <= known, "no other descriptor")  # type: ignore[misc]
        assert Path(f"/proc/{one}/environ").read_bytes().find(b"sk-canary") < 0


def kinds_of(pid: int) -> set[str]:
    """Return what a process has open."""
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # it was closed meanwhile
            found.add(str(descriptor.readlink()).partition(":")[0])
    return found


# -- a run that waits for the server -----------------------------------------------------------------------------------

AFK_PROGRAM = Path(sys.executable).parent / "afk"


@pytest.fixture
def slow() -> Iterator[ModelServer]:
    """A server that holds the answer back until it is released."""
    with ModelServer() as server:
        server.script(*[Step(text="the whole answer", fault=Fault.HANG_BEFORE_HEADERS)] * 20)
        yield server


def started(
    shell: WarmShell, server: ModelServer, *words: str, warm: bool = True, ignored: int | None = None
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a run, and wait for its request; return its process, and the one that runs it."""
    env = shell.environment(OPENAI_BASE_URL=server.base_url, AFK_WORKER="on" if warm else "off")
    for _ in range(5):
        child, served, before = standby(shell), shell.served, len(server.requests)
        process = subprocess.Popen(
            [AFK_PROGRAM, "run", "-n", "-q", *words, "the question"],
            env=env,
            cwd=shell.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=(lambda: signal.signal(ignored, signal.SIG_IGN)) if ignored else None,
            process_group=0,  # whose parent is of the same session, so that it can be stopped
        )
        until(lambda before=before: len(server.requests) > before, "a request")  # type: ignore[misc]
        if not warm:
            return process, process.pid
        if is_so_within(5, lambda served=served: shell.served > served):  # type: ignore[misc]
            return process, child
        process.kill()  # it runs cold, because the machine is busy
        process.communicate()
    raise AssertionError(f"the run is cold: {shell.worker}")
