"""Every program in docs/examples runs as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from afkcli.testing.model_script import ScriptedCall, Step
from afkcli.testing.model_server import ModelServer
from tests.docs.pages import REPOSITORY

EXAMPLES = REPOSITORY / "docs" / "examples"
LIMIT = 120  # seconds after which a program hangs; never a measure of speed


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as model_server:
        yield model_server


@pytest.fixture
def environment(server: ModelServer, tmp_path: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT") if name in os.environ}
    home = {"HOME": str(tmp_path), "AFK_HOME": str(tmp_path / "afk")}
    return {**kept, **home, "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-documented-0123456789"}


def run(name: str, environment: dict[str, str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run an example in its user's home."""
    return subprocess.run(
        [sys.executable, EXAMPLES / name],
        cwd=environment["HOME"],
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


def test_chat_prints_three_answers_and_their_tokens(environment: dict[str, str]) -> None:
    done = run("chat.py", environment)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("[DONE] (completed)") == 3
    assert "Turn 3: 19 tokens" in done.stdout


def test_tool_prints_the_call_and_the_answer(environment: dict[str, str], server: ModelServer) -> None:
    call = ScriptedCall(name="price", arguments={"vegetable": "beans"})
    server.script(Step(tool_calls=[call]), Step(text="Five euros."))

    done = run("tool.py", environment)

    assert (done.returncode, done.stdout) == (0, "[price: 2.50 EUR]\nFive euros.\n"), done.stderr
    assert any(message.get("content") == "2.50 EUR" for message in server.bodies[1]["messages"])


def test_batch_prints_the_answers_in_the_order_of_the_questions(
    environment: dict[str, str], server: ModelServer
) -> None:
    questions = [f"Question {number}?" for number in range(6)]

    done = run("batch.py", environment, stdin="\n".join(questions))

    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [question for question, _ in rows] == questions
    assert all(answer.endswith(f": {question}") for question, answer in rows)
    assert len(server.requests) == 6


def test_batch_ends_with_1_where_a_question_failed(environment: dict[str, str], server: ModelServer) -> None:
    server.script(Step(status=401, body={"error": {"message": "no such key"}}))

    done = run("batch.py", environment, stdin="What is a bean?\n")

    assert done.returncode == 1, done.stderr
    assert "no such key" in done.stdout


def test_tokens_counts_the_runs_of_the_event_log(environment: dict[str, str]) -> None:
    run("batch.py", environment, stdin="What is a bean?\nWhat is spinach?\n")
    logs = sorted(Path(environment["AFK_HOME"], "state", "events").glob("*.jsonl"))
    events = "".join(log.read_text() for log in logs)

    done = run("tokens.py", environment, stdin=events)

    assert (done.returncode, done.stdout) == (0, "openai/gpt-5.2-mini\t2 runs\t38 tokens\n"), done.stderr


def test_every_example_is_listed_and_run_here() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    tested = Path(__file__).read_text()

    for example in EXAMPLES.glob("*.py"):
        assert f"[{example.name}]({example.name})" in listed
        assert f'run("{example.name}"' in tested
