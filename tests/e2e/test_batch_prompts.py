"""`afk batch` with everything that a prompt may have, watched and continued: real processes and a scripted server."""

from __future__ import annotations

import base64
import json
import shlex
import signal
import threading
import time
from typing import Any

import pytest

from afkcli.testing.model_server import ModelServer, RecordedRequest, Step
from tests.e2e.shell import AFK, LIMIT, Shell, kill
from tests.e2e.test_batch import rows, said, serving, write_prompts
from tests.terminal import Terminal

RUN = ("batch", "run", "prompts.jsonl", "-o", "results.jsonl")
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 30


def write(shell: Shell, *prompts: Any) -> None:
    (shell.folder / "prompts.jsonl").write_text("".join(f"{json.dumps(prompt)}\n" for prompt in prompts))


def last_text(request: RecordedRequest) -> str:
    """Return the text of the last message of a request, which may have other parts."""
    content = request.body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def by_id(shell: Shell, name: str = "results.jsonl") -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in rows(shell, name)}


def test_all_that_a_prompt_may_have_is_asked(keyed: Shell, server: ModelServer) -> None:
    (keyed.folder / "cat.png").write_bytes(PNG)
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "again"},
    ]
    body = {"model": "gpt-5.2-mini", "messages": [{"role": "user", "content": "from OpenAI"}]}
    write(
        keyed,
        {"id": "history", "messages": history},
        {"id": "file", "message": "look", "attachments": ["cat.png"], "metadata": {"gold": "cat"}},
        {"id": "options", "message": "options", "options": {"seed": 7}, "model": "openai/other"},
        {"custom_id": "theirs", "method": "POST", "url": "/v1/chat/completions", "body": body},
        "just a text",
    )
    done = keyed.afk(*RUN, "-m", "gpt-5.2-mini", "--option", "temperature=0", "-s", "Be kind.")
    assert done.code == 0, done.err
    sent = {last_text(request): request.body for request in server.requests}
    assert [message["role"] for message in sent["again"]["messages"]] == ["system", "user", "assistant", "user"]
    assert url in json.dumps(sent["again"])
    assert sent["again"]["messages"][0]["content"] == "Be brief."
    assert url in json.dumps(sent["look"])
    assert (sent["options"]["model"], sent["options"]["seed"], sent["options"]["temperature"]) == ("other", 7, 0)
    assert sent["just a text"]["messages"][0]["content"] == "Be kind."
    found = by_id(keyed)
    assert (found["theirs"]["custom_id"], found["file"]["metadata"]) == ("theirs", {"gold": "cat"})
    assert keyed.in_process("threads", "--json").out == ""


def test_a_table_a_prompt_file_and_a_schema_go_together(shell: Shell) -> None:
    (shell.folder / "words.csv").write_text('ID;word;metadata.list\r\n1;bean;garden\r\n2;"sp\nach";garden\r\n')
    (shell.folder / "p.md").write_text("---\ninstructions: You label {{ word }}.\n---\nLabel: {{ word }}\n")
    schema = '{"type": "object", "required": ["label"]}'
    with serving(shell, lambda request: Step(text=[json.dumps({"label": said(request)})])) as server:
        run = ("batch", "run", "words.csv", "-o", "labels.jsonl", "-p", "./p.md", "--schema", schema, "--ordered")
        done = shell.afk(*run)
        assert done.code == 0, done.err
        assert [row["output"] for row in rows(shell, "labels.jsonl")] == [
            {"label": "Label: bean"},
            {"label": "Label: sp\nach"},
        ]
        instructions = {request.body["messages"][0]["content"].partition("\n\n")[0] for request in server.requests}
        assert instructions == {"You label bean.", "You label sp\nach."}
        (shell.folder / "p.md").write_text("Mark: {{ word }}\n")
        refused = shell.afk(*run)
        assert (refused.code, "2 prompts have changed under the id" in refused.err) == (2, True)
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    "bad",
    [
        '{"id": "z", "mesage": "typo"}',
        '{"id": "p0", "message": "an id twice"}',
        '{"id": "z", "message": "x", "model": "nowhere/model"}',
        '{"id": "z", "message": "torn',
    ],
)
def test_a_mistake_in_the_last_line_is_found_before_anything_is_paid(
    keyed: Shell, server: ModelServer, bad: str
) -> None:
    write_prompts(keyed, 1500)
    with (keyed.folder / "prompts.jsonl").open("a") as file:
        file.write(bad)
    done = keyed.afk(*RUN, "-m", "gpt-5.2-mini")
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert "prompts.jsonl, line 1501: " in line
    assert server.requests == []
    assert not (keyed.folder / "results.jsonl").exists()
    assert keyed.in_process("batch", "list", "--json").out == ""


