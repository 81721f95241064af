"""`afk batch run`: a file of prompts becomes a file of results, once, whatever stops it in between."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from afkcli.testing.model_script import Fault, ScriptedUsage, Step
from afkcli.testing.model_server import ModelServer, RecordedRequest
from tests.e2e.shell import AFK, LIMIT, Shell

RUN = ("batch", "run", "prompts.jsonl", "-o", "results.jsonl")


def said(request: RecordedRequest) -> str:
    """Return the text of the last message of a request."""
    return str(request.body["messages"][-1]["content"])


def write_prompts(shell: Shell, number: int, name: str = "prompts.jsonl", **more: Any) -> None:
    lines = [json.dumps({"id": f"p{n}", "message": f"ask {n}", **more}) for n in range(number)]
    (shell.folder / name).write_text("".join(f"{line}\n" for line in lines))


def rows(shell: Shell, name: str = "results.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (shell.folder / name).read_text().splitlines()]


def states(shell: Shell, name: str = "results.jsonl") -> dict[str, str]:
    found = [(row["id"], row["state"]) for row in rows(shell, name)]
    assert len(dict(found)) == len(found), "a prompt has two rows"
    return dict(found)


@contextmanager
def serving(shell: Shell, answer: Callable[[RecordedRequest], Step]) -> Iterator[ModelServer]:
    with ModelServer(answer=answer) as server:
        shell.env.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-canary-0123456789")
        shell.env["AFK_MODEL"] = "openai/gpt-5.2-mini"
        yield server


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Return the exit code of a process and what it said, once it has ended."""
    with process:
        _, err = process.communicate(timeout=LIMIT)
    return process.returncode, err.decode()


# -- a whole batch -----------------------------------------------------------------------------------------------------


def test_each_prompt_gets_a_row_and_the_same_command_asks_nothing_again(keyed: Shell, server: ModelServer) -> None:
    write_prompts(keyed, 30)

    first = keyed.afk(*RUN)
    assert first.code == 0, first.err
    assert first.out == ""
    assert "30 done; the results are in results.jsonl" in first.err
    found = {row["id"]: row for row in rows(keyed)}
    assert set(found) == {f"p{n}" for n in range(30)}
    assert all(row["state"] == "done" and row["text"].endswith(f"ask {id_[1:]}") for id_, row in found.items())
    assert all(row["usage"]["input_tokens"] == 12 and row["attempts"] == 1 for row in found.values())
    assert sorted(map(said, server.requests)) == sorted(f"ask {n}" for n in range(30))

    before = (keyed.folder / "results.jsonl").read_bytes()
    again = keyed.afk(*RUN)
    assert (again.code, len(server.requests)) == (0, 30)
    assert (keyed.folder / "results.jsonl").read_bytes() == before


