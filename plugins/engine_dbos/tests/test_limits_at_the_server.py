"""The limits of batches over three workers, as the model server sees them, while a worker is killed.

With `AFK_DBOS_SECONDS=150` this counts in whole minutes, and `-s` prints figures; a few seconds are tried by default:
`AFK_DBOS_SECONDS=150 uv run pytest plugins/engine_dbos/tests/test_limits_at_the_server.py -s`.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from afkcli.testing.model_script import ScriptedUsage, Step
from afkcli.testing.model_server import RecordedRequest
from tests.e2e.shell import LIMIT, Shell
from tests.many_machines import Process, Serve, said, wait_for

SECONDS = float(os.environ.get("AFK_DBOS_SECONDS", "6"))
WORKERS, AT_ONCE, MODEL = 3, 40, "openai/gpt-5.2-mini"
RPM, TPM, CONCURRENCY = 300, 9000, 5
HELD_S = min(20.0, SECONDS / 2)
"""How long the server asks to be left alone for."""
INPUT, OUTPUT, ANSWER_S = 100, 50, 0.5
DOLLARS = (INPUT * 1000 + OUTPUT * 2000) / 1e6
"""What a request costs."""
MOST_DOLLARS = DOLLARS * CONCURRENCY * SECONDS


class Server:
    """Answers the prompts of all batches, each known by its first word, and keeps when each came."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, float]] = []
        self.refused: float | None = None
        self._refuse_at = RPM * SECONDS / 60 / 4
        self._lock = threading.Lock()

    def answer(self, request: RecordedRequest) -> Step:
        text = said(request)
        with self._lock:
            self.requests.append((text, request.at))
            refuses = self.refused is None and len(self.of("rpm")) > self._refuse_at and text.startswith("rpm")
            if refuses:
                self.refused = request.at
        if refuses:
            wait = {"Retry-After": f"{HELD_S:g}"}
            return Step(status=429, headers=wait, body={"error": {"message": "slow down"}})
        usage = ScriptedUsage(input_tokens=INPUT, output_tokens=OUTPUT)
        return Step(text=["Hello " * OUTPUT], usage=usage, delay_headers=ANSWER_S)

    def of(self, batch: str) -> list[float]:
        return sorted(at for text, at in list(self.requests) if text.startswith(batch))


def most_within(seconds: float, moments: Sequence[float]) -> int:
    """Return the greatest number of moments in any window of so many seconds."""
    return max(sum(begin <= at < begin + seconds for at in moments) for begin in moments)


def write_prompts(shell: Shell, batch: str, number: int) -> None:
    """Write prompts of some hundred bytes, whose answers have a known limit."""
    text = "word " * 70
    lines = (
        json.dumps({"id": f"{batch} {n}", "message": f"{batch} {n} {text}", "options": {"max_output_tokens": OUTPUT}})
        for n in range(number)
    )
    (shell.folder / f"{batch}.jsonl").write_text("\n".join(lines))


@pytest.fixture
def submit(shell: Shell, start: Callable[..., Process]) -> Callable[..., Process]:
    """Submit a batch of so many prompts with these options."""

    def submit(batch: str, number: float, *options: str) -> Process:
        write_prompts(shell, batch, int(number))
        return start("batch", "run", f"{batch}.jsonl", "-o", f"{batch}.out", "--engine", "dbos", *options)

    return submit


def test_no_limit_is_passed_while_a_worker_is_killed(
    shell: Shell, serve: Serve, start: Callable[..., Process], submit: Callable[..., Process], url: str
) -> None:
    with (shell.home / "afk" / "config" / "config.toml").open("a") as config:
        config.write(f'[prices."{MODEL}"]\ninput = 1000.0\noutput = 2000.0\n')
    counted = Server()
    server = serve(counted.answer)
    worker = ("batch", "worker", "--engine", "dbos", "--concurrency", str(AT_ONCE))
    workers = [start(*worker) for _ in range(WORKERS)]
    by_rpm = submit("rpm", RPM * SECONDS / 60, "--rpm", str(RPM), "--concurrency", "60")
    by_tpm = submit("tpm", TPM * (SECONDS + 120) / 60 / (INPUT + OUTPUT), "--tpm", str(TPM), "--concurrency", "60")
    by_cost = submit(
        "cost", 4 * CONCURRENCY * SECONDS, "--max-cost", str(MOST_DOLLARS), "--concurrency", str(CONCURRENCY)
    )
    wait_for(server, int(RPM * SECONDS / 60), by_rpm)
    workers[0].kill()
    workers[0] = start(*worker)
    by_rpm.wait(LIMIT + 3 * SECONDS)
    by_cost.wait(LIMIT + 3 * SECONDS)
    for running in workers:
        running.send_signal(signal.SIGTERM)  # what waits for the next minute is queued again
    for running in workers:
        running.wait(LIMIT)
    assert shell.afk("batch", "cancel", "tpm.out", "--engine", "dbos").code == 0
    by_tpm.wait(LIMIT)

    assert counted.refused is not None
    repeated = [text for text, times in Counter(text for text, _ in counted.requests).items() if times > 1]
    assert len(repeated) <= 1, "only the prompt that was refused is asked again"
    states = {batch: Counter(row["state"] for row in rows(shell, batch)) for batch in ("rpm", "tpm", "cost")}
    assert set(states["rpm"]) <= {"done", "parked"}
    figures = _figures(counted) | {"seconds from permission to arrival": latest_arrival(url, counted)}
    print("".join(f"\n{name}: {value}" for name, value in [*figures.items(), *states.items()]))
    assert figures["rpm in 60 s"] <= RPM
    assert figures["rpm in 5 s"] <= RPM / 60 * 5 + 2 * RPM / 60 + 1, "they are spread over the minute"
    assert figures["tokens in 60 s"] <= TPM
    assert figures["cost"] <= MOST_DOLLARS * (1 + 1e-9)
    assert figures["cost at once"] <= CONCURRENCY
    assert figures["rpm while held, from 2 s on"] == 0
    assert figures["cost"] > MOST_DOLLARS / 2, "the limit of cost was what ended its batch"
    assert states["tpm"]["cancelled"] > 0, "the limit of tokens was what held its batch back"


def _figures(counted: Server) -> dict[str, float]:
    assert counted.refused is not None
    held = [at - counted.refused for at in counted.of("rpm") if 0 < at - counted.refused < HELD_S - 0.1]
    return {
        "seconds": max(at for _, at in counted.requests) - min(at for _, at in counted.requests),
        "rpm in 60 s": most_within(60, counted.of("rpm")),
        "rpm in 5 s": most_within(5, counted.of("rpm")),
        "tokens in 60 s": most_within(60, counted.of("tpm")) * (INPUT + OUTPUT),
        "cost": len(counted.of("cost")) * DOLLARS,
        "cost at once": most_within(ANSWER_S, counted.of("cost")),
        "rpm while held": len(held),
        "rpm while held, from 2 s on": sum(at > 2 for at in held),
    }


def latest_arrival(url: str, counted: Server) -> float:
    """Return how long after its permission a request came at most, up to a second too much."""
    import psycopg

    came = {text.split(" word")[0]: at for text, at in counted.requests}
    query = "SELECT convert_from(id, 'UTF8'), reserved_at FROM afk_batches.prompt WHERE reserved_at > 0"
    with psycopg.connect(url) as connection:
        allowed = connection.execute(query).fetchall()
    return max(came[id_] - second for id_, second in allowed if id_ in came)


def rows(shell: Shell, batch: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (shell.folder / f"{batch}.out").read_bytes().splitlines()]
