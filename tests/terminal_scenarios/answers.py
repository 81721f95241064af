"""Answers on terminals of several kinds and sizes."""

from __future__ import annotations

from afkcli.testing.model_server import Step
from tests.terminal_pictures import Stage, scenario

ANSWER = """\
# Photosynthesis

Plants turn **light** into *chemical* energy, see `chlorophyll` and
[the article](https://example.org/photosynthesis).

1. Light is absorbed.
2. Water is split:
   - oxygen leaves
   - protons stay
3. Sugar is made.

> Without it there would be no food.

```python
def energy(photons: int) -> float:
    return photons * 3.6e-19  # joules, for green light
```

| Step | Place | Needs |
|---|---|---|
| light reactions | thylakoid | light, water |
| Calvin cycle | stroma | CO2, ATP |

That is all.
"""


def answered(stage: Stage, columns: int = 80, **variables: str) -> None:
    stage.server.script(Step(text=ANSWER))
    with stage.terminal("run", "What is photosynthesis?", columns=columns, **variables) as terminal:
        terminal.wait_for_end()
        stage.picture(terminal)


@scenario("answer")
def answer(stage: Stage) -> None:
    """An answer in Markdown on 80 columns."""
    answered(stage)


@scenario("answer-narrow")
def narrow(stage: Stage) -> None:
    """The same answer on 40 columns."""
    answered(stage, columns=40)


@scenario("answer-no-color")
def no_color(stage: Stage) -> None:
    """The same answer with NO_COLOR."""
    answered(stage, NO_COLOR="1")


@scenario("answer-dumb")
def dumb(stage: Stage) -> None:
    """The same answer on a dumb terminal."""
    answered(stage, TERM="dumb")


@scenario("answer-accessible")
def accessible(stage: Stage) -> None:
    """The same answer for a screen reader."""
    answered(stage, ACCESSIBLE="1")
