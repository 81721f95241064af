"""Answers on a terminal: rendered Markdown, to text as it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import attrgetter

from benchmarks.answers import MODEL, Answer, answer, pieces
from benchmarks.bench import AFK, DELTAS, Bench, benchmark, figures, ms
from benchmarks.measure import Measured, run_on_terminal
from benchmarks.report import Row, compare

LIMIT = 2.0
LINES = 40
SECTION = """\
## Part {n}

Plants turn **light** into *chemical* energy, see `chlorophyll` and [the article](https://example.org/{n}).

1. Light is absorbed.
2. Water is split:
   - oxygen leaves
   - protons stay

```python
def energy(photons: int) -> float:
    return photons * 3.6e-19  # joules, for green light
```

| Step | Place | Needs |
|---|---|---|
| light reactions | thylakoid | light, water |
| Calvin cycle | stroma | CO2, ATP |

"""


@benchmark("rendering")
def rendering(bench: Bench) -> list[Row]:
    """The whole process on a terminal: plain words, and Markdown of as many deltas of four characters."""
    env = bench.home("rendering")
    text = "".join(SECTION.format(n=n) for n in range(4 * DELTAS // len(SECTION)))
    answers = {"words": answer(DELTAS), "Markdown": pieces([text[at : at + 4] for at in range(0, len(text), 4)])}
    rows = []
    for name, prepared in answers.items():
        results = bench.interleave({side: _side(bench, env, prepared, side) for side in ("rendered", "plain")})
        for suffix, figure in (("", "wall"), (", CPU", "cpu")):
            took = figures(results, attrgetter(figure))
            case = f"{DELTAS:,} deltas of {name}, rendered{suffix}"
            rows.append(compare(case, "--plain", "ms", ms(took["rendered"]), ms(took["plain"]), goal=LIMIT))
    return rows


def _side(bench: Bench, env: dict[str, str], prepared: Answer, side: str) -> Callable[[], Measured]:
    options = ["--plain"] if side == "plain" else []
    command = [AFK, "run", "-n", *options, "-m", MODEL, "hi"]
    measure = partial(run_on_terminal, command, env, lines=LINES, cwd=bench.folder)

    def one() -> Measured:
        bench.server.answer = prepared
        return measure()

    return one
