"""The limits of a batch, counted by what arrives at the server and by the tokens that it reports.

Several minutes have to pass for some of it, so those tests run with `AFK_BATCH_MINUTES=1` only; `-rA` shows their
figures: `AFK_BATCH_MINUTES=1 uv run pytest -n 8 -rA tests/batch/test_limits_at_server.py`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from afkcli.testing.model_script import ScriptedUsage, Step
from afkcli.testing.model_server import ModelServer, RecordedRequest
from tests.e2e.shell import Shell

RUN = ("batch", "run", "prompts.jsonl", "-o", "results.jsonl")
MODEL = "openai/gpt-5.2-mini"
LONGEST_S = 900

in_real_minutes = pytest.mark.skipif(not os.environ.get("AFK_BATCH_MINUTES"), reason="AFK_BATCH_MINUTES is not set")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    home, folder = tmp_path / "user", tmp_path / "work"
    home.mkdir()
    folder.mkdir()
    return Shell(home=home, folder=folder)


class Counted:
    """A server that keeps what it answered: when each request came, and what it was billed."""

    def __init__(self, answer: Callable[[RecordedRequest], Step]) -> None:
        self.tokens: list[tuple[float, int]] = []
        self.usages: list[ScriptedUsage] = []
        self._answer = answer
        self._lock = threading.Lock()
        self.server = ModelServer(answer=self._billed)

    def _billed(self, request: RecordedRequest) -> Step:
        step = self._answer(request)
        if step.status == 200 and step.usage is not None and step.fault is None:
            with self._lock:
                self.tokens.append((request.at, step.usage.input_tokens + step.usage.output_tokens))
                self.usages.append(step.usage)
        return step

    @property
    def arrivals(self) -> list[tuple[float, int]]:
        return [(request.at, 1) for request in self.server.requests]


@contextmanager
def counting(shell: Shell, answer: Callable[[RecordedRequest], Step]) -> Iterator[Counted]:
    counted = Counted(answer)
    with counted.server as server:
        shell.env.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="none", AFK_MODEL=MODEL)
        yield counted


def most_in_a_minute(sent: Sequence[tuple[float, int]]) -> int:
    """Return the greatest sum within any 60 seconds, of moments and amounts."""
    moments = sorted(sent)
    most = within = first = 0
    for at, amount in moments:
        within += amount
        while moments[first][0] <= at - 60:
            within -= moments[first][1]
            first += 1
        most = max(most, within)
    return most


def span(sent: Sequence[tuple[float, int]]) -> float:
    return max(at for at, _ in sent) - min(at for at, _ in sent)


def write_prompts(shell: Shell, number: int, **more: Any) -> None:
    lines = (json.dumps({"id": f"p{n}", "message": f"ask {n}", **more}) for n in range(number))
    (shell.folder / "prompts.jsonl").write_text("\n".join(lines))


def rows(shell: Shell) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (shell.folder / "results.jsonl").read_bytes().splitlines()]


def run(shell: Shell, *options: str) -> tuple[int, str]:
    running = shell.start(*RUN, *options)
    with running:
        _, err = running.communicate(timeout=LONGEST_S)
    return running.returncode, err.decode()


@in_real_minutes
def test_rpm_holds_in_any_minute_with_retries_and_several_processes(shell: Shell) -> None:
    chance = random.Random(3)

    def answer(request: RecordedRequest) -> Step:
        if chance.random() < 0.15:
            return Step(status=500, body={"error": {"message": "try again"}})
        return Step(text=["yes"], delay_headers=chance.uniform(0, 3))

    write_prompts(shell, 900)
    with counting(shell, answer) as counted:
        code, _ = run(shell, "--rpm", "400", "--concurrency", "200", "--workers", "4")
        most = most_in_a_minute(counted.arrivals)
        print(f"rpm 400: most {most}, {len(counted.arrivals)} requests in {span(counted.arrivals):.1f} s, code {code}")
        assert most <= 400
        assert len(counted.arrivals) > 900, "some were sent again"


@in_real_minutes
@pytest.mark.parametrize(
    ("output", "chars", "tpm", "number"),
    [
        (4000, 20, 60_000, 40),
        (5, 20, 60_000, 500),
        (2000, 6000, 60_000, 60),
        (12_000, 10, 60_000, 12),
        (0, 10, 60_000, 60),
        (50_000, 10, 60_000, 4),
    ],
    ids=["far-above", "far-below", "long-text", "hidden-reasoning", "some-short-some-long", "nearly-all"],
)
def test_tpm_holds_in_any_minute_whatever_the_answers_take(
    shell: Shell, output: int, chars: int, tpm: int, number: int
) -> None:
    chance = random.Random(3)

    def answer(request: RecordedRequest) -> Step:
        usage = ScriptedUsage(input_tokens=12, output_tokens=output or chance.choice([10, 100, 1000, 6000]))
        pieces = max(chars // 200, 1)
        return Step(text=["x" * (chars // pieces)] * pieces, usage=usage, delay_headers=chance.uniform(0, 3))

    write_prompts(shell, number)
    with counting(shell, answer) as counted:
        code, err = run(shell, "--tpm", str(tpm), "--concurrency", "100", "--workers", "3")
        most = most_in_a_minute(counted.tokens)
        total = sum(tokens for _, tokens in counted.tokens)
        print(f"tpm {tpm}, {output} each: most {most}, {total} in {span(counted.tokens):.1f} s, code {code}")
        assert most <= tpm, err
        assert {row["state"] for row in rows(shell)} == {"done"}


@in_real_minutes
def test_rpm_and_tpm_hold_where_the_batch_is_killed_and_goes_on_within_the_minute(shell: Shell) -> None:
    def answer(request: RecordedRequest) -> Step:
        return Step(text=["yes"], usage=ScriptedUsage(input_tokens=12, output_tokens=300), delay_headers=0.3)

    write_prompts(shell, 260)
    options = ("--rpm", "100", "--tpm", "30000", "--concurrency", "60", "--workers", "2", "--retry-parked")
    with counting(shell, answer) as counted:
        for _ in range(6):
            running = shell.start(*RUN, *options)
            with suppress(TimeoutError):
                counted.server.wait_for_requests(len(counted.server.requests) + 20, 300)
            running.send_signal(signal.SIGKILL)
            with running:
                running.communicate(timeout=LONGEST_S)
        code, err = run(shell, *options)
        requests, tokens = most_in_a_minute(counted.arrivals), most_in_a_minute(counted.tokens)
        print(
            f"6 kills, rpm 100, tpm 30000: most {requests} and {tokens} in {span(counted.arrivals):.1f} s, code {code}"
        )
        assert code == 0, err
        assert requests <= 100
        assert tokens <= 30_000


@in_real_minutes
def test_retry_after_of_one_holds_its_model_in_all_processes_and_no_other(shell: Shell) -> None:
    refused: list[float] = []

    def answer(request: RecordedRequest) -> Step:
        if request.body["model"] == "gpt-5.2-mini" and not refused:
            refused.append(request.at)
            return Step(status=429, headers={"retry-after": "20"}, body={"error": {"message": "slow down"}})
        return Step(text=["yes"], delay_headers=0.2)

    lines = [json.dumps({"id": f"p{n}", "message": f"ask {n}"}) for n in range(300)]
    lines += [json.dumps({"id": f"o{n}", "message": f"ask {n}", "model": "openai/gpt-5.2"}) for n in range(300)]
    random.Random(1).shuffle(lines)
    (shell.folder / "prompts.jsonl").write_text("\n".join(lines))
    with counting(shell, answer) as counted:
        code, err = run(shell, "--concurrency", "600", "--workers", "4", "--rpm", "1200")
        since = [(r.body["model"], r.at - refused[0]) for r in counted.server.requests if r.at > refused[0]]
        held = sorted(at for model, at in since if model == "gpt-5.2-mini")
        others = [at for model, at in since if model != "gpt-5.2-mini" and at < 20]
        last = max((at for at in held if at < 20), default=0.0)
        first = min(at for at in held if at >= 20)
        print(f"Retry-After 20: last before it {last:.2f} s, first after it {first:.2f} s, others {len(others)}")
        assert code == 0, err
        assert [at for at in held if 2 < at < 20] == []
        assert len(others) > 100


def set_price(shell: Shell, output: float = 10.0) -> None:
    config = shell.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[prices."{MODEL}"]\ninput = 1.0\noutput = {output}\n')
    config.chmod(0o600)


@pytest.mark.parametrize(
    ("output", "chars", "keeps_limit", "least"),
    [(1000, 20, True, 0.4), (3000, 9000, True, 0.4), (50_000, 20, True, 0.4), (50_000, 20, False, 0.0)],
    ids=["shorter", "long-text", "longer", "the-server-has-no-limit"],
)
def test_max_cost_is_never_passed_at_the_server_whatever_the_answers_take(
    shell: Shell, output: int, chars: int, keeps_limit: bool, least: float
) -> None:
    """No option says how long an answer may be, and its tokens are known when it is paid."""
    set_price(shell)

    def answer(request: RecordedRequest) -> Step:
        tokens = min(output, request.body["max_tokens"]) if keeps_limit else output
        finish = "length" if tokens < output else ""
        usage = ScriptedUsage(input_tokens=12, output_tokens=tokens)
        pieces = max(chars // 200, 1)
        text = ["x" * (chars // pieces)] * pieces
        return Step(text=text, usage=usage, delay_headers=0.05, finish_reason=finish)

    write_prompts(shell, 80)
    with counting(shell, answer) as counted:
        code, err = run(shell, "--max-cost", "0.6", "--concurrency", "50", "--workers", "2")
        cost = sum((usage.input_tokens * 1.0 + usage.output_tokens * 10.0) / 1e6 for usage in counted.usages)
        print(f"max-cost 0.6, {output} tokens each: cost {cost:.4f}, {len(counted.usages)} requests, code {code}")
        assert code == 4
        assert least < cost <= 0.6, err
    if output == 50_000:
        assert ("an answer was cut at" if keeps_limit else "so --max-cost cannot hold") in err


def test_money_that_is_short_is_used_as_far_as_answers_are(shell: Shell) -> None:
    set_price(shell, output=1000.0)
    usage = ScriptedUsage(input_tokens=10, output_tokens=100)  # 0.10001 US dollars
    write_prompts(shell, 30)
    with counting(shell, lambda request: Step(text=["x"] * 100, usage=usage)) as counted:
        code, err = run(shell, "--max-cost", "1.2", "--concurrency", "30", "--workers", "2")
        assert code == 4
        assert 7 <= len(counted.usages) <= 11, err