def test_lines_that_are_added_are_asked_and_the_others_are_not(keyed: Shell, server: ModelServer) -> None:
    write(keyed, "one", "two")
    assert keyed.afk(*RUN, "-m", "gpt-5.2-mini").code == 0
    write(keyed, "new", "two", "one", "last")
    assert keyed.afk(*RUN, "-m", "gpt-5.2-mini").code == 0
    assert sorted(map(said, server.requests)) == ["last", "new", "one", "two"]


def test_a_sample_is_asked_first_and_then_the_rest(keyed: Shell, server: ModelServer) -> None:
    write_prompts(keyed, 20)
    assert keyed.afk(*RUN, "-m", "gpt-5.2-mini", "--sample", "3").code == 0
    first = [said(request) for request in server.requests]
    assert len(first) == 3
    assert keyed.afk(*RUN, "-m", "gpt-5.2-mini", "--sample", "3").code == 0
    assert len(server.requests) == 3
    assert keyed.afk(*RUN, "-m", "gpt-5.2-mini").code == 0
    assert len({said(request) for request in server.requests}) == len(server.requests) == 20


def test_an_id_is_found_in_each_unicode_form(keyed: Shell, server: ModelServer) -> None:
    write(keyed, {"id": "caf\u00e9", "message": "one"})
    assert keyed.afk(*RUN, "-m", "gpt-5.2-mini").code == 0
    for typed in ("caf\u00e9", "cafe\u0301"):
        assert json.loads(keyed.in_process("batch", "results", "results.jsonl", typed).out)["id"] == "caf\u00e9"
        assert "1 prompt queued" in keyed.in_process("batch", "retry", "results.jsonl", typed, "--done").err
        assert "1 prompt cancelled" in keyed.in_process("batch", "cancel", "results.jsonl", typed).err
        assert "1 prompt queued" in keyed.in_process("batch", "retry", "results.jsonl", typed, "--cancelled").err
        assert keyed.afk(*RUN, "-m", "gpt-5.2-mini").code == 0


def test_a_dry_run_asks_nothing_and_makes_nothing(keyed: Shell, server: ModelServer) -> None:
    write_prompts(keyed, 20)
    done = keyed.afk(*RUN, "-m", "gpt-5.2-mini", "--dry-run")
    assert (done.code, done.out.splitlines()[0]) == (0, "prompts   20")
    (form,) = keyed.afk(*RUN, "-m", "gpt-5.2-mini", "--dry-run", "--sample", "5", "--json").events
    assert (form["type"], form["prompts"], form["most_usd"]) == ("batch_estimate", 5, None)
    assert server.requests == []
    assert not (keyed.folder / "results.jsonl").exists()
    assert keyed.in_process("batch", "list", "--json").out == ""


def test_the_commands_that_afk_names_continue_the_batch_as_it_was_started(keyed: Shell, server: ModelServer) -> None:
    write_prompts(keyed, 2)
    (keyed.folder / "short words.md").write_text("In short: {{ message }}\n")
    given = ("-p", "./short words.md", "-m", "openai/m-1", "-s", "Be brief.", "--option", "temperature=0.5")
    assert keyed.afk(*RUN, *given, "--option", "stop=true story", "--ordered").code == 0
    queued = keyed.in_process("batch", "retry", "results.jsonl", "p1", "--done").err
    status = dict(line.split(None, 1) for line in keyed.in_process("batch", "status").out.splitlines())
    assert queued.rstrip().endswith(f"ask them with: {status['next']}")
    afk, *command = shlex.split(status["next"])
    done = keyed.afk(*command)
    assert (afk, done.code, len(server.requests)) == ("afk", 0, 3), done.err
    assert server.requests[-1].body["model"] == "m-1"
    assert server.requests[-1].body["temperature"] == 0.5


