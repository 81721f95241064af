"""Workers and submitters in processes of their own, on a real PostgreSQL server, while things go wrong.

`AFK_DBOS_KILLS=200 uv run pytest plugins/engine_dbos/tests/test_many_machines.py` kills 200 times; a few times are
tried by default.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from afkcli.testing.model_script import Step
from afkcli.testing.model_server import RecordedRequest
from tests.e2e.shell import LIMIT, Shell
from tests.many_machines import KEY, Process, Serve, said, wait_for
from tests.postgres_server import PostgresServer

KILLS = int(os.environ.get("AFK_DBOS_KILLS", "4"))
PROMPTS_A_KILL, AT_ONCE, WORKERS = 25, 6, 2
RUN = ("batch", "run", "prompts.jsonl", "-o", "results.jsonl", "--engine", "dbos")
WORKER = ("batch", "worker", "--engine", "dbos", "--concurrency", str(AT_ONCE))


def answer(request: RecordedRequest) -> Step:
    text = said(request)
    return Step(text=[f"answer to {text}"], delay_headers=random.Random(text).uniform(0, 0.05))


def write_prompts(shell: Shell, number: int) -> None:
    lines = (json.dumps({"id": f"p{n}", "message": f"ask {n}"}) for n in range(number))
    (shell.folder / "prompts.jsonl").write_text("\n".join(lines))


def rows(shell: Shell) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (shell.folder / "results.jsonl").read_bytes().splitlines()]


def test_kills_at_random_moments_lose_nothing_and_pay_nothing_twice(
    shell: Shell, serve: Serve, start: Callable[..., Process], database: PostgresServer, tmp_path: Path
) -> None:
    """A worker, the submitter and the database are killed in turn, each at a random moment."""
    number, chance = PROMPTS_A_KILL * KILLS, random.Random(11)
    server = serve(answer)
    write_prompts(shell, number)
    workers = [start(*WORKER) for _ in range(WORKERS)]
    submitter = start(*RUN)
    for count in range(KILLS):
        wait_for(server, min(len(server.requests) + chance.randrange(1, PROMPTS_A_KILL), number), submitter)
        victim = ("worker", "submitter", "database")[count % 3]
        if victim == "database":
            database.lose_power()
        elif victim == "worker":
            index = chance.randrange(WORKERS)
            workers[index].kill()
            workers[index] = start(*WORKER)
        if victim == "submitter" or submitter.poll() is not None:
            submitter.kill()
            submitter.wait(LIMIT)
            submitter = start(*RUN, "--busy-timeout", "100")
    submitter.wait(LIMIT + KILLS)
    ended = shell.afk(*RUN)
    assert ended.code in (0, 4), ended.err

    found = {row["id"]: row for row in rows(shell)}
    assert len(rows(shell)) == len(found) == number, "each prompt has one row"
    assert {row["state"] for row in found.values()} <= {"done", "parked"}
    for id_, row in found.items():
        assert row["state"] == "parked" or row["text"] == f"answer to ask {id_[1:]}"
    asked = Counter(map(said, server.requests))
    assert not [text for text, times in asked.items() if times > 1], "a prompt was asked twice"
    parked = {f"ask {id_[1:]}" for id_, row in found.items() if row["state"] == "parked"}
    assert set(asked) | parked == {f"ask {n}" for n in range(number)}, "what is done was asked"
    assert len(parked) <= (KILLS + 2) // 3 * AT_ONCE, "only what a killed worker had is parked"

    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    for worker in workers:
        if worker.wait(LIMIT) != 0:  # it was started while there was no database, which is refused
            assert any("cannot be reached" in path.read_text() for path in tmp_path.glob("said-*"))


def test_the_submitter_leaves_and_the_results_are_fetched_later(
    shell: Shell, serve: Serve, start: Callable[..., Process]
) -> None:
    server = serve(answer)
    write_prompts(shell, 40)
    start(*WORKER)
    submitter = start(*RUN)
    wait_for(server, 1, submitter)
    submitter.send_signal(signal.SIGINT)
    assert submitter.wait(LIMIT) != 0
    while len(shell.afk("batch", "results", "results.jsonl", "--engine", "dbos").out.splitlines()) < 40:
        pass
    assert shell.afk(*RUN).code == 0
    assert Counter(row["state"] for row in rows(shell)) == {"done": 40}
    assert Counter(map(said, server.requests)) == Counter(f"ask {n}" for n in range(40))


def test_a_parked_prompt_is_asked_again_only_by_choice(
    shell: Shell, serve: Serve, start: Callable[..., Process]
) -> None:
    server = serve(lambda request: Step(text=["Hello"], delay_headers=0 if said(request) != "ask 0" else 600))
    write_prompts(shell, 3)
    worker = start(*WORKER)
    submitter = start(*RUN)
    wait_for(server, 3, submitter)
    worker.kill()
    assert submitter.wait(LIMIT) == 4
    states = {row["id"]: row["state"] for row in rows(shell)}
    assert states["p0"] == "parked"
    asked = len(server.requests)
    second = start(*WORKER, "--exit")
    assert second.wait(LIMIT) == 0
    assert len(server.requests) == asked
    server.release()
    server = serve(answer)
    assert shell.afk(*RUN, "--retry-parked", "--workers", "1").code == 0
    assert {row["state"] for row in rows(shell)} == {"done"}
    assert "ask 0" in map(said, server.requests)


def test_limits_hold_over_all_workers(shell: Shell, serve: Serve, start: Callable[..., Process]) -> None:
    """Prompts at once, and requests a minute, which are spread over it; measured at the server."""
    server = serve(lambda request: Step(text=["Hello"], delay_headers=0.2))
    write_prompts(shell, 60)
    workers = [start(*WORKER) for _ in range(3)]
    assert shell.afk(*RUN, "--rpm", "600", "--concurrency", "5").code == 0
    times = sorted(request.at for request in server.requests)
    assert len(times) == 60
    for n, begin in enumerate(times):
        assert sum(begin <= at < begin + 0.2 for at in times[n:]) <= 5
        assert sum(begin <= at < begin + 2 for at in times[n:]) <= 10 + 2 * 600 / 60 + 1
    assert {worker.poll() for worker in workers} == {None}


def test_a_server_that_asks_for_time_gets_it_from_all_workers(
    shell: Shell, serve: Serve, start: Callable[..., Process]
) -> None:
    refused: list[float] = []

    def first_refused(request: RecordedRequest) -> Step:
        if not refused:
            refused.append(request.at)
            return Step(status=429, headers={"Retry-After": "4"}, body={"error": {"message": "slow down"}})
        return Step(text=["Hello"], delay_headers=0.05)

    server = serve(first_refused)
    write_prompts(shell, 60)
    for _ in range(2):
        start(*WORKER)
    assert shell.afk(*RUN, "--concurrency", "4").code == 0
    assert Counter(row["state"] for row in rows(shell)) == {"done": 60}
    after = sorted(request.at - refused[0] for request in server.requests)
    early = [at for at in after if at < 3.9]
    assert len(early) <= 4 * 2, "only what was allowed before the answer was known"
    assert len(after) == 61


def test_no_key_is_in_the_database_and_no_content_is_left_after_rm(
    shell: Shell, serve: Serve, database: PostgresServer, url: str
) -> None:
    serve(lambda request: Step(text=["an answer to keep"]))
    write_prompts(shell, 2)
    assert shell.afk(*RUN, "--workers", "1").code == 0

    def dumped() -> str:
        done = subprocess.run([database.programs / "pg_dump", "--data-only", url], capture_output=True, check=True)
        return done.stdout.decode()

    before = dumped()
    assert "ask 1" in before
    assert "an answer to keep" in before
    assert KEY not in before
    assert shell.afk("batch", "rm", "results.jsonl", "--yes", "--engine", "dbos").code == 0
    after = dumped()
    assert "ask 1" not in after
    assert "an answer to keep" not in after


def test_prompts_without_a_model_are_asked_the_one_of_the_submitter(shell: Shell, serve: Serve, tmp_path: Path) -> None:
    """Each batch is submitted with another config; the worker has another model everywhere."""
    server = serve(lambda request: Step(text=[str(request.body["model"])]))
    environment = {**shell.env, "AFK_MODEL": ""}
    submitters = {
        "config": ('model = "openai/of-the-config"\n', (), ""),
        "alias": ('[models]\nquick = "openai/of-the-alias"\n', ("-m", "quick"), ""),
        "variable": ('model = "openai/of-the-config"\n', (), "openai/of-the-variable"),
        "agent": ('agent = "cook"\n[agents.cook]\nmodel = "openai/of-the-agent"\n', (), ""),
        "provider": ('[providers.openai]\ndefault_model = "of-the-provider"\n', (), ""),
        "named": ('[providers.openai]\ndefault_model = "of-the-named-provider"\n', ("-m", "openai"), ""),
    }

    def machine(name: str, config: str, model: str) -> Shell:
        made = Shell(home=tmp_path / name, folder=tmp_path / f"{name}-work", env={**environment, "AFK_MODEL": model})
        made.folder.mkdir()
        file = made.home / "afk" / "config" / "config.toml"
        file.parent.mkdir(parents=True)
        file.write_text(config)
        write_prompts(made, 2)
        return made

    config = (
        'model = "openai/of-the-worker"\n[agents.cook]\nmodel = "openai/of-the-cook"\n[models]\nquick = "openai/slow"\n'
    )
    worker = machine("worker", config, "openai/of-the-workers-variable").start(*WORKER)
    machines = {name: machine(name, config, model) for name, (config, _, model) in submitters.items()}
    processes = {name: made.start(*RUN, *submitters[name][1]) for name, made in machines.items()}
    try:
        for name, process in processes.items():
            assert process.wait(LIMIT) == 0, (name, process.stderr and process.stderr.read())
    finally:
        for process in (worker, *processes.values()):
            process.kill()
            process.communicate()
    asked = {name: {row["text"] for row in rows(made)} for name, made in machines.items()}
    assert asked == {name: {f"of-the-{'named-provider' if name == 'named' else name}"} for name in submitters}, (
        "the answer is the model that was asked"
    )
    assert len(server.requests) == 2 * len(submitters)


def test_a_worker_of_another_version_refuses_a_batch_and_says_so(
    shell: Shell, serve: Serve, start: Callable[..., Process], url: str, tmp_path: Path
) -> None:
    import psycopg

    server = serve(answer)
    write_prompts(shell, 2)
    submitter = start(*RUN)
    with psycopg.connect(url, autocommit=True) as connection:
        is_submitted = "paused IS NULL AND (totals::json->'counts'->>0)::integer = 2"
        query = f"UPDATE afk_batches.batch SET afk = '0.0.1' WHERE {is_submitted} RETURNING 1"
        changed = False
        while not changed:
            with suppress(psycopg.Error):  # the tables are not there yet
                changed = bool(connection.execute(query.encode()).fetchall())
        worker = start(*WORKER)
        said_to = tmp_path / "said-1"
        while "is of afk" not in said_to.read_text():
            assert worker.poll() is None
            with suppress(subprocess.TimeoutExpired):
                worker.wait(0.1)
    assert "was submitted by afk 0.0.1" in said_to.read_text()
    assert server.requests == []
    submitter.send_signal(signal.SIGINT)
    submitter.wait(LIMIT)


def test_the_tab_key_completes_the_batches_of_the_engine_that_the_line_names(shell: Shell, serve: Serve) -> None:
    serve(answer)
    write_prompts(shell, 1)
    assert shell.afk(*RUN, "--workers", "1").code == 0

    def completed(*words: str) -> list[str]:
        done = shell.in_process(*words, _AFK_COMPLETE="zsh")
        return [line.split("\t")[1] for line in done.out.splitlines()]

    assert completed("batch", "status", "--engine", "dbos", "res") == ["results.jsonl"]
    assert completed("batch", "rm", "--engine=dbos", "") == ["results.jsonl"]
    assert completed("batch", "status", "res") == []
    assert completed("batch", "status", "--engine", "nope", "res") == []
