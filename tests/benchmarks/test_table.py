"""The arithmetic of the table, and what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.bench import CASES, PEERS_OF_CASES, Bench, benchmark
from benchmarks.cases import shares
from benchmarks.measure import Measured, interleaved
from benchmarks.peers.installing import PEERS, Installed
from benchmarks.report import Row, as_json, as_text, compare
from benchmarks.server import BenchmarkServer
from tests.faults.world import wait_until

REPOSITORY = Path(__file__).parents[2]
NOTHING = Measured(wall=0, to_request=0, cpu_to_request=0, after_request=0, after_first=0, cpu=0, peak=0)


def test_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_the_medians() -> None:
    row = compare("case", "other", "ms", [10, 20, 90], [10, 40, 30])
    assert (row.mine, row.other) == (20, 30)
    assert row.ratio == 1
    assert (row.low, row.high) == (0.5, 3)


def test_quartiles_leave_out_a_quarter_of_the_rounds_on_each_side() -> None:
    row = compare("case", "other", "ms", [8, 1, 7, 2, 6, 3, 5, 4], [1] * 8)
    assert (row.low, row.ratio, row.high) == (3, 4.5, 6)


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (compare("c", "o", "ms", [110], [100], goal=1.1), True),
        (compare("c", "o", "ms", [111], [100], goal=1.1), False),
        (compare("c", "o", "/s", [600], [100], goal=6, more_is_better=True), True),
        (compare("c", "o", "/s", [599], [100], goal=6, more_is_better=True), False),
        (compare("c", "o", "ms", [90, 104, 105, 106], [100] * 4, no_change=True), False),
        (compare("c", "o", "ms", [90, 99, 105, 106], [100] * 4, no_change=True), True),
        (compare("c", "o", "ms", [50] * 4, [100] * 4, no_change=True), True),
        (compare("c", "o", "ms", [500], [100]), None),
        (Row(case="c", against="o", unit="ms", goal=1), None),
    ],
)
def test_goal_is_met_up_to_its_limit(row: Row, met: bool | None) -> None:
    assert row.met is met


def test_shares_of_log_and_store_are_what_each_adds_to_the_turn() -> None:
    log, store = shares.shares_of_turn("", {"all": [0.1, 0.2], "no log": [0.09, 0.18], "neither": [0.07, 0.14]})
    assert (log.ratio, store.ratio) == (pytest.approx(0.1), pytest.approx(0.2))
    assert (log.mine, store.mine) == (pytest.approx(15), pytest.approx(30))


def test_sides_run_in_turn_and_the_first_round_does_not_count() -> None:
    order: list[str] = []

    def side(name: str) -> Measured:
        order.append(name)
        return NOTHING

    measured = interleaved({name: lambda name=name: side(name) for name in "abc"}, 2, lambda line: None)
    assert "".join(order) == "abcbcacab"
    assert {name: len(ones) for name, ones in measured.items()} == {"a": 2, "b": 2, "c": 2}


def test_peer_that_was_not_measured_is_a_row_with_the_reason(tmp_path: Path) -> None:
    peers = {"llm": "llm could not be installed: no disk"}
    with BenchmarkServer() as server:
        bench = Bench(server=server, folder=tmp_path, runs=1, say=print, peers=peers)
    row = bench.against_peer("a turn", "llm", "ms", [1.0], None, goal=1)
    assert row.met is None
    text = as_text([row], {"network": "none"})
    assert "not measured" in text
    assert "a turn, llm: llm could not be installed: no disk" in text
    assert text.startswith("network: none\n")
    assert json.loads(as_json([row], 1, {}))["rows"][0]["note"] == "llm could not be installed: no disk"


def test_peer_that_fails_is_a_row_with_the_reason(tmp_path: Path) -> None:
    program = tmp_path / "llm"
    program.write_text("#!/bin/sh\necho 'no such model' >&2\nexit 3\n")
    program.chmod(0o755)
    with BenchmarkServer() as server:
        bench = Bench(
            server=server,
            folder=tmp_path,
            runs=1,
            say=print,
            peers={"llm": Installed(program=program, version="1")},
        )
        assert bench.peer_sides(bench.home("home"), ["llm"]) == {}
    row = bench.against_peer("a turn", "llm", "ms", [1.0], None)
    assert "exit code 3: no such model" in row.note


@pytest.mark.parametrize("value", [0.00412, 0.5, 12.34, 1234.5])
def test_small_figures_keep_their_digits(value: float) -> None:
    text = as_text([compare("c", "o", "ms", [value], [value])], {})
    assert {0.00412: "0.00412 ms", 0.5: "0.5 ms", 12.34: "12.3 ms", 1234.5: "1,234 ms"}[value] in text


def test_every_case_names_peers_that_can_be_installed() -> None:
    assert set(PEERS_OF_CASES) == set(CASES)
    assert {peer for peers in PEERS_OF_CASES.values() for peer in peers} <= set(PEERS)


def test_second_case_of_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="two cases are named 'start'"):
        benchmark("start")(lambda bench: [])


def test_command_measures_what_it_can_and_fails_the_check_for_what_it_cannot() -> None:
    command = [sys.executable, "-m", "benchmarks", "short", "--runs", "1", "--no-peers", "--json", "--check"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 1, done.stderr
    table = json.loads(done.stdout)
    assert table["conditions"]["llm"] == "left out with --no-peers"
    assert table["conditions"]["network"]
    by_peer = {row["against"]: row for row in table["rows"]}
    assert set(by_peer) == {"llm", "codex exec", "claude -p"}
    assert by_peer["llm"]["met"] is None
    assert by_peer["llm"]["note"] == "left out with --no-peers"


def test_unknown_case_is_refused_with_the_names_of_all() -> None:
    command = [sys.executable, "-m", "benchmarks", "nothing"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2
    assert "there is no case 'nothing'" in done.stderr
    assert all(name in done.stderr for name in CASES)


def test_stopped_benchmark_ends_what_it_measures_and_removes_its_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "growth", "--runs", "1000", "--no-peers"]
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"growth: round 0 of 1000\n"
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
    assert process.returncode == 128 + signal.SIGTERM
    assert list(tmp_path.glob("afk-benchmarks-*")) == []
    assert wait_until(lambda: not _processes_with(tmp_path)), _processes_with(tmp_path)


def _processes_with(folder: Path) -> list[Path]:
    """Return the processes whose environment names the folder; one that was killed is there for a moment."""
    return [file.parent for file in Path("/proc").glob("[0-9]*/environ") if str(folder).encode() in _read(file)]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # it ended meanwhile
        return b""
