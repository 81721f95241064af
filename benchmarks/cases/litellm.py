"""The provider litellm, in an environment of its own: LiteLLM cannot be installed beside the newest openai SDK."""

from __future__ import annotations

from operator import attrgetter

from benchmarks.answers import MODEL, answer
from benchmarks.bench import DELTAS, PROGRAMS, Bench, benchmark, figures, ms
from benchmarks.peers.installing import Installed
from benchmarks.report import Row, compare

AGAINST = "bare litellm script"


@benchmark("litellm", peers=("litellm",))
def litellm(bench: Bench) -> list[Row]:
    """The cases `start` and `streaming` with the provider litellm, to a bare script over LiteLLM."""
    start, stream = "exec to request, litellm", f"{DELTAS:,} deltas, litellm"
    python = bench.peers.get("litellm", "left out")
    if not isinstance(python, Installed):
        return [
            Row(case=case, against=AGAINST, unit=unit, note=python) for case, unit in ((start, "ms"), (stream, "/s"))
        ]
    env = bench.home("litellm")
    afk = python.program.with_name("afk")
    sides = {
        "afk": bench.side([afk, "run", "-n", "-t", "bench", "-m", f"litellm/openai/{MODEL}", "hi"], env),
        "bare": bench.side([python.program, PROGRAMS / "bare_litellm.py"], env),
    }
    rows = []
    bench.server.answer = answer(1)
    results = bench.interleave(sides)
    for case, figure in ((start, "to_request"), (f"{start}, CPU", "cpu_to_request")):
        took = figures(results, attrgetter(figure))
        rows.append(compare(case, AGAINST, "ms", ms(took["afk"]), ms(took["bare"])))
    bench.server.answer = answer(DELTAS)
    rates = figures(bench.interleave(sides), lambda one: DELTAS / one.after_request)
    return [*rows, compare(stream, AGAINST, "/s", rates["afk"], rates["bare"], more_is_better=True)]
