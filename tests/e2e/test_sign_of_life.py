"""What a person sees while afk waits: a line with the seconds, which leaves nothing behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from afkcli.testing.model_server import Fault, ModelServer, Step
from tests.e2e.shell import AFK, Shell
from tests.terminal import Terminal

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
FIRST = Step(text=["Hello ", "world"], fault=Fault.HANG, fault_after=0)
"""It says nothing until the server is told to."""
MIDDLE = Step(text=["Hello ", "world"], fault=Fault.HANG, fault_after=1)


@contextmanager
def terminal(shell: Shell, *arguments: str, columns: int = 80, lines: int = 24, **env: str) -> Iterator[Terminal]:
    """Run `afk` on a terminal of its own."""
    environment = shell.environment(LANG="C.UTF-8", **env)
    with Terminal([AFK, *arguments], columns=columns, lines=lines, environment=environment, folder=shell.folder) as own:
        yield own


def final_text(own: Terminal) -> str:
    """Wait for the end of the command, and return all that is left on the terminal, without what differs by run."""
    assert own.wait_for_end() == 0, own.text()
    return re.sub(r"[0-9a-f]{8}-[-0-9a-f]+|[\d.,]+ s\b", "-", own.text())


def waiting_line(own: Terminal) -> str:
    """Return the line that is drawn, "" if there is none."""
    return next((line for line in own.screen().splitlines() if line[:1] in FRAMES and line), "")


@pytest.mark.parametrize(
    ("step", "words"),
    [(FIRST, "waiting for the first token ("), (MIDDLE, "waiting for more of the answer (")],
    ids=["first", "more"],
)
@pytest.mark.parametrize("lines", [24, 4], ids=["empty", "full"])
def test_a_wait_for_the_model_is_shown_and_leaves_nothing_behind(
    keyed: Shell, server: ModelServer, step: Step, words: str, lines: int
) -> None:
    server.script(Step(text=["Hello ", "world"]))
    with terminal(keyed, "run", "hi", lines=lines) as own:
        without = final_text(own)

    server.script(step)
    with terminal(keyed, "run", "hi", lines=lines) as own:
        own.wait_for(words)
        assert waiting_line(own)
        server.release()
        assert final_text(own) == without
