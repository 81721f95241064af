"""The measurements. Each case returns the rows of the table that it fills."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path

from benchmarks.measure import Measured, ProgramFailedError, environment, interleaved, own_peak, run
from benchmarks.peer import NotInstalledError, configure, install
from benchmarks.programs.long_thread import ANSWER, QUESTION
from benchmarks.report import Row, compare
from benchmarks.server import MODEL, BenchmarkServer, answer, pieces

PROGRAMS = Path(__file__).parent / "programs"
AFK = Path(sys.executable).with_name("afk")
PYTHON = Path(sys.executable)
DELTAS = 20_000
FEW_DELTAS = 200
MANY_RUNS = 200
LONG_TURNS, SHORT_TURNS = 2_500, 5  # two messages a turn
EVENTS_PER_PACKED_CHUNK = 64
PIECE_MB = 1
EVENTS, EVENT_KB = 50, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The common parts of the cases: the server, a folder, the rounds, and the output for progress.

    `before` is the `afk` program of another version of afk, for the case `versions`.
    """

    server: BenchmarkServer
    folder: Path
    runs: int
    say: Callable[[str], None]
    peer: bool = True
    before: Path | None = None

    def home(self, name: str) -> dict[str, str]:
        """Make an empty home and return the environment of a program that lives there."""
        home = self.folder / name
        home.mkdir()
        return environment(
            home, OPENAI_BASE_URL=self.server.base_url, OPENAI_API_KEY="none", BENCH_MODEL=MODEL, AFK_DEMO="off"
        )

    def side(
        self, command: Sequence[str | Path], env: dict[str, str], *, requests: bool = True
    ) -> Callable[[], Measured]:
        """Return the call that measures one run of `command`."""
        return lambda: run(command, env, self.server if requests else None, cwd=self.folder)

    def interleave(self, sides: dict[str, Callable[[], Measured]]) -> dict[str, list[Measured]]:
        return interleaved(sides, self.runs, self.say)


def _ms(values: Sequence[float]) -> list[float]:
    return [value * 1000 for value in values]


def start_to_request(bench: Bench) -> list[Row]:
    """From exec to the arrival of the request at the server, memory and log on, the thread existing."""
    bench.server.answer = answer(1)
    env = bench.home("start")
    sides = {
        "afk": bench.side([AFK, "run", "-n", "-t", "bench", "-m", MODEL, "hi"], env),
        "sdk": bench.side([PYTHON, PROGRAMS / "bare_turn.py"], env),
        "pass": bench.side([PYTHON, "-c", "pass"], env, requests=False),
    }
    why_no_peer = "left out with --no-peer"
    if bench.peer:
        try:
            bench.say("installing the peer llm")
            llm = install(bench.folder)
            env_of_peer = {**env, **configure(bench.folder, bench.server.base_url)}
            run([llm, "-m", "bench", "hi"], env_of_peer, bench.server, cwd=bench.folder)  # begins the conversation
            sides["llm"] = bench.side([llm, "-c", "-m", "bench", "hi"], env_of_peer)
        except NotInstalledError as error:
            why_no_peer = str(error)
    bench.side([AFK, "run", "-n", "-t", "bench", "-m", MODEL, "hi"], env)()  # begins the thread
    results = bench.interleave(sides)
    mine = _ms([one.to_request for one in results["afk"]])
    case = "exec to request-at-server"
    cpu = {name: _ms([one.cpu_to_request for one in ones]) for name, ones in results.items()}
    rows = [
        compare(case, "bare openai SDK", "ms", mine, _ms([one.to_request for one in results["sdk"]]), goal=1.25),
        compare(f"{case}, CPU", "bare openai SDK", "ms", cpu["afk"], cpu["sdk"]),
        compare(case, "python -c pass", "ms", mine, _ms([one.wall for one in results["pass"]])),
    ]
    if "llm" in results:
        rows.append(compare(case, "llm from PyPI", "ms", mine, _ms([one.to_request for one in results["llm"]])))
    else:
        rows.append(Row(case=case, against="llm from PyPI", unit="ms", note=why_no_peer))
    return rows


