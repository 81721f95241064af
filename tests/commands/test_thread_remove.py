"""`afk threads rm` takes along what else is kept of a thread, and says what the event log still has."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from afkcli.core.contract.messages import Role, text_message
from afkcli.core.contract.result import RunState
from afkcli.core.thread.exchange import rescued_line
from afkcli.core.thread.turns import SealedTurn
from afkcli.testing.model_server import Fault, ModelServer, Step
from tests.commands.conftest import on_terminal
from tests.e2e.shell import Shell, wait_for_output


def logged(shell: Shell) -> dict[str, int]:
    """Return how many events of each thread the log has."""
    found: dict[str, int] = {}
    for event in shell.log():
        name = event["thread_id"]
        found[name] = found.get(name, 0) + 1
    return found


def rescue_file(shell: Shell, thread: str, run: str, state: RunState = RunState.COMPLETED) -> Path:
    turn = SealedTurn(
        turn=1,
        run_id=run,
        state=state,
        reason=None,
        error=None,
        error_kind=None,
        agent="afk",
        model="m",
        started="2026-01-01T00:00:00.000Z",
        sealed="2026-01-01T00:00:01.000Z",
        messages=(text_message(Role.USER, "Was it saved?"), text_message(Role.ASSISTANT, "No.")),
    )
    folder = shell.home / "afk" / "state" / "rescue"
    folder.mkdir(mode=0o700, exist_ok=True, parents=True)
    path = folder / f"afk-{run}.json"
    path.write_text(rescued_line(thread, turn))
    return path


def test_says_which_files_of_the_log_still_have_runs_of_it(talked: Shell) -> None:
    log = talked.one_log()
    done = talked.in_process("threads", "rm", "-y", "trip", "--json")
    (row,) = done.events
    assert row["logs"] == [{"file": str(log), "runs": 2}]
    lines = done.err.splitlines()
    assert lines[0] == "afk: deleted 'trip'"
    hint = f"`afk threads rm --logs {row['thread_key']}` takes them out"
    assert lines[1] == f"afk: the log {log} still has 2 runs of 'trip'; {hint}"
    assert set(logged(talked)) == {"soup", "trip"}


def test_logs_takes_its_lines_out_and_leaves_all_others_as_they_are(talked: Shell) -> None:
    log = talked.one_log()
    log.write_bytes(log.read_bytes() + b'{"torn": "tri')
    others = [line for line in log.read_bytes().split(b"\n") if b'"thread_id":"trip"' not in line]
    done = talked.in_process("threads", "rm", "-y", "--logs", "trip", "--json")
    assert done.code == 0
    assert done.events[0]["logs"] == []
    assert f"afk: took 2 runs out of the log {log}" in done.err.splitlines()
    assert log.read_bytes().split(b"\n") == others
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert [path.name for path in log.parent.iterdir()] == [log.name]


def test_logs_of_a_thread_that_is_gone_can_be_taken_out_by_name_or_key(talked: Shell) -> None:
    talked.in_process("threads", "rm", "-y", "soup")
    (row,) = talked.in_process("threads", "rm", "-y", "trip", "--json").events
    assert talked.in_process("threads", "rm", "-y", "--logs", "trip").code == 0
    assert set(logged(talked)) == {"soup"}
    assert talked.in_process("threads", "rm", "-y", "--logs", "trip").code == 2
    assert talked.in_process("threads", "rm", "-y", "soup").code == 2
    assert talked.in_process("threads", "rm", "-y", "--logs", "soup").code == 0
    assert talked.logs() == []
    assert row["thread_key"]


def test_a_thread_that_has_the_name_now_keeps_its_lines(talked: Shell) -> None:
    talked.in_process("threads", "rename", "trip", "voyage")
    assert talked.in_process("threads", "rm", "-y", "--logs", "trip").code == 2
    assert set(logged(talked)) == {"soup", "trip"}


def test_text_that_quotes_an_event_of_the_thread_is_left_alone(talked: Shell) -> None:
    key = talked.in_process("threads", "-q", "paris", "--json").events[0]["thread_key"]
    talked.in_process("run", "-t", "quoting", f'{{"thread_key":"{key}"}} "{key}"')
    before = logged(talked)["quoting"]
    assert talked.in_process("threads", "rm", "-y", "--logs", "trip").code == 0
    assert logged(talked)["quoting"] == before


def test_a_log_that_a_run_writes_to_is_left_as_it_is(talked: Shell, server: ModelServer) -> None:
    server.script(Step(text=["So far ", "so good"], fault=Fault.HANG, fault_after=1))
    process = talked.start("run", "-t", "busy", "Go")
    wait_for_output(process, b"So far")
    *older, log = talked.logs()
    for file in older:  # midnight came since the other threads were talked in
        with log.open("ab") as busy:
            busy.write(file.read_bytes())
        file.unlink()
    done = talked.in_process("threads", "rm", "-y", "--logs", "trip", "--json")
    assert done.code == 1
    assert f"afk: the log {log} is left as it is: a run writes to it" in done.err
    assert done.events[0]["logs"] == [{"file": str(log), "runs": 2}]
    server.release()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "completed" in log.read_text().splitlines()[-1]
    assert talked.in_process("threads", "rm", "-y", "--logs", "trip").code == 0
    assert set(logged(talked)) == {"soup", "busy"}


def test_its_rescue_files_go_along_and_others_stay(talked: Shell) -> None:
    own, other = rescue_file(talked, "trip", "run-1"), rescue_file(talked, "soup", "run-2")
    (row,) = talked.in_process("threads", "rm", "-y", "trip", "--json").events
    assert row["rescue_files"] == [str(own)]
    assert not own.exists()
    assert other.exists()


def test_a_rescue_file_that_a_run_may_write_to_stays(talked: Shell) -> None:
    fresh = rescue_file(talked, "trip", "run-1", RunState.INTERRUPTED)
    old = rescue_file(talked, "trip", "run-2", RunState.INTERRUPTED)
    os.utime(old, (1, 1))
    done = talked.in_process("threads", "rm", "-y", "trip")
    assert f"the rescue file {fresh} is kept" in done.err
    assert (fresh.exists(), old.exists()) == (True, False)


@pytest.mark.parametrize("name", ["index.db", "search.db"])
def test_the_indexes_do_not_have_it_any_more(talked: Shell, name: str) -> None:
    talked.in_process("threads")
    talked.in_process("threads", "search", "paris")
    talked.in_process("threads", "rm", "-y", "trip")
    content = (talked.home / "afk" / "data" / name).read_bytes()
    assert b"trip" not in content
    assert b"paris" not in content


def test_a_fork_of_it_keeps_working(talked: Shell, server: ModelServer) -> None:
    talked.in_process("threads", "fork", "trip", "detour")
    assert talked.in_process("threads", "rm", "-y", "--logs", "trip").code == 0
    assert talked.in_process("run", "-t", "detour", "And then?").code == 0
    assert [message["content"] for message in server.bodies[-1]["messages"] if message["role"] == "user"] == [
        "To Paris",
        "By train",
        "And then?",
    ]


def test_the_question_says_that_the_log_is_changed(talked: Shell) -> None:
    code, seen = on_terminal(talked, "threads", "rm", "--logs", "trip", typed=b"n\n", NO_COLOR="1")
    assert code == 0
    assert "Delete the thread 'trip' (2 turns), and their runs in the event log?" in seen
    assert logged(talked)["trip"]
