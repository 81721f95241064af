"""The start: exec to the arrival of the request."""

from __future__ import annotations

from benchmarks.bench import AFK, PROGRAMS, PYTHON, Bench, benchmark, ms
from benchmarks.measure import run
from benchmarks.peer import NotInstalledError, configure, install
from benchmarks.report import Row, compare
from benchmarks.server import MODEL, answer


@benchmark("start")
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
    mine = ms([one.to_request for one in results["afk"]])
    case = "exec to request-at-server"
    cpu = {name: ms([one.cpu_to_request for one in ones]) for name, ones in results.items()}
    rows = [
        compare(case, "bare openai SDK", "ms", mine, ms([one.to_request for one in results["sdk"]]), goal=1.25),
        compare(f"{case}, CPU", "bare openai SDK", "ms", cpu["afk"], cpu["sdk"]),
        compare(case, "python -c pass", "ms", mine, ms([one.wall for one in results["pass"]])),
    ]
    if "llm" in results:
        rows.append(compare(case, "llm from PyPI", "ms", mine, ms([one.to_request for one in results["llm"]])))
    else:
        rows.append(Row(case=case, against="llm from PyPI", unit="ms", note=why_no_peer))
    return rows