def small_commands(bench: Bench) -> list[Row]:
    """Commands that ask no model."""
    env = bench.home("small")
    sides = {
        "click": bench.side([PYTHON, "-c", "import click"], env, requests=False),
        "--version": bench.side([AFK, "--version"], env, requests=False),
        "--help": bench.side([AFK, "--help"], env, requests=False),
        "threads": bench.side([AFK, "threads"], env, requests=False),
    }
    results = bench.interleave(sides)
    click = _ms([one.wall for one in results["click"]])
    goals = {"--version": 2.0, "--help": None, "threads": None}
    return [
        compare(f"afk {name}", "import click", "ms", _ms([one.wall for one in results[name]]), click, goal=goal)
        for name, goal in goals.items()
    ]


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
    cpu = {name: _ms([one.cpu for one in ones]) for name, ones in results.items()}
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


def memory(bench: Bench) -> list[Row]:
    """The largest resident memory of a run of many deltas, to that of one of few."""
    env = bench.home("memory")
    command: list[str | Path] = [AFK, "run", "-n", "-m", MODEL, "hi"]

    def measure(deltas: int) -> Callable[[], Measured]:
        prepared = answer(deltas)

        def one() -> Measured:
            bench.server.answer = prepared
            return run(command, env, bench.server, cwd=bench.folder)

        return one

    results = bench.interleave({"many": measure(DELTAS), "few": measure(FEW_DELTAS)})
    peaks = {name: [one.peak / 1e6 for one in ones] for name, ones in results.items()}
    note = f"the benchmark's own peak, below which it cannot see: {own_peak() / 1e6:.0f} MB"
    case = f"peak memory, {DELTAS:,} deltas"
    return [compare(case, f"{FEW_DELTAS} deltas", "MB", peaks["many"], peaks["few"], note=note)]


def growth(bench: Bench) -> list[Row]:
    """The time for two and four times the size, to that for once: what grows with the square shows as 4 and 16."""
    env = bench.home("growth")
    command: list[str | Path] = [AFK, "run", "-n", "--json", "-m", MODEL, "hi"]
    answers: dict[str, Callable[[int], list[str]]] = {
        f"one piece of {PIECE_MB} MB": lambda times: ["x" * (PIECE_MB << 20) * times],
        f"{EVENTS} pieces of {EVENT_KB} KB": lambda times: ["x" * (EVENT_KB << 10)] * (EVENTS * times),
    }

    def measure(prepared: bytes) -> Callable[[], Measured]:
        def one() -> Measured:
            bench.server.answer = prepared
            return run(command, env, bench.server, cwd=bench.folder)

        return one

    rows = []
    for name, texts in answers.items():
        results = bench.interleave({str(times): measure(pieces(texts(times))) for times in (1, 2, 4)})
        took = {side: _ms([one.after_request for one in ones]) for side, ones in results.items()}
        rows += [
            compare(
                f"{name}, --json, {times} times as much", "once", "ms", took[str(times)], took["1"], goal=times * 1.2
            )
            for times in (2, 4)
        ]
    return rows


def bad_sinks(bench: Bench) -> list[Row]:
    """A run with a sink that raises or blocks, to the same run without it: to its request, and on to its end."""
    bench.server.answer = answer(DELTAS)
    env = bench.home("sinks")
    command: list[str | Path] = [AFK, "run", "-n", "-m", MODEL, "hi"]
    with_sink = [*command[:-1], "--plugin", PROGRAMS / "bad_sinks.py", "hi"]
    results = bench.interleave(
        {
            "none": bench.side(command, env),
            "raises": bench.side(with_sink, {**env, "BENCH_SINK": "raises"}),
            "blocks": bench.side(with_sink, {**env, "BENCH_SINK": "blocks"}),
        }
    )
    rows = []
    for name in ("raises", "blocks"):
        to_request, streamed = (
            {side: _ms([moment(one) for one in results[side]]) for side in ("none", name)}
            for moment in (attrgetter("to_request"), attrgetter("after_request"))
        )
        rows += [
            compare(f"exec to request, a sink {name}", "without", "ms", to_request[name], to_request["none"]),
            compare(f"{DELTAS:,} deltas, a sink {name}", "without", "ms", streamed[name], streamed["none"]),
        ]
    return rows


def stopping(bench: Bench) -> list[Row]:
    """From a signal in the middle of an answer, whose reader has stopped reading, to the end of the process."""
    bench.server.answer = answer(DELTAS)
    env = bench.home("stopping")
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    results = bench.interleave({number.name: partial(_stopped, env, bench.folder, number) for number in numbers})
    return [
        compare(
            f"{name} to the end of afk", "a second", "ms", _ms([one.wall for one in ones]), [1000.0] * len(ones), goal=1
        )
        for name, ones in results.items()
    ]