def test_what_failed_is_retried_and_the_order_of_the_results_stays(shell: Shell) -> None:
    write_prompts(shell, 8)
    broken = {"ask 2", "ask 5"}

    def answer(request: RecordedRequest) -> Step:
        return Step(status=400, body={"error": {"message": "no"}}) if said(request) in broken else Step()

    with serving(shell, answer) as server:
        done = shell.afk(*RUN, "--ordered")
        assert done.code == 4
        *_, failures = done.err.splitlines()
        assert failures == "afk: to see why prompts failed: afk batch results results.jsonl --state failed"
        found = shell.in_process("batch", "results", "results.jsonl", "--state", "failed").events
        assert [row["error"]["kind"] for row in found] == ["bad_request"] * 2
        broken.clear()
        assert "2 prompts queued" in shell.in_process("batch", "retry", "results.jsonl").err
        done = shell.afk(*RUN, "--ordered")
        assert done.code == 0, done.err
        assert len(server.requests) == 10
    found = rows(shell)
    assert [(row["id"], row["state"]) for row in found] == [(f"p{n}", "done") for n in range(8)]
    assert [row["attempts"] for row in found] == [1, 1, 2, 1, 1, 2, 1, 1]


@pytest.mark.parametrize("order", [(), ("--ordered",)])
def test_a_retry_while_the_batch_runs_leaves_one_row_a_prompt(shell: Shell, order: tuple[str, ...]) -> None:
    write_prompts(shell, 6)
    go_on = threading.Event()

    def answer(request: RecordedRequest) -> Step:
        if said(request) == "ask 5":
            go_on.wait(60)
        return Step(text=f"answer {request.n}")

    with serving(shell, answer) as server:
        running = shell.start(*RUN, "--concurrency", "1", *order)
        server.wait_for_requests(6, LIMIT)
        while (shell.folder / "results.jsonl").read_text().count("\n") < 5:  # it is written a moment later
            time.sleep(0.02)
        first = {id_: row["text"] for id_, row in by_id(shell).items()}
        assert "1 prompt queued" in shell.in_process("batch", "retry", "results.jsonl", "p1", "--done").err
        go_on.set()
        with running:
            _, err = running.communicate(timeout=LIMIT)
        assert running.returncode == 0, err
        assert len(server.requests) == 7
    found = rows(shell)
    assert sorted(row["id"] for row in found) == [f"p{n}" for n in range(6)]
    if order:
        assert [row["id"] for row in found] == [f"p{n}" for n in range(6)]
    again = by_id(shell)["p1"]
    assert (again["attempts"], again["text"] != first["p1"]) == (2, True)


def test_results_that_came_as_they_ended_are_put_in_order(shell: Shell) -> None:
    def answer(request: RecordedRequest) -> Step:
        return Step(delay_first=0.5 if said(request) == "ask 0" else 0.0)

    write_prompts(shell, 6)
    with serving(shell, answer) as server:
        assert shell.afk(*RUN).code == 0
        assert shell.afk(*RUN, "--ordered").code == 0
        assert len(server.requests) == 6
    assert [row["id"] for row in rows(shell)] == [f"p{n}" for n in range(6)]


def test_prompts_of_one_thread_are_asked_one_after_the_other(shell: Shell) -> None:
    write(shell, *({"id": f"q{n}", "message": f"ask {n}", "thread": "trip"} for n in range(6)))
    with serving(shell, lambda request: Step()) as server:
        done = shell.afk(*RUN)
        assert done.code == 0, done.err
        assert [said(request) for request in server.requests] == [f"ask {n}" for n in range(6)]
        assert len(server.requests[-1].body["messages"]) == 11
    assert "in use" not in done.err


def test_prompts_of_one_thread_keep_their_order_where_two_processes_would_run_them(shell: Shell) -> None:
    write(shell, *({"id": f"q{n}", "message": f"ask {n}", "thread": "trip"} for n in range(30)))
    with serving(shell, lambda request: Step()) as server:
        done = shell.afk(*RUN, "--workers", "2", "--concurrency", "8")
        assert done.code == 0, done.err
        assert [said(request) for request in server.requests] == [f"ask {n}" for n in range(30)]


