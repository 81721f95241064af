"""The start: from exec to the arrival of the request."""

from __future__ import annotations

from operator import attrgetter

from benchmarks.answers import MODEL, answer
from benchmarks.bench import AFK, ANTHROPIC, PROGRAMS, PYTHON, Bench, benchmark, figures, ms
from benchmarks.report import Row, compare

LIMIT = 1.1


@benchmark("start", peers=("llm", "codex", "claude"))
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
    sides |= bench.peer_sides(env, ["llm", "codex", "claude"])
    results = bench.interleave(sides)
    took = {name: ms(values) for name, values in figures(results, attrgetter("to_request")).items()}
    cpu = {name: ms(values) for name, values in figures(results, attrgetter("cpu_to_request")).items()}
    case = "exec to request"
    rows = []
    for provider, mine, other in (("openai", "afk", "sdk"), ("anthropic", "afk anthropic", "sdk anthropic")):
        against = f"bare {provider} script"
        rows.append(compare(f"{case}, {provider}", against, "ms", took[mine], took[other], goal=LIMIT))
        rows.append(compare(f"{case}, {provider}, CPU", against, "ms", cpu[mine], cpu[other]))
    whole = ms([one.wall for one in results["pass"]])
    return [
        *rows,
        compare(f"{case}, openai", "python -c pass", "ms", took["afk"], whole),
        bench.against_peer(f"{case}, openai", "llm", "ms", took["afk"], took.get("llm")),
        bench.against_peer(f"{case}, openai", "codex", "ms", took["afk"], took.get("codex")),
        bench.against_peer(f"{case}, anthropic", "claude", "ms", took["afk anthropic"], took.get("claude")),
    ]
