"""The start: from exec to the arrival of the request."""

from __future__ import annotations

from operator import attrgetter

from benchmarks.answers import MODEL, answer
from benchmarks.bench import AFK, ANTHROPIC, PROGRAMS, PYTHON, Bench, benchmark, figures, ms
from benchmarks.peers.installing import Installed
from benchmarks.report import Row, compare

LIMIT = 1.1


@benchmark("start", peers=("llm", "codex", "claude", "litellm"))
def start_to_request(bench: Bench) -> list[Row]:
    """From exec to the arrival of the request at the server, memory and log on, the thread existing."""
    bench.server.answer = answer(1)
    env = bench.home("start")
    sides = {
        "afk": bench.side([AFK, "run", "-n", "-t", "openai", "-m", MODEL, "hi"], env),
        "sdk": bench.side([PYTHON, PROGRAMS / "bare_turn.py"], env),
        "afk anthropic": bench.side([AFK, "run", "-n", "-t", "anthropic", "-m", ANTHROPIC, "hi"], env),
        "sdk anthropic": bench.side([PYTHON, PROGRAMS / "bare_anthropic.py"], env),
        "pass": bench.side([PYTHON, "-c", "pass"], env, requests=False),
    }
    litellm = bench.peers.get("litellm", "left out")
    if isinstance(litellm, Installed):
        afk = litellm.program.with_name("afk")
        sides["afk litellm"] = bench.side(
            [afk, "run", "-n", "-t", "litellm", "-m", f"litellm/openai/{MODEL}", "hi"], env
        )
        sides["sdk litellm"] = bench.side([litellm.program, PROGRAMS / "bare_litellm.py"], env)
    sides |= bench.peer_sides(env, ["llm", "codex", "claude"])
    results = bench.interleave(sides)
    took = {name: ms(values) for name, values in figures(results, attrgetter("to_request")).items()}
    cpu = {name: ms(values) for name, values in figures(results, attrgetter("cpu_to_request")).items()}
    case = "exec to request"
    rows = []
    for provider, mine, other, goal in (
        ("openai", "afk", "sdk", LIMIT),
        ("anthropic", "afk anthropic", "sdk anthropic", LIMIT),
        ("litellm", "afk litellm", "sdk litellm", None),
    ):
        against = f"bare {provider} script"
        if mine not in took:
            rows.append(Row(case=f"{case}, {provider}", against=against, unit="ms", note=str(litellm)))
            continue
        rows.append(compare(f"{case}, {provider}", against, "ms", took[mine], took[other], goal=goal))
        rows.append(compare(f"{case}, {provider}, CPU", against, "ms", cpu[mine], cpu[other]))
    whole = ms([one.wall for one in results["pass"]])
    return [
        *rows,
        compare(f"{case}, openai", "python -c pass", "ms", took["afk"], whole),
        bench.against_peer(f"{case}, openai", "llm", "ms", took["afk"], took.get("llm")),
        bench.against_peer(f"{case}, openai", "codex", "ms", took["afk"], took.get("codex")),
        bench.against_peer(f"{case}, anthropic", "claude", "ms", took["afk anthropic"], took.get("claude")),
    ]
