"""The second turn in a long thread."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.answers import MODEL, answer
from benchmarks.bench import AFK, ANTHROPIC, PROGRAMS, PYTHON, Bench, Figure, Side, benchmark, figures, ms
from benchmarks.measure import Measured
from benchmarks.peers.conversations import LENGTHEN, lengthen
from benchmarks.peers.pointing import CONTINUED
from benchmarks.programs.long_thread import ANSWER, QUESTION
from benchmarks.report import Row, compare
from benchmarks.workers import Worker, after_work

LONG_TURNS, SHORT_TURNS = 2_500, 5  # two messages a turn
MS_A_MESSAGE = 0.02


@benchmark("thread", peers=("llm", "codex"))
def long_thread(bench: Bench) -> list[Row]:
    """CPU time that a message of the thread adds to a turn: the turn of a long thread less that of a short one.

    Every round goes on with the threads, which have had a turn of afk before: it is the second turn, the third and so
    on. `sent` is a whole turn. The other two rows have a provider that builds and sends no body
    (programs/instant.py): with the SDK imported and a client made, and without. An SDK's import varies by more than
    5,000 messages take; a warm turn has none, and its rows count what client and child spend up to the request.
    """
    bench.server.answer = answer(1)
    env = bench.home("threads")
    models: dict[str, tuple[list[str | Path], dict[str, str]]] = {
        "openai": (["-m", MODEL], {}),
        "anthropic": (["-m", ANTHROPIC], {}),
        "no body": (["--plugin", PROGRAMS / "instant.py", "-m", "instant/instant"], {"BENCH_SDK": "1"}),
        "no body, no SDK": (["--plugin", PROGRAMS / "instant.py", "-m", "instant/instant"], {}),
    }
    sides: dict[str, Side] = {}
    for name, (arguments, variables) in models.items():
        for length, turns in (("long", LONG_TURNS), ("short", SHORT_TURNS)):
            thread = f"{length} {name}"
            subprocess.run([PYTHON, PROGRAMS / "long_thread.py", thread, str(turns)], env=env, check=True)
            turn: list[str | Path] = [AFK, "run", "-n", "-t", thread, *arguments, "hi"]
            sides[thread] = bench.side(turn, {**env, **variables}, requests="no body" not in name)
            sides[thread]()  # the first turn
    for length, turns in (("long", LONG_TURNS), ("short", SHORT_TURNS)):
        body = bench.folder / f"{length}.json"
        body.write_text(json.dumps(_messages(turns)), encoding="utf-8")
        sides[f"{length} bare"] = bench.side([PYTHON, PROGRAMS / "bare_turn.py", body], env)
    sides |= _peer_sides(bench)
    results = bench.interleave(sides)
    for name in LENGTHEN:
        if any(one.sent < LONG_TURNS * len(QUESTION + ANSWER) for one in results.get(f"long {name}", ())):
            del results[f"long {name}"]
            bench.failures[name] = f"{name} did not send its whole conversation"
    added = _added(results, lambda one: one.cpu)
    limit = [MS_A_MESSAGE] * bench.runs
    case = f"CPU of a message, turn after {2 * LONG_TURNS:,}"
    against = f"{MS_A_MESSAGE:g} ms"
    return [
        compare(f"{case}, openai", against, "ms", added["openai"], limit, goal=1),
        compare(f"{case}, anthropic", against, "ms", added["anthropic"], limit, goal=1),
        *_warm(bench),
        compare(f"{case}, no body", against, "ms", added["no body"], limit),
        compare(f"{case}, no body, no SDK", against, "ms", added["no body, no SDK"], limit),
        compare(f"{case}, openai", "bare openai script", "ms", added["openai"], added["bare"]),
        *(bench.against_peer(f"{case}, openai", name, "ms", added["openai"], added.get(name)) for name in LENGTHEN),
    ]


def _warm(bench: Bench) -> list[Row]:
    """Return the rows of turns that a warm worker's child takes."""
    models = {"openai": MODEL, "anthropic": ANTHROPIC}
    workers = {name: Worker.make(bench, f"warm-{name}", AFK, model) for name, model in models.items()}
    sides: dict[str, Side] = {}
    try:
        for name, worker in workers.items():
            for length, turns in (("long", LONG_TURNS), ("short", SHORT_TURNS)):
                subprocess.run([PYTHON, PROGRAMS / "long_thread.py", length, str(turns)], env=worker.env, check=True)
                sides[f"{length} {name}"] = after_work(workers.values(), worker.turn(bench, length))
            worker.make_warm(bench)
        served = {name: worker.served for name, worker in workers.items()}
        added = _added(bench.interleave(sides), lambda one: one.cpu_to_request)
        cold = {name: worker.told_cold(served[name], 2 * bench.rounds) for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.stop()
    limit = [MS_A_MESSAGE] * bench.runs
    case = f"CPU of a message, warm turn after {2 * LONG_TURNS:,}"
    return [
        compare(f"{case}, {name}", f"{MS_A_MESSAGE:g} ms", "ms", added[name], limit, goal=1, note=cold[name])
        for name in workers
    ]


def _peer_sides(bench: Bench) -> dict[str, Side]:
    """Return the sides of the peers, each in a long and in a short conversation."""
    sides: dict[str, Side] = {}
    for length, turns in (("long", LONG_TURNS), ("short", SHORT_TURNS)):
        env = bench.home(f"{length} peers")
        prepare = partial(lengthen, pairs=turns)
        for name, side in bench.peer_sides(env, list(LENGTHEN), turns=CONTINUED, prepare=prepare).items():
            sides[f"{length} {name}"] = side
    return sides


def _added(results: Mapping[str, Sequence[Measured]], cpu_of: Figure) -> dict[str, list[float]]:
    """Return the milliseconds of CPU time that a message adds, a value a round, of what has a long and a short side."""
    cpu = {name: ms(values) for name, values in figures(results, cpu_of).items()}
    messages = 2 * (LONG_TURNS - SHORT_TURNS)
    return {
        name: [(a - b) / messages for a, b in zip(cpu[f"long {name}"], values, strict=True)]
        for name, values in ((side.removeprefix("short "), cpu[side]) for side in cpu if side.startswith("short "))
        if f"long {name}" in cpu
    }


def _messages(turns: int) -> list[dict[str, str]]:
    """Return the messages of a thread that programs/long_thread.py made, as the bare script sends them."""
    pair = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    return [*pair * turns, {"role": "user", "content": "hi"}]
