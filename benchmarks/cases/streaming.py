"""The rate of a stream."""

from __future__ import annotations

import socket
import time

from benchmarks.answers import MODEL, answer
from benchmarks.bench import AFK, ANTHROPIC, DELTAS, PROGRAMS, PYTHON, Bench, Side, benchmark, figures
from benchmarks.measure import Measured
from benchmarks.report import Row, compare
from benchmarks.server import BenchmarkServer

EVENTS_PER_PACKED_CHUNK = 64
GOALS = {"llm": 8.0, "claude": 3.0, "codex": None}


@benchmark("streaming", peers=("llm", "codex", "claude"))
def streaming(bench: Bench) -> list[Row]:
    """Deltas a second, from the request's arrival to the end of the process: sealing and exit count, start-up does not.

    Memory and log are on; stdout is a pipe that is read.
    """
    env = bench.home("streaming")
    bench.server.answer = answer(DELTAS)
    peers = bench.peer_sides(env, list(GOALS))
    rows: list[Row] = []
    for name, events_per_chunk in (("an event a chunk", 1), ("packed", EVENTS_PER_PACKED_CHUNK)):
        bench.server.answer = answer(DELTAS, events_per_chunk=events_per_chunk)
        rows += _rates(bench, env, name, peers if events_per_chunk == 1 else {})
    bench.server.answer = answer(DELTAS)
    return [*rows, _anthropic(bench, env)]


def _rates(bench: Bench, env: dict[str, str], name: str, peers: dict[str, Side]) -> list[Row]:
    sides = {
        "text": bench.side([AFK, "run", "-n", "-m", MODEL, "hi"], env),
        "--json": bench.side([AFK, "run", "-n", "--json", "-m", MODEL, "hi"], env),
        "sdk": bench.side([PYTHON, PROGRAMS / "bare_turn.py"], env),
        "raw": lambda: _raw_read(bench.server),
        **peers,
    }
    results = bench.interleave(sides)
    rates = figures(results, _rate)
    case = f"{DELTAS:,} deltas, {name}"
    rows = [
        compare(case, "bare openai loop", "/s", rates["text"], rates["sdk"], goal=6, more_is_better=True),
        compare(f"{case}, --json", "bare openai loop", "/s", rates["--json"], rates["sdk"], more_is_better=True),
        compare(f"the server itself, {name}", "afk", "/s", rates["raw"], rates["text"], goal=3, more_is_better=True),
    ]
    if name != "packed":
        rows += [
            bench.against_peer(case, peer, "/s", rates["text"], rates.get(peer), goal=goal, more_is_better=True)
            for peer, goal in GOALS.items()
        ]
    cpu = figures(results, lambda one: (one.cpu - one.cpu_to_request) * 1e6 / DELTAS)  # without the start
    return [*rows, compare(f"{case}, CPU a delta", "bare openai loop", "µs", cpu["text"], cpu["sdk"])]


def _anthropic(bench: Bench, env: dict[str, str]) -> Row:
    sides = {
        "afk": bench.side([AFK, "run", "-n", "-m", ANTHROPIC, "hi"], env),
        "sdk": bench.side([PYTHON, PROGRAMS / "bare_anthropic.py"], env),
    }
    rates = figures(bench.interleave(sides), _rate)
    case = f"{DELTAS:,} deltas, anthropic"
    return compare(case, "bare anthropic loop", "/s", rates["afk"], rates["sdk"], more_is_better=True)


def _rate(one: Measured) -> float:
    return DELTAS / one.after_request


def _raw_read(server: BenchmarkServer) -> Measured:
    """Read the answer without looking at it: how fast the server is."""
    path = "/v1/chat/completions"
    left = len(server.answer.response(path) or b"")
    begin = time.monotonic()
    with socket.create_connection(server.address) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\ncontent-length: 2\r\n\r\n{{}}".encode())
        while left > 0:
            left -= len(connection.recv(1 << 16))
    seconds = time.monotonic() - begin
    return Measured(
        wall=seconds, to_request=0, cpu_to_request=0, after_request=seconds, after_first=seconds, cpu=0, peak=0
    )
