"""The commands of docs/how-to/event-log.md say of a log of real runs what its events say."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import REPOSITORY, blocks
from tests.e2e.shell import AFK, LIMIT, Shell, wait_for_output
from tests.made_log import made_log

PAGE = REPOSITORY / "docs" / "how-to" / "event-log.md"
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
_, BY_MODEL, SLOWEST, NOT_COMPLETED, QUESTIONS, TOKENS, NOW, *IN_DUCKDB = [
    block.text for block in blocks(PAGE) if block.language == "sh"
]

Event = dict[str, Any]
needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
needs_duckdb = pytest.mark.skipif(
    shutil.which("duckdb", path=PATH) is None, reason="there is no duckdb for this system"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell with a log, which is where the page says."""
    home = tmp_path_factory.mktemp("home")
    shell = made_log(home, tmp_path_factory.mktemp("work"))
    (home / ".local" / "state").mkdir(parents=True)
    (home / ".local" / "state" / "afk").symlink_to(home / "afk" / "state")
    return shell


@pytest.fixture
def run(made: Shell) -> Callable[[str], list[list[str]]]:
    """What runs a block, and returns the cells of what it wrote."""

    def run_block(text: str) -> list[list[str]]:
        command = text.replace("duckdb -c", "duckdb -csv -c")  # the same rows, without a frame
        done = subprocess.run(
            ["bash", "-c", f"set -eo pipefail\n{command}"],
            cwd=made.folder,
            env=made.environment(PATH=PATH),
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        if "duckdb" not in command:
            return [line.split("\t") for line in done.stdout.splitlines()]
        return list(csv.reader(done.stdout.splitlines() or (made.folder / "tokens.csv").read_text().splitlines()))

    return run_block


def of_type(made: Shell, name: str) -> list[Event]:
    return [event for event in made.log() if event["type"] == name]


def costs(made: Shell) -> dict[tuple[str, str], tuple[int, float]]:
    found: dict[tuple[str, str], tuple[int, float]] = {}
    for event in of_type(made, "completed"):
        key = (event["ts"][:10], event["result"]["model"])
        runs, usd = found.get(key, (0, 0.0))
        found[key] = (runs + 1, usd + (event["result"]["total_cost_usd"] or 0.0))
    assert len({model for _, model in found}) == 2
    return found


@needs_jq
class TestJq:
    def test_cost_by_day_and_model(self, made: Shell, run: Callable[[str], list[list[str]]]) -> None:
        rows = {(day, model): (int(runs), float(usd)) for day, model, runs, usd in run(BY_MODEL)}
        assert rows.keys() == costs(made).keys()
        for key, (runs, usd) in costs(made).items():
            assert rows[key] == (runs, pytest.approx(usd))

    def test_slowest_tool_calls(self, made: Shell, run: Callable[[str], list[list[str]]]) -> None:
        rows = run(SLOWEST)
        calls = of_type(made, "tool_completed")
        assert len(rows) == len(calls) == 4
        assert [int(row[0]) for row in rows] == sorted((event["latency_ms"] for event in calls), reverse=True)
        assert {(row[1], row[2]) for row in rows} == {("garden.look", "garden"), ("garden.dig", "garden")}

    def test_runs_that_did_not_complete(self, made: Shell, run: Callable[[str], list[list[str]]]) -> None:
        failed = [event for event in of_type(made, "completed") if event["result"]["state"] != "completed"]
        rows = run(NOT_COMPLETED)
        assert [row[3] for row in rows] == [event["result"]["reason"] for event in failed] == ["truncated", "auth"]
        assert "wrong key" in rows[1][4]

    def test_questions_of_a_thread(self, run: Callable[[str], list[list[str]]]) -> None:
        assert run(QUESTIONS) == [["1", "Look at the beds."], ["2", "And this?"]]

    def test_tokens_of_each_thread(self, made: Shell, run: Callable[[str], list[list[str]]]) -> None:
        tokens: Counter[str] = Counter()
        for event in of_type(made, "completed"):
            tokens[event["thread_id"]] += event["result"]["usage"]["total_tokens"]
        rows = [(name, int(count)) for name, count in run(TOKENS)]
        assert dict(rows) == tokens
        assert [count for _, count in rows] == sorted(tokens.values(), reverse=True)

    def test_what_happens_now(self, made: Shell) -> None:
        environment = made.environment(PATH=os.pathsep.join([str(AFK.parent), PATH]))
        process = subprocess.Popen(
            ["bash", "-c", NOW], cwd=made.folder, env=environment, stdout=subprocess.PIPE, start_new_session=True
        )
        seen = wait_for_output(process, b"Free.")
        assert b"late\tcompleted\tFree." in seen
        assert b"late\tauth\t" in seen
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=LIMIT)
        assert process.returncode in (130, -signal.SIGINT)


@needs_duckdb
class TestDuckdb:
    def test_cost_by_day_and_model(self, made: Shell, run: Callable[[str], list[list[str]]]) -> None:
        head, *rows = run(IN_DUCKDB[0])
        assert head == ["day", "model", "runs", "usd"]
        found = {(day, model): (int(runs), float(usd or 0)) for day, model, runs, usd in rows if usd != "NULL"}
        for key, (runs, usd) in costs(made).items():
            if usd:
                assert found[key] == (runs, pytest.approx(usd))
        assert len(rows) == len(costs(made))

    def test_how_long_tools_take(self, made: Shell, run: Callable[[str], list[list[str]]]) -> None:
        [_, dig, look] = run(IN_DUCKDB[1])
        longest = max(event["latency_ms"] for event in of_type(made, "tool_completed") if "look" in event["tool_name"])
        assert dig[:3] == ["garden.dig", "1", "1"]
        assert (look[:3], look[4]) == (["garden.look", "3", "2"], str(longest))

    def test_runs_that_did_not_complete(self, run: Callable[[str], list[list[str]]]) -> None:
        [_, *rows] = run(IN_DUCKDB[2])
        assert [row[:3] for row in rows] == [["failed", "auth", "1"], ["failed", "truncated", "1"]]

    def test_tokens_of_each_thread(self, made: Shell, run: Callable[[str], list[list[str]]]) -> None:
        [_, *rows] = run(IN_DUCKDB[3])
        usages: dict[str, Counter[str]] = {}
        for event in of_type(made, "completed"):
            counts = {name: count for name, count in event["result"]["usage"].items() if name != "unknown"}
            usages.setdefault(event["thread_id"], Counter()).update(counts)
        names = ("input_tokens", "cache_read_input_tokens", "output_tokens")
        assert rows == [[thread, *(str(usages[thread][name]) for name in names)] for thread in sorted(usages)]
        assert usages["garden"]["cache_read_input_tokens"] == 4
