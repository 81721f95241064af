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


@scenario("answer")
def answer(stage: Stage) -> None:
    """An answer in Markdown on 80 columns."""
    stage.server.script(Step(text=ANSWER))
    with stage.terminal("run", "What is photosynthesis?") as terminal:
        terminal.wait_for_end()
        stage.picture(terminal)


@scenario("answer-narrow")
def narrow(stage: Stage) -> None:
    """The same answer on 40 columns."""
    stage.server.script(Step(text=ANSWER))
    with stage.terminal("run", "What is photosynthesis?", columns=40) as terminal:
        terminal.wait_for_end()
        stage.picture(terminal)


@scenario("answer-no-color")
def no_color(stage: Stage) -> None:
    """The same answer with NO_COLOR."""
    stage.server.script(Step(text=ANSWER))
    with stage.terminal("run", "What is photosynthesis?", NO_COLOR="1") as terminal:
        terminal.wait_for_end()
        stage.picture(terminal)


@scenario("answer-dumb")
def dumb(stage: Stage) -> None:
    """The same answer on a dumb terminal."""
    stage.server.script(Step(text=ANSWER))
    with stage.terminal("run", "What is photosynthesis?", TERM="dumb") as terminal:
        terminal.wait_for_end()
        stage.picture(terminal)


@scenario("answer-accessible")
def accessible(stage: Stage) -> None:
    """The same answer for a screen reader."""
    stage.server.script(Step(text=ANSWER))
    with stage.terminal("run", "What is photosynthesis?", ACCESSIBLE="1") as terminal:
        terminal.wait_for_end()
        stage.picture(terminal)