def _stopped(env: dict[str, str], folder: Path, number: signal.Signals) -> Measured:
    """Stop a run by a signal when the first of its answer was read; `wall` is how long it took."""
    command: list[str | Path] = [AFK, "run", "-n", "-m", MODEL, "hi"]
    with subprocess.Popen(
        command, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        process.stdout.read(100)
        begin = time.monotonic()
        process.send_signal(number)
        process.wait()
        wall = time.monotonic() - begin
    if process.returncode != -number:
        raise ProgramFailedError(f"afk ended with {process.returncode} of {number.name}")
    return Measured(wall=wall, to_request=0, cpu_to_request=0, after_request=wall, cpu=0, peak=0)


def versions(bench: Bench) -> list[Row]:
    """This afk against another version of it, in turn: the same commands, each version with a home of its own."""
    if bench.before is None:
        return [Row(case="two versions", against="", unit="", note="left out without --before PROGRAM")]
    programs = {"now": AFK, "before": bench.before}
    homes = {name: bench.home(f"versions-{name}") for name in programs}
    for name, program in programs.items():
        for turn in range(SHORT_TURNS):
            bench.server.answer = answer(1)
            run(
                [program, "run", "-n", "-t", "bench", "-m", MODEL, f"hi {turn}"],
                homes[name],
                bench.server,
                cwd=bench.folder,
            )
    ask: list[str | Path] = ["run", "-n", "-t", "bench", "-m", MODEL, "hi"]
    many: list[str | Path] = ["run", "-n", "-m", MODEL, "hi"]
    measured: list[tuple[str, str, int, list[str | Path], Callable[[Measured], float]]] = [
        ("exec to request-at-server", "ms", 1, ask, attrgetter("to_request")),
        ("CPU of a short turn", "ms", 1, ask, attrgetter("cpu")),
        (f"{DELTAS:,} deltas, to the end", "ms", DELTAS, many, attrgetter("after_request")),
        (f"{DELTAS:,} deltas, --json", "ms", DELTAS, [*many[:2], "--json", *many[2:]], attrgetter("after_request")),
        (f"peak memory, {DELTAS:,} deltas", "MB", DELTAS, many, attrgetter("peak")),
        ("afk --version", "ms", 0, ["--version"], attrgetter("wall")),
        ("afk --help", "ms", 0, ["--help"], attrgetter("wall")),
        ("afk run --help", "ms", 0, ["run", "--help"], attrgetter("wall")),
        ("afk threads", "ms", 0, ["threads"], attrgetter("wall")),
    ]
    rows = []
    for case, unit, deltas, arguments, figure in measured:
        bench.server.answer = answer(max(1, deltas))
        sides = {
            name: bench.side([program, *arguments], homes[name], requests=deltas > 0)
            for name, program in programs.items()
        }
        results = bench.interleave(sides)
        scale = 1e-6 if unit == "MB" else 1e3
        now, before = ([figure(one) * scale for one in results[name]] for name in ("now", "before"))
        rows.append(compare(case, "the version before", unit, now, before))
    return rows


def many_runs(bench: Bench) -> list[Row]:
    """Many runs at once in one process and event loop, memory and log on, against the same calls by the bare SDK."""
    bench.server.answer = answer(FEW_DELTAS)
    env = bench.home("many")
    sides = {
        name: bench.side([PYTHON, PROGRAMS / "many_runs.py", name, str(MANY_RUNS)], env) for name in ("afk", "sdk")
    }
    results = bench.interleave(sides)
    case = f"{MANY_RUNS} runs at once in a process"
    wall, cpu = ({name: [moment(one) for one in ones] for name, ones in results.items()} for moment in _OF_MANY)
    peak = {name: [one.peak / 1e6 for one in ones] for name, ones in results.items()}
    return [
        compare(case, "bare AsyncOpenAI", "ms", _ms(wall["afk"]), _ms(wall["sdk"])),
        compare(f"{case}, CPU", "bare AsyncOpenAI", "ms", _ms(cpu["afk"]), _ms(cpu["sdk"])),
        compare(f"{case}, peak memory", "200 MB", "MB", peak["afk"], [200.0] * len(peak["afk"]), goal=1),
    ]


_OF_MANY = (attrgetter("wall"), attrgetter("cpu"))


CASES: dict[str, Callable[[Bench], list[Row]]] = {
    "start": start_to_request,
    "commands": small_commands,
    "streaming": streaming,
    "thread": long_thread,
    "memory": memory,
    "growth": growth,
    "sinks": bad_sinks,
    "stopping": stopping,
    "many": many_runs,
    "versions": versions,
}
