"""A batch whose processes are killed at random moments loses no prompt and pays none twice.

`AFK_BATCH_KILLS=200 uv run pytest tests/batch/test_kills.py` kills 200 times; a few times are tried by default.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from afkcli.testing.model_script import Step
from afkcli.testing.model_server import ModelServer, RecordedRequest
from tests.e2e.shell import LIMIT, Shell

KILLS = int(os.environ.get("AFK_BATCH_KILLS", "4"))
PROMPTS_A_KILL, AT_ONCE = 25, 8
COMMAND = ("batch", "run", "prompts.jsonl", "-o", "results.jsonl", "--concurrency", str(AT_ONCE), "--workers", "2")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    home, folder = tmp_path / "user", tmp_path / "work"
    home.mkdir()
    folder.mkdir()
    return Shell(home=home, folder=folder)


def said(request: RecordedRequest) -> str:
    return str(request.body["messages"][-1]["content"])


@pytest.fixture
def server(shell: Shell) -> Iterator[ModelServer]:
    def answer(request: RecordedRequest) -> Step:
        text = said(request)
        return Step(text=[f"answer to {text}"], delay_headers=random.Random(text).uniform(0, 0.04))

    with ModelServer(answer=answer) as server:
        shell.env.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="none", AFK_MODEL="openai/gpt-5.2-mini")
        yield server


def write_prompts(shell: Shell, number: int) -> None:
    lines = (json.dumps({"id": f"p{n}", "message": f"ask {n}"}) for n in range(number))
    (shell.folder / "prompts.jsonl").write_text("\n".join(lines))


def rows(shell: Shell) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (shell.folder / "results.jsonl").read_bytes().splitlines()]


def children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def kill(running: subprocess.Popen[bytes], server: ModelServer, chance: random.Random) -> None:
    """Kill the process, in some cases one of its workers first, so that the other one goes on for a while."""
    workers = children(running.pid)
    if workers and chance.random() < 0.4:
        with suppress(ProcessLookupError):
            os.kill(chance.choice(workers), signal.SIGKILL)
        wait_for(running, server, len(server.requests) + chance.randrange(PROMPTS_A_KILL))
    running.kill()


def wait_for(running: subprocess.Popen[bytes], server: ModelServer, count: int) -> None:
    """Wait until so many requests have come, or the process has ended."""
    while running.poll() is None:
        with suppress(TimeoutError):
            server.wait_for_requests(count, 0.05)
            return


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="it finds the workers in /proc")
def test_kills_at_random_moments_lose_nothing_and_pay_nothing_twice(shell: Shell, server: ModelServer) -> None:
    number, chance = PROMPTS_A_KILL * KILLS, random.Random(7)
    write_prompts(shell, number)
    for _ in range(KILLS):
        running = shell.start(*COMMAND)
        wait_for(running, server, len(server.requests) + chance.randrange(PROMPTS_A_KILL))
        kill(running, server, chance)
        with running:
            running.communicate(timeout=LIMIT)

    assert shell.afk(*COMMAND).code in (0, 4)
    found = {row["id"]: row for row in rows(shell)}
    assert len(rows(shell)) == len(found) == number, "each prompt has one row"
    assert {row["state"] for row in found.values()} <= {"done", "parked"}
    for id_, row in found.items():
        assert row["state"] == "parked" or row["text"] == f"answer to ask {id_[1:]}"
    asked = Counter(map(said, server.requests))
    assert not [text for text, count in asked.items() if count > 1], "a prompt was asked twice"
    parked = {f"ask {id_[1:]}" for id_, row in found.items() if row["state"] == "parked"}
    assert len(parked) <= KILLS * AT_ONCE
    assert set(asked) | parked == {f"ask {n}" for n in range(number)}, "what is done was asked"

    assert shell.afk(*COMMAND, "--retry-parked").code == 0
    assert {row["state"] for row in rows(shell)} == {"done"}
    assert len(rows(shell)) == number
    again = Counter(map(said, server.requests))
    assert {text for text, count in again.items() if count > 1} <= parked
    assert max(again.values()) <= 2


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="it finds the workers in /proc")
def test_ctrl_c_while_the_workers_are_started_stops_the_batch_and_parks_nothing(
    shell: Shell, server: ModelServer
) -> None:
    write_prompts(shell, 200)
    for _ in range(3):
        running = shell.start(*COMMAND, start_new_session=True)
        while running.poll() is None and not children(running.pid):
            pass
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to the workers, too
        with running:
            _, err = running.communicate(timeout=LIMIT)
        assert running.returncode == -signal.SIGINT, err
        assert b"stopping" in err
        assert b"parked" not in err
    assert len(server.requests) < 200
    assert {row["state"] for row in rows(shell)} <= {"done"}


def test_a_batch_that_was_asleep_goes_on(shell: Shell, server: ModelServer) -> None:
    """As a laptop that is closed: all processes are stopped in mid-request, and continue later."""
    write_prompts(shell, 60)
    running = shell.start(*COMMAND)
    wait_for(running, server, 10)
    stopped = [running.pid, *children(running.pid)]
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in stopped:
            with suppress(ProcessLookupError):  # on a busy machine the batch may be over before
                os.kill(pid, number)
    with running:
        _, err = running.communicate(timeout=LIMIT)
    assert running.returncode == 0, err
    assert Counter(map(said, server.requests)) == Counter(f"ask {n}" for n in range(60))
    assert {row["state"] for row in rows(shell)} == {"done"}


def test_a_sleep_that_is_longer_than_all_timeouts_sends_nothing_again(shell: Shell) -> None:
    config = shell.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[providers.openai]\nfirst_byte_timeout = 3\nidle_timeout = 3\nconnect_timeout = 3\n")
    config.chmod(0o600)
    answers = threading.Event()

    def answer(request: RecordedRequest) -> Step:
        answers.wait(LIMIT)
        return Step(text=["yes"] * 3)

    with ModelServer(answer=answer) as server:
        shell.env.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="none", AFK_MODEL="openai/gpt-5.2-mini")
        write_prompts(shell, 40)
        running = shell.start(*COMMAND)
        wait_for(running, server, AT_ONCE)
        stopped = [running.pid, *children(running.pid)]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        answers.set()
        time.sleep(5)  # longer than the timeouts, by which nothing is proven: without them the test passes
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        with running:
            _, err = running.communicate(timeout=LIMIT)
        assert running.returncode == 0, err
        assert Counter(map(said, server.requests)) == Counter(f"ask {n}" for n in range(40))
    assert {row["state"] for row in rows(shell)} == {"done"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB, which only root can mount; CI is root."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all room of a file system, and return the file that has it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


@pytest.mark.parametrize("what", ["state", "results"])
def test_a_full_disk_stops_the_batch_and_everything_is_kept(
    shell: Shell, server: ModelServer, small_disk: Path, what: str
) -> None:
    write_prompts(shell, 400)
    results = small_disk / "results.jsonl" if what == "results" else shell.folder / "results.jsonl"
    if what == "state":
        shell.env["AFK_HOME"] = str(small_disk / "afk")
    command = [str(results) if word == "results.jsonl" else word for word in COMMAND]
    running = shell.start(*command)
    wait_for(running, server, 30)
    filler = fill(small_disk)
    with running:
        _, err = running.communicate(timeout=LIMIT)
    assert running.returncode == 4, err
    assert b"stopped early: " in err
    assert (b"disk is full" if what == "state" else b"results.jsonl cannot be written: No space left") in err
    assert len(server.requests) < 400
    filler.unlink()
    assert shell.afk(*command).code == 0
    found = [json.loads(line) for line in results.read_bytes().splitlines()]
    assert Counter(row["state"] for row in found) == {"done": 400}
    assert Counter(map(said, server.requests)) == Counter(f"ask {n}" for n in range(400)), "each was asked once"
