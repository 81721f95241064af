"""One more turn in a long thread."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench import AFK, PROGRAMS, PYTHON, Bench, benchmark, ms
from benchmarks.measure import Measured, run
from benchmarks.programs.long_thread import ANSWER, QUESTION
from benchmarks.report import Row, compare
from benchmarks.server import MODEL, answer

LONG_TURNS, SHORT_TURNS = 2_500, 5  # two messages a turn


@benchmark("thread")
def long_thread(bench: Bench) -> list[Row]:
    """CPU time of one more turn in a thread of 5,000 messages, to that in one of 10, without the request's body.

    The body is taken out by a provider that does everything but build and send it (programs/instant.py): it imports the
    SDK and makes its client, then answers at once. Without the SDK, in the second row, only afk's own work is left.
    The third row is a whole turn, body included, against a bare script that sends the same body.
    """
    bench.server.answer = answer(1)
    env = bench.home("threads")
    home, saved = Path(env["AFK_HOME"]), bench.folder / "saved"
    for name, turns in (("long", LONG_TURNS), ("short", SHORT_TURNS)):
        subprocess.run([PYTHON, PROGRAMS / "long_thread.py", name, str(turns)], env=env, check=True)
    body = bench.folder / "long.json"
    body.write_text(json.dumps(_messages(LONG_TURNS)), encoding="utf-8")
    shutil.copytree(home, saved)

    def turn(name: str, variables: dict[str, str], *model: str | Path) -> Callable[[], Measured]:
        def measure() -> Measured:
            shutil.rmtree(home)
            shutil.copytree(saved, home)  # every turn is the same turn
            command: list[str | Path] = [AFK, "run", "-n", "-t", name, *model, "hi"]
            return run(command, {**env, **variables}, bench.server if MODEL in model else None, cwd=bench.folder)

        return measure

    instant = ("--plugin", PROGRAMS / "instant.py", "-m", "instant/instant")
    sdk = {"BENCH_SDK": "1"}
    results = bench.interleave(
        {
            "long": turn("long", sdk, *instant),
            "short": turn("short", sdk, *instant),
            "long alone": turn("long", {}, *instant),
            "short alone": turn("short", {}, *instant),
            "long sent": turn("long", {}, "-m", MODEL),
            "bare sent": bench.side([PYTHON, PROGRAMS / "bare_turn.py", body], env),
        }
    )
    cpu = {name: ms([one.cpu for one in ones]) for name, ones in results.items()}
    case = f"CPU of a turn after {LONG_TURNS * 2:,} messages"
    against = f"after {SHORT_TURNS * 2}"
    return [
        compare(case, against, "ms", cpu["long"], cpu["short"], goal=1.5),
        compare(f"{case}, no SDK", against, "ms", cpu["long alone"], cpu["short alone"]),
        compare(f"{case}, sent", "bare SDK, same body", "ms", cpu["long sent"], cpu["bare sent"]),
    ]


def _messages(turns: int) -> list[dict[str, str]]:
    """Return the messages of a thread that programs/long_thread.py made, as the bare script sends them."""
    pair = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    return [*pair * turns, {"role": "user", "content": "hi"}]