def test_results_and_state_are_private_and_hold_no_key(keyed: Shell, server: ModelServer) -> None:
    write_prompts(keyed, 3)
    old = os.umask(0)
    try:
        assert keyed.afk(*RUN).code == 0
    finally:
        os.umask(old)
    kept = keyed.home / "afk" / "data" / "batches"
    files = [keyed.folder / "results.jsonl", *(path for path in kept.rglob("*") if path.is_file())]
    assert len(files) > 1
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert b"sk-canary" not in path.read_bytes(), path
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_do_no_harm(keyed: Shell, server: ModelServer, closed: str) -> None:
    """As cron jobs and services start programs."""
    write_prompts(keyed, 3)
    line = f"{AFK} {' '.join(RUN)} {closed}"
    environment = keyed.environment()
    done = subprocess.run(["sh", "-c", line], cwd=keyed.folder, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(states(keyed).values()) == {"done"}
    assert (b"3 done" in done.stderr) == ("2>" not in closed)


def test_no_thread_is_kept_without_threads_and_one_each_with_it(keyed: Shell, server: ModelServer) -> None:
    write_prompts(keyed, 3)
    assert keyed.afk(*RUN).code == 0
    assert keyed.afk("threads", "--json").out == ""
    assert all(row["thread"] is None for row in rows(keyed))
    assert keyed.afk("batch", "run", "prompts.jsonl", "-o", "kept.jsonl", "--threads").code == 0
    names = {json.loads(line)["thread_id"] for line in keyed.afk("threads", "--json").out.splitlines()}
    assert names == {row["thread"] for row in rows(keyed, "kept.jsonl")}
    assert len(names) == 3


def test_the_log_has_one_record_a_prompt(keyed: Shell, server: ModelServer) -> None:
    write_prompts(keyed, 5)
    assert keyed.afk(*RUN).code == 0
    log = keyed.log()
    assert [event["type"] for event in log] == ["completed"] * 5
    assert {event["result"]["run_id"] for event in log} == {row["run_id"] for row in rows(keyed)}
    assert keyed.afk("events", "tail").code == 0
    (keyed.folder / "log.jsonl").write_text("\n".join(map(json.dumps, log)))
    assert keyed.afk("replay", "log.jsonl").code == 0


def test_ordered_results_come_in_the_order_of_the_prompts(shell: Shell) -> None:
    def answer(request: RecordedRequest) -> Step:
        return Step(delay_first=0.5 if said(request) in ("ask 0", "ask 7") else 0.0)

    write_prompts(shell, 20)
    with serving(shell, answer):
        assert shell.afk(*RUN, "--ordered").code == 0
        assert [row["id"] for row in rows(shell)] == [f"p{n}" for n in range(20)]
        write_prompts(shell, 25)
        assert shell.afk(*RUN, "--ordered").code == 0
    assert [row["id"] for row in rows(shell)] == [f"p{n}" for n in range(25)]


def test_a_failed_prompt_leaves_the_others_and_ends_with_code_4(shell: Shell) -> None:
    def answer(request: RecordedRequest) -> Step:
        return Step(status=400, body={"error": {"message": "no such thing"}}) if said(request) == "ask 3" else Step()

    write_prompts(shell, 6)
    with serving(shell, answer) as server:
        done = shell.afk(*RUN)
        assert done.code == 4, done.err
        assert "5 done, 1 failed" in done.err
        found = {row["id"]: row for row in rows(shell)}
        assert found["p3"]["state"] == "failed"
        assert found["p3"]["error"]["status"] == 400
        assert "no such thing" in found["p3"]["error"]["message"]
        assert shell.afk(*RUN).code == 4
        assert len(server.requests) == 6, "what failed is not asked again by itself"


def test_max_errors_stops_the_batch(shell: Shell) -> None:
    write_prompts(shell, 60)
    with serving(shell, lambda request: Step(status=400, body={"error": {"message": "no"}})) as server:
        done = shell.afk(*RUN, "--max-errors", "3", "--concurrency", "2")
        assert done.code == 4
        assert "(--max-errors 3)" in done.err
        assert 3 <= len(server.requests) < 60
        assert set(states(shell).values()) == {"failed"}


def test_a_prompt_that_takes_longer_than_the_timeout_fails_alone(shell: Shell) -> None:
    def answer(request: RecordedRequest) -> Step:
        return Step(text=["one ", "two"], fault=Fault.HANG, fault_after=1) if said(request) == "ask 1" else Step()

    write_prompts(shell, 3)
    with serving(shell, answer):
        assert shell.afk(*RUN, "--timeout", "5").code == 4
    found = {row["id"]: row for row in rows(shell)}
    assert {id_: row["state"] for id_, row in found.items()} == {"p0": "done", "p1": "failed", "p2": "done"}
    assert found["p1"]["error"]["kind"] == "max_wall_time_s"
    assert found["p1"]["text"] == "one "


# -- what a batch is ---------------------------------------------------------------------------------------------------


def test_the_same_prompts_to_another_file_are_a_new_batch(keyed: Shell, server: ModelServer) -> None:
    write_prompts(keyed, 4)
    assert keyed.afk(*RUN).code == 0
    assert keyed.afk("batch", "run", "prompts.jsonl", "-o", "other.jsonl").code == 0
    assert len(server.requests) == 8
    assert states(keyed) == states(keyed, "other.jsonl")


def test_a_link_to_the_results_is_the_same_batch(keyed: Shell, server: ModelServer) -> None:
    write_prompts(keyed, 4)
    assert keyed.afk(*RUN).code == 0
    (keyed.folder / "link.jsonl").symlink_to("results.jsonl")
    assert keyed.afk("batch", "run", "prompts.jsonl", "-o", "link.jsonl").code == 0
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "contents", ['{"id": "x", "state": "done"}\n', '{"id": "p0", "state": "done", "attempts": 1}\n', "notes\n", "x"]
)
def test_a_file_with_contents_that_are_not_of_the_batch_is_refused_and_left_as_it_is(
    keyed: Shell, server: ModelServer, contents: str
) -> None:
    write_prompts(keyed, 2)
    (keyed.folder / "results.jsonl").write_text(contents)
    done = keyed.afk(*RUN)
    assert done.code == 2
    assert "has contents that are not of this batch" in done.err
    assert (keyed.folder / "results.jsonl").read_text() == contents
    assert server.requests == []


