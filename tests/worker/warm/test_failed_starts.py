"""A worker that cannot start: a run says nothing and does not wait, the next ones do not try again at once."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from afkcli.testing.model_server import ModelServer
from afkcli.worker import place, serving, starting
from afkcli.worker.failures import (
    FIRST_SECONDS,
    MAX_SECONDS,
    UNKNOWN_SECONDS,
    Attempt,
    forget_failure,
    is_to_wait,
    read_failure,
)
from afkcli.worker.leftovers import remove_leftovers
from tests.e2e.shell import AFK
from tests.worker.warm.conftest import WarmShell, until, warm_shell


@pytest.fixture
def cramped(tmp_path: Path, server: ModelServer) -> Iterator[WarmShell]:
    """A shell in which each worker fails at the end of its start: the path of its socket is too long."""
    for shell in warm_shell(tmp_path, server):
        shell.runtime = shell.runtime / ("long" * 30)
        shell.runtime.mkdir(mode=0o700)
        yield shell


def has_failed(shell: WarmShell) -> bool:
    """Return whether the last start has ended in vain, and told why."""
    failure = read_failure(shell.address)
    return failure is not None and "too long" in failure.reason and not place.is_held(shell.address)


def test_a_start_that_failed_is_tried_again_later_and_status_says_why(cramped: WarmShell, tmp_path: Path) -> None:
    log = tmp_path / "log"
    cramped.env["AFK_WORKER_LOG"] = str(log)
    assert cramped.afk("run", "-n", "-q", "hi").code == 0
    until(lambda: has_failed(cramped), "the failure")
    record = Path(f"{cramped.address}.failed")
    table = json.loads(record.read_text())
    record.write_text(json.dumps({**table, "pause": MAX_SECONDS}))  # longer than this test takes on a busy machine

    again = cramped.afk("run", "-n", "-q", "hi")
    shown = cramped.afk("worker", "status")
    [told] = [json.loads(line) for line in cramped.afk("worker", "status", "--json").out.splitlines()]
    os.utime(record, (0, 0))  # long ago
    assert cramped.afk("run", "-n", "-q", "hi").code == 0
    until(lambda: record.stat().st_mtime > 1000 and has_failed(cramped), "another failure")

    assert (again.code, again.out[-3:]) == (0, "hi\n")
    assert "a warm worker could not start: OSError: AF_UNIX path too long; a run tries again in " in shown.err
    assert (told["type"], told["reason"]) == ("failed_worker", "OSError: AF_UNIX path too long")
    assert table["pause"] == FIRST_SECONDS
    assert {sys.prefix, str(cramped.home)} <= set(table["places"])
    assert log.read_text().count("Traceback") == 2  # three runs, two starts


class TestGone:
    """What is known of an installation that is not there any more."""

    @pytest.fixture
    def noted(self, fresh: WarmShell, tmp_path: Path) -> dict[str, Path]:
        """Failures of four workers, in the folder of the sockets, by what has become of their installation since."""
        folder = fresh.runtime / "afk"
        folder.mkdir(mode=0o700)
        places = {"there": [sys.prefix, str(tmp_path)], "unknown": []}
        for name in ("no-venv", "no-package", "no-home"):
            places[name] = [sys.prefix, str(tmp_path / name)]
        for name, paths in places.items():
            Attempt(f"{folder}/{name}.sock", "", paths).fail(f"the reason of {name}")
        return {name: folder / f"{name}.sock.failed" for name in places}

    def test_status_shows_and_keeps_only_failures_of_what_is_there(
        self, fresh: WarmShell, noted: dict[str, Path]
    ) -> None:
        told = fresh.afk("worker", "status", "--json")
        shown = fresh.afk("worker", "status")

        reasons = [json.loads(line)["reason"] for line in told.out.splitlines()]
        assert reasons == ["the reason of there", "the reason of unknown"]
        assert [line.split("the reason of ")[1].split(";")[0] for line in shown.err.splitlines()[:2]] == [
            "there",
            "unknown",
        ]
        assert [name for name, path in noted.items() if path.exists()] == ["there", "unknown"]

    def test_the_next_worker_removes_the_others(self, fresh: WarmShell, noted: dict[str, Path]) -> None:
        remove_leftovers(str(fresh.runtime / "afk"))

        assert [name for name, path in noted.items() if path.exists()] == ["there", "unknown"]

    def test_a_failure_counts_as_long_as_its_installation_is_there(self, fresh: WarmShell, tmp_path: Path) -> None:
        address = str(fresh.runtime / "w.sock")
        place = tmp_path / "venv"
        place.mkdir()
        Attempt(address, "same", [str(place)])
        before = fresh.runtime / "w.sock.failed"

        remove_leftovers(str(fresh.runtime))
        assert before.exists()
        place.rmdir()
        remove_leftovers(str(fresh.runtime))

        assert not before.exists()


class TestPause:
    """How long runs wait after a start that failed."""

    @pytest.fixture
    def address(self, tmp_path: Path) -> str:
        return str(tmp_path / "w.sock")

    def test_it_doubles_up_to_some_minutes(self, address: str) -> None:
        pauses = []
        for _ in range(12):
            Attempt(address, "same").fail("a thread does not end")
            failure = read_failure(address)
            assert failure is not None
            pauses.append(failure.pause)

        assert pauses[:4] == [FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS, 8 * FIRST_SECONDS]
        assert pauses[-1] == MAX_SECONDS

    def test_under_other_conditions_nothing_waits_and_the_pause_is_short_again(self, address: str) -> None:
        for _ in range(5):
            Attempt(address, "before").fail("no")

        assert is_to_wait(address, "before")
        assert not is_to_wait(address, "after")
        Attempt(address, "after")
        failure = read_failure(address)
        assert failure is not None
        assert failure.pause == FIRST_SECONDS

    def test_a_start_that_is_killed_counts(self, address: str) -> None:
        Attempt(address, "same")

        failure = read_failure(address)
        assert failure is not None
        assert failure.reason == "the worker ended while it started"
        assert is_to_wait(address, "same")

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pause": "x"}', b"\xff"])
    def test_of_a_file_without_room_the_time_alone_counts(self, address: str, content: bytes) -> None:
        Path(f"{address}.failed").write_bytes(content)

        assert is_to_wait(address, "any")
        past = time.time() - UNKNOWN_SECONDS - 1
        os.utime(f"{address}.failed", (past, past))
        assert not is_to_wait(address, "any")

    def test_nothing_waits_after_a_start_that_succeeded_or_a_clock_that_was_set_back(self, address: str) -> None:
        Attempt(address, "same").succeed()
        assert not is_to_wait(address, "same")

        Attempt(address, "same").fail("no")
        os.utime(f"{address}.failed", (time.time() + 3600, time.time() + 3600))
        assert not is_to_wait(address, "same")

        forget_failure(address)
        assert read_failure(address) is None

    def test_a_folder_that_cannot_be_written_is_no_error(self, tmp_path: Path) -> None:
        address = str(tmp_path / "missing" / "w.sock")

        Attempt(address, "same").fail("no")

        assert not is_to_wait(address, "same")


class TestConditions:
    """What a start depends on."""

    def test_they_change_with_the_config_the_environment_and_the_packages(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "packages").mkdir()
        monkeypatch.setattr("sys.path", [str(tmp_path / "packages")])
        environment = {"AFK_HOME": str(tmp_path), "PATH": "/bin", "OPENAI_API_KEY": "x"}
        seen = [starting.conditions_of(environment)]
        assert starting.conditions_of({**environment, "OPENAI_API_KEY": "y"}) == seen[0]

        seen.append(starting.conditions_of({**environment, "LANG": "C"}))
        (tmp_path / "config").mkdir()
        (tmp_path / "config" / "config.toml").write_text("")
        seen.append(starting.conditions_of(environment))
        (tmp_path / "packages" / "new.py").write_text("")
        seen.append(starting.conditions_of(environment))

        assert len(set(seen)) == 4


def wanted(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, program: str = "/bin/afk") -> str | None:
    """Return where a run that has asked a model would have a worker start."""
    monkeypatch.setattr(starting, "is_looked_into", lambda: False)
    monkeypatch.setitem(starting.sys.modules, "afk_provider_openai.provider", starting)
    return starting._wanted({**environment, "AFK_WORKER": "on"}, program)


def test_no_process_is_started_where_the_config_turns_it_off(
    fresh: WarmShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config" / "config.toml"
    config.parent.mkdir()
    environment = {"AFK_HOME": str(tmp_path), place.SOCKET_VARIABLE: str(fresh.runtime / "w.sock")}
    assert wanted(environment, monkeypatch) is not None

    config.write_text("[worker]\nenabled = false\n")
    config.chmod(0o600)

    assert wanted(environment, monkeypatch) is None
    shown = fresh.afk("worker", "status", AFK_HOME=str(tmp_path)).err
    assert "no warm worker is started: the config has `enabled = false` in `[worker]`" in shown


def test_no_process_is_started_where_there_are_enough_workers(
    fresh: WarmShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"AFK_HOME": str(tmp_path), place.SOCKET_VARIABLE: str(fresh.runtime / "w.sock")}
    held = []
    for number in range(place.MAX_WORKERS):
        assert wanted(environment, monkeypatch) is not None
        held.append(os.open(fresh.runtime / f"{number}.sock.lock", os.O_RDWR | os.O_CREAT, 0o600))
        fcntl.flock(held[-1], fcntl.LOCK_EX)

    assert wanted(environment, monkeypatch) is None

    for descriptor in held:
        os.close(descriptor)
    assert wanted(environment, monkeypatch) is not None


@pytest.mark.parametrize("kind", ["a file", "a link", "with rights for others", "not to be made"])
def test_no_process_is_started_where_no_safe_folder_can_be_made(
    fresh: WarmShell, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = fresh.runtime / "afk"
    environment = {"HOME": str(fresh.home), "XDG_RUNTIME_DIR": str(fresh.runtime)}
    assert wanted(environment, monkeypatch, str(AFK)) is not None

    if kind == "a file":
        folder.touch()
    elif kind == "a link":
        folder.symlink_to(fresh.home)
    elif kind == "with rights for others":
        folder.mkdir()
        folder.chmod(0o755)
    else:
        monkeypatch.setattr("os.access", lambda path, mode: Path(path) != fresh.runtime)  # a file system to read only

    assert wanted(environment, monkeypatch, str(AFK)) is None


class TestForks:
    """The worker's own loop where the system does not fork, or a child ends at once."""

    @pytest.fixture
    def listener(self, fresh: WarmShell) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(fresh.runtime / "w.sock"))
            listener.listen()
            listener.setblocking(False)
            yield listener

    def test_a_worker_that_cannot_fork_ends_and_says_why(
        self, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tried = []

        def fork() -> int:
            tried.append(1)
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

        monkeypatch.setattr(serving, "fork_alone", fork)

        said = served(listener, lambda says, running: os._exit(0), lambda: len(tried))

        assert said == {"failure": "fork: Resource temporarily unavailable", "counted": serving.MAX_FAILED + 1}

    def test_a_child_that_always_ends_at_once_is_not_forked_for_ever(
        self, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forked = []
        fork = serving.fork_alone

        def counted() -> int:
            forked.append(1)
            return fork()

        monkeypatch.setattr(serving, "fork_alone", counted)

        said = served(listener, lambda says, running: os._exit(1), lambda: len(forked))

        assert said == {"failure": "the child that stands by ends at once", "counted": serving.MAX_FAILED + 1}

    def test_after_some_forks_that_failed_a_child_stands_by(
        self, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As when the table of processes was full for a moment: then a client is answered again."""
        tried = []
        fork = serving.fork_alone

        def sometimes() -> int:
            tried.append(1)
            if len(tried) < serving.MAX_FAILED:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            return fork()

        monkeypatch.setattr(serving, "fork_alone", sometimes)

        def answer(says: socket.socket, running: int) -> NoReturn:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(listener.getsockname())
            connection, _ = listener.accept()
            connection.close()
            says.send(serving.STALE + b"answered")
            os._exit(0)

        assert served(listener, answer, lambda: len(tried)) == {"failure": "", "counted": serving.MAX_FAILED}

    def test_why_no_child_can_stand_by_is_known_once_the_place_is_free(
        self, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also where a command still runs in the worker, however long it takes: the next run looks at the place."""
        tried, fork, (waits, goes_on) = [], serving.fork_alone, os.pipe()

        def once() -> int:
            tried.append(1)
            if len(tried) > 1:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            return fork()

        monkeypatch.setattr(serving, "fork_alone", once)

        def run(says: socket.socket, running: int) -> NoReturn:
            signal.alarm(60)
            connection, _ = socket.socketpair()
            socket.send_fds(says, [serving.TAKEN], [connection.fileno()])
            os.read(waits, 1)
            os._exit(0)

        said = served(listener, run, lambda: len(tried), leave=lambda failure: os.write(goes_on, b"x"))

        assert said == {"failure": "fork: Resource temporarily unavailable", "counted": serving.MAX_FAILED + 2}
        os.close(waits)
        os.close(goes_on)


def served(
    listener: socket.socket,
    stand_by: Callable[[socket.socket, int], NoReturn],
    count: Callable[[], int],
    *,
    leave: Callable[[str], object] = lambda failure: None,
) -> dict[str, Any]:
    """Serve in a process of its own until the end; return why it ended, and what it has counted."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(60)
            failures: list[str] = []

            def left(failure: str) -> None:
                failures.append(failure)
                leave(failure)

            serving.Serving(
                listener,
                stand_by,
                is_wanted=lambda: True,
                obstacle=lambda running: "",
                idle_s=60.0,
                leave=left,
                note=lambda served, reason: None,
            ).run()
            os.write(writer, json.dumps({"failure": failures[0], "counted": count()}).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        said: dict[str, Any] = json.loads(file.read())
    os.waitpid(child, 0)
    return said
