"""Sinks that raise, block or disappear: reported once and left out; the run is not changed."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tests.faults.ledger import settle
from tests.faults.server import numbered
from tests.faults.table import Row
from tests.faults.world import PLUGINS, World, new_world

_KINDS = ("raises", "blocks", "full pipe", "dead socket", "FIFO without reader")
_WITH_FAULTY_SINK = ("--plugin", str(PLUGINS / "faulty_sink.py"))
_REPORTED = "the sink 'faulty_sink' is left out"


def misbehaving(seed: str) -> Row:
    """Run once with each kind of sink, and with one of them as text, as a person sees it."""
    row = Row(case="sinks that misbehave", tries=len(_KINDS) + 1)
    with new_world(seed, numbered(20, 0.005)) as world:
        os.mkfifo(world.root / "fifo")
        with ThreadPoolExecutor(3) as pool:
            for problems in pool.map(lambda kind: _run_with(world, kind), _KINDS):
                row.problems += problems
        row.problems += _run_as_text(world, "raises")
        settle(world, row, last_word=False)
    return row


def _run_with(world: World, kind: str) -> list[str]:
    env = {"AFK_TEST_SINK": kind, "AFK_TEST_FIFO": str(world.root / "fifo")}
    problems = []
    running = world.run(kind, f"json with {kind}", _WITH_FAULTY_SINK, **env)
    warnings = [event["message"] for event in running.events() if event["type"] == "warning"]
    reported = warnings + running.stderr.splitlines()
    if running.process.returncode != 0 or len(reported) != 1 or _REPORTED not in reported[0]:
        problems.append(f"{kind}, --json: ended with {running.process.returncode}, reported {reported}")
    return problems


def _run_as_text(world: World, kind: str) -> list[str]:
    shell = replace(world.shell, env={**world.shell.env, "AFK_TEST_SINK": kind})
    message = f"text with {kind}"
    done = shell.afk("run", "-t", kind, *_WITH_FAULTY_SINK, message)
    answer = f"{message}: " + " ".join(f"w{number}" for number in range(1, 21)) + "\n"
    if (done.code, done.out) == (0, answer) and done.err.count("\n") == 1 and _REPORTED in done.err:
        return []
    return [f"{kind}: {done}"]