def test_the_results_of_a_named_batch_are_refused_to_another_name(keyed: Shell, server: ModelServer) -> None:
    write_prompts(keyed, 2)
    assert keyed.afk(*RUN, "--batch", "one").code == 0
    assert keyed.afk(*RUN, "--batch", "one").code == 0
    other = keyed.afk(*RUN, "--batch", "two")
    assert other.code == 2, other.err
    assert len(server.requests) == 2


def test_a_changed_prompt_is_refused_or_asked_anew(keyed: Shell, server: ModelServer) -> None:
    write_prompts(keyed, 3)
    assert keyed.afk(*RUN).code == 0
    lines = (keyed.folder / "prompts.jsonl").read_text().replace("ask 1", "another 1")
    (keyed.folder / "prompts.jsonl").write_text(lines)
    before = (keyed.folder / "results.jsonl").read_bytes()

    refused = keyed.afk(*RUN)
    assert refused.code == 2
    assert "1 prompt has changed under the id of an earlier one: p1" in refused.err
    assert (keyed.folder / "results.jsonl").read_bytes() == before
    assert len(server.requests) == 3

    assert keyed.afk(*RUN, "--rerun-changed").code == 0
    assert [said(request) for request in server.requests[3:]] == ["another 1"]
    assert next(row for row in rows(keyed) if row["id"] == "p1")["text"].endswith("another 1")
    assert states(keyed) == {"p0": "done", "p1": "done", "p2": "done"}


@pytest.mark.parametrize("more", [("-m", "openai/another"), ("--instructions", "Be brief."), ("--option", "seed=3")])
def test_prompts_that_were_never_asked_are_asked_with_another_command_line(
    keyed: Shell, server: ModelServer, more: tuple[str, str]
) -> None:
    """What was asked is refused: it was paid with the old one."""
    write_prompts(keyed, 4)
    assert keyed.afk(*RUN, "--sample", "1").code == 0
    assert keyed.afk("batch", "retry", "results.jsonl", "--done").code == 0
    assert keyed.afk(*RUN, "--sample", "1", *more).code == 2, "it was asked before, and is queued again"
    assert keyed.afk(*RUN, "--rerun-changed", "--sample", "1", *more).code == 0
    assert keyed.afk(*RUN, *more).code == 0
    assert len(server.requests) == 5


def test_a_batch_that_was_stopped_before_its_first_request_takes_another_model(shell: Shell) -> None:
    write_prompts(shell, 3)
    with serving(shell, lambda request: Step()) as server:
        shell.env["AFK_MODEL"] = "openai/no-price"
        assert shell.afk(*RUN, "--max-cost", "1").code == 4
        assert shell.afk(*RUN, "-m", "openai/gpt-5.2-mini").code == 0
        assert {request.body["model"] for request in server.requests} == {"gpt-5.2-mini"}
        assert set(states(shell).values()) == {"done"}


def test_another_limit_of_the_answers_is_no_other_prompt(keyed: Shell, server: ModelServer) -> None:
    write_prompts(keyed, 3)
    assert keyed.afk(*RUN, "--sample", "1").code == 0
    assert keyed.afk(*RUN, "--option", "max_output_tokens=50").code == 0
    assert len(server.requests) == 3