def test_lines_that_are_removed_are_not_asked(shell: Shell) -> None:
    write_prompts(shell, 12)
    with serving(shell, lambda request: Step()) as server:
        running = shell.start(*RUN, "--rpm", "1")
        server.wait_for_requests(1, LIMIT)
        kill(running, signal.SIGINT)
        write_prompts(shell, 6)
        refused = shell.afk(*RUN, "--sample", "1")
        assert (refused.code, len(server.requests)) == (2, 1), refused.err
        assert "more prompts of this batch wait to be asked" in refused.err
        done = shell.afk(*RUN)
        assert "6 prompts that were not asked yet and are no longer in prompts.jsonl: cancelled" in done.err
        assert done.code == 4
        assert sorted(map(said, server.requests)) == [f"ask {n}" for n in range(6)]
        assert {id_: row["state"] for id_, row in by_id(shell).items()} == {
            f"p{n}": "done" if n < 6 else "cancelled" for n in range(12)
        }
        assert "6 prompts queued" in shell.in_process("batch", "retry", "results.jsonl", "--cancelled").err
        write_prompts(shell, 12)
        assert shell.afk(*RUN).code == 0
        assert len(server.requests) == 12


def test_events_say_what_happens(shell: Shell) -> None:
    write_prompts(shell, 4)
    answers = {"ask 1": Step(status=400, body={"error": {"message": "no"}})}
    with serving(shell, lambda request: answers.get(said(request), Step())):
        done = shell.afk(*RUN, "--json")
    assert done.code == 4
    events = done.events
    assert (events[0]["type"], events[-1]["type"]) == ("batch_started", "batch_ended")
    ended = {event["id"]: event for event in events if event["type"] == "prompt_ended"}
    assert {id_: event["state"] for id_, event in ended.items()} == {
        "p0": "done",
        "p1": "failed",
        "p2": "done",
        "p3": "done",
    }
    assert ended["p1"]["error"] == "bad_request"
    last = events[-1]
    assert (last["counts"]["done"], last["counts"]["failed"], last["exit_code"]) == (3, 1, 4)
    assert last["tokens"] == 3 * 19, "of the answers that came"
    assert last["unknown_costs"] >= 3, "the model of the test has no price"


def test_a_reader_of_events_that_goes_away_parks_nothing(shell: Shell) -> None:
    write_prompts(shell, 200)
    with serving(shell, lambda request: Step(delay_first=0.05)):
        running = shell.start(*RUN, "--json", "--concurrency", "4")
        assert running.stdout is not None
        assert b"batch_started" in running.stdout.readline()
        assert any(b'"prompt_ended"' in line for line in running.stdout)
        running.stdout.close()
        with running:
            assert running.wait(LIMIT) == -signal.SIGPIPE
    found = rows(shell)
    assert 0 < len(found) < 200
    assert {row["state"] for row in found} == {"done"}
    counts = json.loads(shell.in_process("batch", "status", "--json").out)["counts"]
    assert (counts["parked"], counts["running"]) == (0, 0)


def test_a_batch_that_runs_is_not_deleted(shell: Shell) -> None:
    write_prompts(shell, 3)
    arrived = threading.Event()

    def answer(request: RecordedRequest) -> Step:
        arrived.set()
        return Step(delay_first=60)

    with serving(shell, answer):
        running = shell.start(*RUN)
        assert arrived.wait(60)
        done = shell.in_process("batch", "rm", "results.jsonl", "--yes")
        assert (done.code, "another process runs the batch" in done.err) == (5, True)
        assert "3 running" in shell.in_process("batch", "status", "results.jsonl").out
        kill(running)


@pytest.mark.parametrize("columns", [100, 40])
def test_a_person_sees_how_far_it_is(shell: Shell, columns: int) -> None:
    write_prompts(shell, 60)
    go_on = threading.Event()

    def answer(request: RecordedRequest) -> Step:
        if request.n > 20:
            go_on.wait(60)
        return Step(status=400, body={"error": {"message": "no"}}) if request.n == 3 else Step()

    with serving(shell, answer):
        command = [AFK, *RUN, "--concurrency", "10"]
        with Terminal(
            command, columns=columns, lines=10, environment=shell.environment(), folder=shell.folder
        ) as terminal:
            terminal.wait_for("20 of 60")
            terminal.wait_for("1 failed")
            line = next(line for line in terminal.screen().splitlines() if "20 of 60" in line)
            assert len(line) <= columns
            assert ("[" in line) == (columns == 100)
            go_on.set()
            assert terminal.wait_for_end() == 4
            assert "20 of 60" not in terminal.screen()
            assert "59 done, 1 failed" in " ".join(terminal.text().split())
