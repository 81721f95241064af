"""`afk replay`: the runs of a log as they were shown, and `afk events tail --type`."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from afkcli.testing.model_server import ModelServer, ScriptedCall, Step
from tests.commands.conftest import on_terminal
from tests.e2e.shell import Shell


@pytest.fixture
def logged(keyed: Shell, server: ModelServer, tmp_path: Path) -> Path:
    """A file with the events of two runs: a plain answer, and one with reasoning in two steps."""
    server.script(
        Step(text=["one ", "two"]),
        Step(reasoning=["hm"], text="first ", tool_calls=[ScriptedCall(name="none", arguments={})]),
        Step(text="last"),
    )
    runs = [keyed.in_process("run", "--json", "-t", name, f"ask {name}") for name in ("a", "b")]
    assert [run.code for run in runs] == [0, 0]
    file = tmp_path / "log.jsonl"
    file.write_text("".join(run.out for run in runs))
    return file


def test_the_answers_are_on_stdout_as_they_were(keyed: Shell, server: ModelServer, logged: Path) -> None:
    asked = len(server.bodies)
    done = keyed.in_process("replay", str(logged))
    assert (done.code, done.out) == (0, "one two\nfirst \nlast\n")
    assert "a, turn 1, " in done.err
    assert ": ask b\n" in done.err
    assert "tool none" in done.err
    assert len(server.bodies) == asked


def test_a_run_or_a_thread_is_chosen(keyed: Shell, logged: Path) -> None:
    assert keyed.in_process("replay", str(logged), "-t", "a").out == "one two\n"
    run_id = json.loads(logged.read_text().splitlines()[-1])["run_id"]
    assert keyed.in_process("replay", str(logged), "--run", run_id[-8:]).out == "first \nlast\n"
    nothing = keyed.in_process("replay", str(logged), "--run", "nope")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "afk: no run matches\n")


def test_an_empty_name_of_a_file_is_refused(keyed: Shell) -> None:
    done = keyed.in_process("replay", "")
    assert (done.code, done.out) == (2, "")
    assert done.err == "afk: the name of the file is empty; name an event log, or use - for stdin\n"


def test_only_the_last_step_or_the_reasoning_too(keyed: Shell, logged: Path) -> None:
    assert keyed.in_process("replay", str(logged), "-t", "b", "--final").out == "last\n"
    assert "hm" in keyed.in_process("replay", str(logged), "-t", "b", "--reasoning").err
    assert "hm" not in keyed.in_process("replay", str(logged), "-t", "b").err


def test_it_reads_stdin_and_runs_that_were_written_at_the_same_time(keyed: Shell, logged: Path) -> None:
    lines = logged.read_text().splitlines(keepends=True)
    half = next(number for number, line in enumerate(lines) if '"thread_id":"b"' in line)
    first, second = lines[:half], lines[half:]
    mixed = [first[0], *second[:2], *first[1:], *second[2:]]
    done = keyed.in_process("replay", "-", stdin="".join(mixed).encode())
    assert (done.code, done.out) == (0, "one two\nfirst \nlast\n")


def test_a_run_that_was_cut_shows_what_there_is(keyed: Shell, logged: Path) -> None:
    lines = [line for line in logged.read_text().splitlines(keepends=True) if '"thread_id":"a"' in line]
    done = keyed.in_process("replay", "-", stdin="".join(lines[:3]).encode())
    assert done.code == 0
    assert done.out.startswith("one ")


@pytest.mark.parametrize(
    "damage",
    [b"not json\n", b'{"v":1,"type":"later"}\n', b'{"v":9,"type":"completed"}\n', b"[1]\n", b'{"v":1,"ty', b"\xff\n"],
)
def test_what_is_no_event_is_counted_and_the_rest_is_shown(keyed: Shell, logged: Path, damage: bytes) -> None:
    done = keyed.in_process("replay", "-", stdin=damage + b"\n" + logged.read_bytes())
    assert (done.code, done.out) == (0, "one two\nfirst \nlast\n")
    assert "1 line(s) of - are not events that this afk knows, and were left out" in done.err


def test_a_run_whose_beginning_is_missing_has_a_head_of_its_own(keyed: Shell, logged: Path) -> None:
    lines = [line for line in logged.read_text().splitlines(keepends=True) if '"run_started"' not in line]
    done = keyed.in_process("replay", "-", stdin="".join(lines).encode())
    assert (done.code, done.out) == (0, "one two\nfirst \nlast\n")
    assert ["a, turn 1, " in done.err, "b, turn 1, " in done.err] == [True, True]


def test_ctrl_c_ends_it_while_it_waits_for_a_pipe(keyed: Shell, logged: Path) -> None:
    process = keyed.start("replay", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(logged.read_bytes())
    process.stdin.flush()
    assert process.stdout.readline() == b"one two\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == -signal.SIGINT


def test_a_file_that_is_not_there_or_empty(keyed: Shell, tmp_path: Path) -> None:
    missing = keyed.in_process("replay", str(tmp_path / "none"))
    assert (missing.code, missing.out) == (2, "")
    (tmp_path / "empty").write_text("")
    assert "there is no run in" in keyed.in_process("replay", str(tmp_path / "empty")).err


def test_a_closed_pipe_ends_it_by_sigpipe(keyed: Shell, logged: Path) -> None:
    process = keyed.start("replay", str(logged))
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) in (0, -signal.SIGPIPE)  # 0 if all was written before
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()


def test_control_characters_in_a_log_reach_no_terminal(keyed: Shell, logged: Path) -> None:
    evil = logged.read_text().replace("one ", "\\u001b[2Jone ")
    logged.write_text(evil)
    code, seen = on_terminal(keyed, "replay", str(logged), "-t", "a", NO_COLOR="1")
    assert code == 0
    assert "\x1b[2J" not in seen
    assert "␛[2Jone" in seen


def test_the_tail_of_the_log_shows_chosen_types(keyed: Shell, logged: Path) -> None:
    done = keyed.in_process("events", "tail", "--json", "-n", "50", "--type", "run_started", "--type", "completed")
    assert [event["type"] for event in done.events] == ["run_started", "completed"] * 2
    wrong = keyed.in_process("events", "tail", "--type", "complete")
    assert (wrong.code, wrong.err) == (2, "afk: there is no event of the type 'complete'; did you mean 'completed'?\n")