def test_a_wrong_line_refuses_the_whole_file_before_anything_is_asked(keyed: Shell, server: ModelServer) -> None:
    write_prompts(keyed, 3)
    with (keyed.folder / "prompts.jsonl").open("a") as file:
        file.write('{"id": "p1", "message": "twice"}\n')
    done = keyed.afk(*RUN)
    assert done.code == 2
    assert "prompts.jsonl, line 4" in done.err
    assert server.requests == []
    write_prompts(keyed, 3)
    assert keyed.afk(*RUN).code == 0


@pytest.mark.parametrize("torn", [b'{"v":1,"id":"p4","sta', b"{", b'{"v":1,"id":"p1","state":"done"}'])
def test_a_torn_last_line_is_repaired(keyed: Shell, server: ModelServer, torn: bytes) -> None:
    write_prompts(keyed, 5)
    assert keyed.afk(*RUN).code == 0
    whole = (keyed.folder / "results.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    (keyed.folder / "results.jsonl").write_bytes(b"".join(lines[:3]) + torn)
    assert keyed.afk(*RUN).code == 0
    assert sorted((keyed.folder / "results.jsonl").read_bytes().splitlines()) == sorted(whole.splitlines())
    (keyed.folder / "results.jsonl").unlink()
    assert keyed.afk(*RUN).code == 0
    assert sorted((keyed.folder / "results.jsonl").read_bytes().splitlines()) == sorted(whole.splitlines())
    assert len(server.requests) == 5


def test_results_that_are_deleted_or_cut_while_the_batch_runs_are_written_again(shell: Shell) -> None:
    results = shell.folder / "results.jsonl"
    harmed, harmless = threading.Event(), [0]

    def answer(request: RecordedRequest) -> Step:
        """Hold the last prompts back until the file is harmed."""
        if int(said(request).split()[1]) >= harmless[0]:
            harmed.wait(LIMIT)
        return Step()

    def harmed_by(number: int, harm: Callable[[], object]) -> tuple[int, str]:
        """Run a batch of so many prompts, the file of whose results is harmed meanwhile; return how it ended."""
        write_prompts(shell, number)
        harmed.clear()
        harmless[0] = number - 4
        running = shell.start(*RUN, "--concurrency", "2")
        server.wait_for_requests(number - 2, LIMIT)
        harm()
        harmed.set()
        return ended(running)

    with serving(shell, answer) as server:
        for number, harm in ((12, results.unlink), (24, lambda: results.write_text(""))):
            code, err = harmed_by(number, harm)
            assert code == 0, err
            assert states(shell) == {f"p{n}": "done" for n in range(number)}
        code, err = harmed_by(36, lambda: (results.unlink(), results.mkdir()))
        assert (code, "results.jsonl cannot be written" in err) == (4, True), err
        results.rmdir()
        assert shell.afk(*RUN).code == 0
        assert len(states(shell)) == len(server.requests) == 36


@pytest.mark.parametrize("harm", ["note", "other"])
def test_results_to_what_is_not_a_file_are_refused_before_anything_is_asked(
    keyed: Shell, server: ModelServer, harm: str
) -> None:
    results = keyed.folder / "results.jsonl"
    write_prompts(keyed, 3)
    assert keyed.afk(*RUN).code == 0
    whole = results.read_bytes()
    if harm == "note":
        results.write_bytes(whole + b"a note\n")
    else:
        assert keyed.afk("batch", "run", "prompts.jsonl", "-o", "other.jsonl").code == 0
        (keyed.folder / "other.jsonl").replace(results)
    asked = len(server.requests)
    write_prompts(keyed, 40)
    before = results.read_bytes()
    done = keyed.afk(*RUN)
    assert done.code == 2, done.err
    assert len(server.requests) == asked
    assert results.read_bytes() == before
    assert ("not a row of results" if harm == "note" else "of another batch") in done.err
    results.write_bytes(whole)
    status = json.loads(keyed.in_process("batch", "status", "results.jsonl", "--json").out)
    assert status["paused"] is None, "a refused command leaves no trace"
    assert keyed.afk(*RUN).code == 0
    assert len(states(keyed)) == 40
    assert len(server.requests) == asked + 37


def test_max_errors_counts_what_fails_in_this_run_only(shell: Shell) -> None:
    write_prompts(shell, 5)
    fails = [True]
    with serving(shell, lambda request: Step(status=400, body={"error": {"message": "no"}}) if fails[0] else Step()):
        assert shell.afk(*RUN).code == 4
        fails[0] = False
        (shell.folder / "results.jsonl").unlink()
        write_prompts(shell, 20)
        done = shell.afk(*RUN, "--max-errors", "2")
        assert "15 done, 5 failed" in done.err
        assert "--max-errors" not in done.err


def test_a_second_process_waits_or_is_refused(shell: Shell) -> None:
    write_prompts(shell, 2)
    with serving(shell, lambda request: Step(fault=Fault.HANG_BEFORE_HEADERS)) as server:
        first = shell.start(*RUN)
        server.wait_for_requests(2, LIMIT)
        refused = shell.afk(*RUN, "--busy", "fail")
        assert refused.code == 5, refused.err
        assert "another process runs the batch" in refused.err
        second = shell.start(*RUN)
        server.release()
        assert ended(first)[0] == 0
        assert ended(second)[0] == 0
        assert len(server.requests) == 2


@pytest.mark.parametrize("place", ["-", "/dev/stdout", "/dev/null", "pipe", "/dev/fd/1"])
def test_results_to_what_is_not_a_file_are_refused(keyed: Shell, server: ModelServer, place: str) -> None:
    write_prompts(keyed, 2)
    os.mkfifo(keyed.folder / "pipe")
    done = keyed.afk("batch", "run", "prompts.jsonl", "-o", place)
    assert done.code == 2, done.err
    assert f"-o {place} cannot be used: a batch that continues needs the file of its results" in done.err
    assert server.requests == []
    assert not (keyed.folder / "-").exists()


@pytest.mark.parametrize("place", ["prompts.jsonl", "./prompts.jsonl", "link.jsonl"])
def test_the_file_of_prompts_is_no_file_of_results(keyed: Shell, server: ModelServer, place: str) -> None:
    write_prompts(keyed, 2)
    (keyed.folder / "link.jsonl").symlink_to("prompts.jsonl")
    before = (keyed.folder / "prompts.jsonl").read_bytes()
    done = keyed.afk("batch", "run", "prompts.jsonl", "-o", place)
    assert done.code == 2
    assert "is the file of the prompts" in done.err
    assert (keyed.folder / "prompts.jsonl").read_bytes() == before


def test_a_damaged_batch_is_named_and_holds_up_no_other(keyed: Shell, server: ModelServer) -> None:
    write_prompts(keyed, 2)
    assert keyed.afk(*RUN).code == 0
    (damaged,) = (keyed.home / "afk" / "data" / "batches").glob("*.sqlite")
    damaged.write_bytes(b"not a database at all" * 100)
    refused = keyed.afk(*RUN)
    assert refused.code == 1
    assert "file is not a database" in refused.err
    assert keyed.afk("batch", "run", "prompts.jsonl", "-o", "other.jsonl").code == 0
    listed = keyed.afk("batch", "list", "--json")
    assert listed.code == 0, listed.err
    assert str(damaged) in listed.out
    assert "other.jsonl" in listed.out


# -- the engine --------------------------------------------------------------------------------------------------------

ENGINE = """
from dataclasses import dataclass
from pathlib import Path

from afkcli import hookimpl
from afkcli.batch.local_engine import LocalEngine

AFK_HOOKS = 1


@dataclass
class Settings:
    folder: str = ""


class Other(LocalEngine):
    name = "other"


@hookimpl
def afk_engine(settings: Settings):
    return Other(Path(settings.folder))
"""


def test_a_plugin_may_keep_the_batch(keyed: Shell, server: ModelServer) -> None:
    write_prompts(keyed, 30)
    (keyed.folder / "other.py").write_text(ENGINE)
    kept = keyed.folder / "kept"
    config = keyed.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[engines.other]\nfolder = "{kept}"\n')
    config.chmod(0o600)
    options = ("--engine", "other", "--plugin", "other.py", "--concurrency", "30", "--workers", "2")

    missing = keyed.afk(*RUN, "--engine", "other")
    assert (missing.code, server.requests) == (2, [])
    assert "there is no engine 'other' (installed: local" in missing.err
    assert keyed.afk(*RUN, *options).code == 0
    assert set(states(keyed).values()) == {"done"}
    assert len(list(kept.glob("*.sqlite"))) == 1
    assert not list((keyed.home / "afk" / "data" / "batches").glob("*.sqlite"))
    assert keyed.afk(*RUN, *options).code == 0
    assert len(server.requests) == 30
    listed = keyed.afk("plugins", "--plugin", "other.py", "--json").out.splitlines()
    assert [row["status"] for row in map(json.loads, listed) if row["id"] == "engine.other"] == ["ok"]


def test_an_engine_that_does_not_fit_is_refused(keyed: Shell, server: ModelServer) -> None:
    write_prompts(keyed, 2)
    (keyed.folder / "odd.py").write_text(ENGINE.replace("return Other(Path(settings.folder))", "return Settings()"))
    done = keyed.afk(*RUN, "--engine", "odd", "--plugin", "odd.py")
    assert done.code == 2
    assert "the plugin engine.odd did not return an engine" in done.err
    assert server.requests == []


# -- stopping ----------------------------------------------------------------------------------------------------------


def test_ctrl_c_waits_for_what_was_sent_and_the_same_command_goes_on(shell: Shell) -> None:
    write_prompts(shell, 12)
    with serving(shell, lambda request: Step(fault=Fault.HANG_BEFORE_HEADERS)) as server:
        running = shell.start(*RUN, "--concurrency", "4")
        server.wait_for_requests(4, LIMIT)
        running.send_signal(signal.SIGINT)
        assert running.stderr is not None
        assert b"stopping" in running.stderr.readline()
        server.release()
        assert ended(running)[0] == -signal.SIGINT
        assert set(states(shell).values()) == {"done"}
        assert len(states(shell)) == len(server.requests) == 4
        assert shell.afk(*RUN).code == 0
        assert len(states(shell)) == len(server.requests) == 12


def test_a_second_ctrl_c_parks_what_was_sent_and_it_is_asked_again_only_where_that_is_said(shell: Shell) -> None:
    write_prompts(shell, 10)
    hangs = [True]
    with serving(shell, lambda request: Step(fault=Fault.HANG_BEFORE_HEADERS if hangs[0] else None)) as server:
        running = shell.start(*RUN, "--concurrency", "3")
        server.wait_for_requests(3, LIMIT)
        running.send_signal(signal.SIGINT)
        assert running.stderr is not None
        assert b"stopping" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        code, err = ended(running)
        assert code == -signal.SIGINT
        assert "3 parked" in err
        assert set(states(shell).values()) == {"parked"}
        hangs[0] = False
        server.release()
        assert shell.afk(*RUN).code == 4
        assert Counter(states(shell).values()) == {"done": 7, "parked": 3}
        assert Counter(map(said, server.requests)).most_common(1)[0][1] == 1
        assert shell.afk(*RUN, "--retry-parked").code == 0
    assert set(states(shell).values()) == {"done"}
    assert {row["attempts"] for row in rows(shell)} == {1, 2}


def test_workers_end_with_their_parent_and_what_they_sent_is_parked(shell: Shell) -> None:
    write_prompts(shell, 60)
    with serving(shell, lambda request: Step(fault=Fault.HANG_BEFORE_HEADERS)) as server:
        running = shell.start(*RUN, "--concurrency", "50", "--workers", "2")
        server.wait_for_requests(50, LIMIT)
        running.kill()
        ended(running)
        server.release()
        assert shell.afk(*RUN).code == 4
        counts = Counter(map(said, server.requests))
    assert Counter(states(shell).values()) == {"parked": 50, "done": 10}
    assert (len(counts), set(counts.values())) == (60, {1})


# -- limits ------------------------------------------------------------------------------------------------------------


def test_max_cost_is_not_passed_and_the_rest_can_be_asked_with_more(shell: Shell) -> None:
    config = shell.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[prices."openai/gpt-5.2-mini"]\ninput = 1.0\noutput = 1000.0\n')
    config.chmod(0o600)
    usage = ScriptedUsage(input_tokens=10, output_tokens=100)  # 0.10001 US dollars
    with serving(shell, lambda request: Step(text="x" * 400, usage=usage)) as server:
        lines = [json.dumps({"id": f"p{n}", "message": "m", "options": {"max_output_tokens": 100}}) for n in range(30)]
        (shell.folder / "prompts.jsonl").write_text("\n".join(lines))
        done = shell.afk(*RUN, "--max-cost", "1.05", "--concurrency", "30")
        assert done.code == 4, done.err
        assert "--max-cost is reached" in done.err
        assert len(server.requests) == 10
        assert set(states(shell).values()) == {"done"}
        assert sum(row["cost_usd"] for row in rows(shell)) <= 1.05
        assert shell.afk(*RUN, "--max-cost", "10").code == 0
        assert len(server.requests) == 30


def test_a_price_that_is_unknown_stops_a_batch_with_max_cost(shell: Shell) -> None:
    write_prompts(shell, 2)
    with serving(shell, lambda request: Step()) as server:
        shell.env["AFK_MODEL"] = "openai/nobody-sells-this"
        done = shell.afk(*RUN, "--max-cost", "1")
        assert done.code == 4
        assert "the price of openai/nobody-sells-this is unknown" in done.err
        assert (server.requests, rows(shell)) == ([], [])
        assert shell.afk(*RUN).code == 0


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"AFK_MODEL": "nobody/knows"}, "nobody"),
        ({"AFK_AGENT": "nobody"}, "there is no agent 'nobody'"),
        ({"AFK_MODEL": "gemini-like"}, "gemini-like"),
    ],
)
def test_what_is_wrong_for_all_prompts_stops_the_batch_and_fails_none(
    keyed: Shell, server: ModelServer, variables: dict[str, str], said: str
) -> None:
    write_prompts(keyed, 40)
    done = keyed.afk(*RUN, **variables)
    assert done.code in (2, 4)
    assert said in done.err
    assert server.requests == []
    assert keyed.afk(*RUN).code == 0, "nothing has failed"
    assert len(server.requests) == 40


