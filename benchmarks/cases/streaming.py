"""The rate of a stream."""

from __future__ import annotations

import socket
import time

from benchmarks.bench import AFK, DELTAS, PROGRAMS, PYTHON, Bench, benchmark
from benchmarks.measure import Measured
from benchmarks.report import Row, compare
from benchmarks.server import MODEL, BenchmarkServer, answer

EVENTS_PER_PACKED_CHUNK = 64


@benchmark("streaming")
def streaming(bench: Bench) -> list[Row]:
    """Deltas a second, from the request's arrival to the end of the process: sealing and exit count, start-up does not.

    Memory and log are on; stdout is a pipe that is read.
    """
    env = bench.home("streaming")
    rows = []
    for name, events_per_chunk in (("an event a chunk", 1), ("packed", EVENTS_PER_PACKED_CHUNK)):
        bench.server.answer = answer(DELTAS, events_per_chunk=events_per_chunk)
        sides = {
            "text": bench.side([AFK, "run", "-n", "-m", MODEL, "hi"], env),
            "--json": bench.side([AFK, "run", "-n", "--json", "-m", MODEL, "hi"], env),
            "sdk": bench.side([PYTHON, PROGRAMS / "bare_turn.py"], env),
            "raw": lambda: _raw_read(bench.server),
        }
        results = bench.interleave(sides)
        rates = {side: [DELTAS / one.after_request for one in ones] for side, ones in results.items()}
        case = f"{DELTAS:,} deltas, {name}"
        rows += [
            compare(case, "bare SDK loop", "/s", rates["text"], rates["sdk"], goal=1.5, more_is_better=True),
            compare(f"{case}, --json", "bare SDK loop", "/s", rates["--json"], rates["sdk"], more_is_better=True),
            compare(
                f"the server itself, {name}", "afk", "/s", rates["raw"], rates["text"], goal=10, more_is_better=True
            ),
        ]
    return rows


def _raw_read(server: BenchmarkServer) -> Measured:
    """Read the answer without looking at it: how fast the server is."""
    begin = time.monotonic()
    with socket.create_connection(server.address) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}")
        left = len(server.answer)
        while left > 0:
            left -= len(connection.recv(1 << 16))
    seconds = time.monotonic() - begin
    return Measured(wall=seconds, to_request=0, cpu_to_request=0, after_request=seconds, cpu=0, peak=0)