@pytest.mark.parametrize("tool", ["touch", "nope.*", "shell.nope"])
def test_a_tool_that_does_not_exist_stops_the_batch_and_fails_none(
    keyed: Shell, server: ModelServer, tool: str
) -> None:
    write_prompts(keyed, 4)
    done = keyed.afk(*RUN, "--tool", tool)
    assert done.code in (2, 4)
    assert "4 queued" in done.err
    assert tool in done.err
    assert (server.requests, rows(keyed)) == ([], [])


def test_ctrl_c_does_not_wait_for_prompts_that_wait_for_their_minute(shell: Shell) -> None:
    write_prompts(shell, 10)
    with serving(shell, lambda request: Step()) as server:
        running = shell.start(*RUN, "--rpm", "1")
        server.wait_for_requests(1, LIMIT)
        while not (shell.folder / "results.jsonl").exists() or not rows(shell):
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        code, err = ended(running)
        assert code == -signal.SIGINT
        assert "9 queued, 1 done" in err
        assert len(server.requests) == 1


def test_retry_after_of_one_holds_all_requests_of_the_model(shell: Shell) -> None:
    write_prompts(shell, 20)
    refused: list[float] = []

    def answer(request: RecordedRequest) -> Step:
        if not refused:
            refused.append(request.at)
            return Step(status=429, headers={"retry-after": "2"}, body={"error": {"message": "slow down"}})
        return Step(delay_headers=1)

    with serving(shell, answer) as server:
        assert shell.afk(*RUN, "--concurrency", "2").code == 0
        later = [request.at - refused[0] for request in server.requests]
    assert sum(seconds < 1.9 for seconds in later) <= 2, "a request left while all had to wait"


def test_rpm_spaces_the_requests(shell: Shell) -> None:
    write_prompts(shell, 10)
    with serving(shell, lambda request: Step()) as server:
        assert shell.afk(*RUN, "--rpm", "120").code == 0
        times = [request.at for request in server.requests]
    assert len(times) == 10
    assert times[-1] - times[0] >= 3 * 0.4, "two a second leave, and not all at once"
