"""SIGKILL at each write of a turn that compacts its thread: no turn is lost, none is doubled, and each one is sent."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afkcli.core.thread.compactions import INTRODUCTION
from afkcli.testing.model_script import Step
from afkcli.testing.model_server import RecordedRequest
from tests.e2e.shell import Shell
from tests.faults.ledger import KeptThread, kept_thread
from tests.faults.table import Row
from tests.faults.world import PLUGINS, World, faulty_store, new_world

_TURNS = 8
_WORDS = "word " * 80  # 100 tokens; eight of them do not fit into the window
_CONFIG = f'[plugins]\npaths = ["{PLUGINS / "faulty_store.py"}"]\n'
_SMALL = '[windows]\n"openai/gpt-5.2-mini" = 1000\n\n[context]\npolicy = "compact"\n'


@dataclass(frozen=True, slots=True)
class _Way:
    """A way to compact a thread: the arguments of the command, and the question that it asks, if it asks one."""

    name: str
    arguments: tuple[str, ...]
    question: str | None


_WAYS = (
    _Way("run", ("run", "--json", "-t", "t", "killed"), "killed"),
    _Way("retry", ("run", "--json", "-t", "t", "--retry"), None),
    _Way("compact", ("threads", "compact", "t"), None),
)


def killed(seed: str, tries: int) -> Row:
    """Have each way kill itself between the store's writes, `tries` times at most, each in a home of its own."""
    row = Row(case="SIGKILL in a turn that compacts")
    with new_world(seed) as world:
        world.server.answer_with(_answer)
        base = _base(world)
        for way in _WAYS:
            points = _points(world, base, way)
            if not any("compacted" in line for line in _records(world.root / f"home of {way.name}")):
                row.problems.append(f"{way.name}: an undisturbed one makes no compaction")
            chosen = world.chance(way.name).sample(range(1, len(points) + 1), min(tries, len(points)))
            died = sum(_try(world, base, way, at, points[at - 1], row) for at in sorted(chosen))
            row.notes.append(f"{way.name}: {died} of {len(chosen)} died at one of {len(points)} points")
    return row


def _answer(request: RecordedRequest) -> Step:
    """Summarise where that is asked for, in words that no question has; else answer."""
    asked = str(request.body["messages"][0]["content"]).startswith("You summarise")
    return Step(text=("a ", "short ", "summary") if asked else ("an ", "answer"), delay_between=0.02)


def _base(world: World) -> Path:
    """Return a home whose thread `t` has eight turns that do not fit into the window that its config says now."""
    home = world.shell.home / "afk"
    (home / "config").mkdir(parents=True)
    for number in range(_TURNS):
        world.afk("run", "-t", "t", f"{number} {_WORDS}")
    (home / "config" / "config.toml").write_text(_CONFIG + _SMALL)
    return home


def _points(world: World, base: Path, way: _Way) -> list[str]:
    """Return the points that an undisturbed one passes."""
    file = world.root / f"points of {way.name}"
    _home(world, base, way).afk(*way.arguments, **faulty_store(points=file))
    return file.read_text().splitlines()


def _home(world: World, base: Path, way: _Way) -> Shell:
    home = world.root / f"home of {way.name}"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(base, home / "afk")
    return Shell(home=home, folder=world.shell.folder, env=world.shell.env)


def _records(home: Path) -> list[str]:
    shell = Shell(home=home, folder=home)
    return shell.afk("threads", "export", "t").out.splitlines()


def _try(world: World, base: Path, way: _Way, at: int, point: str, row: Row) -> bool:
    """Kill one at a point; return whether it died there."""
    row.tries += 1
    shell = _home(world, base, way)
    done = shell.afk(*way.arguments, **faulty_store(kill_at=at))
    problems = _check(world, shell, way, began="run_started" in done.out)
    if done.code not in (0, -signal.SIGKILL):
        problems.append(f"ended with {done.code}: {done.err}")
    row.problems += [f"{way.name} killed at {at}, {point} (seed {world.seed}): {problem}" for problem in problems]
    row.finished += not problems
    return done.code == -signal.SIGKILL


def _check(world: World, shell: Shell, way: _Way, *, began: bool) -> list[str]:
    """Ask another question, and return what is wrong with the thread and with what was sent of it."""
    after = shell.afk("run", "-t", "t", "after")
    problems = [f"the next run ended with {after.code}: {after.err}"] if after.code else []
    request = world.server.requests[-1]
    exported = shell.afk("threads", "export", "t").out
    thread = kept_thread(exported)
    problems += [f"damaged: {line}" for line in thread.damage]
    asked = [turn.question for turn in thread.turns]
    base = [f"{number} {_WORDS}" for number in range(_TURNS)]
    if asked[:_TURNS] != base or asked.count("after") != 1:
        problems.append(f"the questions are {[question[:8] for question in asked]}")
    if way.question is not None and asked.count(way.question) not in ((1,) if began else (0, 1)):
        problems.append(f"the question was kept {asked.count(way.question)} times")
    return problems + _check_sent(shell, thread, _made(exported), request) + _check_cost(shell)


def _made(exported: str) -> list[dict[str, Any]]:
    """Return the compactions of an exported thread."""
    lines = [json.loads(line) for line in exported.splitlines()]
    bodies = [json.loads(line["body"]) for line in lines if line["type"] == "record" and line["kind"] == "meta"]
    return [body for body in bodies if body.get("kind") == "compacted"]


def _check_sent(shell: Shell, thread: KeptThread, made: list[dict[str, Any]], request: RecordedRequest) -> list[str]:
    """Each turn that is seen is sent once: itself, or in the summary."""
    text = "\n".join(str(message["content"]) for message in request.body["messages"])
    if INTRODUCTION in text and not made:
        return ["a summary was sent that the thread does not have"]
    covers = made[-1]["covers"] if INTRODUCTION in text else []
    seen = {turn["turn"] for turn in shell.afk("threads", "show", "t", "--json").events}
    problems = []
    for turn in thread.turns:
        if turn.number not in seen or turn.question in ("after", "killed"):
            continue
        in_summary = any(first <= turn.number <= last for first, last in covers)
        times = text.count(turn.question)
        if times != (0 if in_summary else 1):
            problems.append(f"turn {turn.number} was sent {times} times, and the summary has {covers}")
    return problems


def _check_cost(shell: Shell) -> list[str]:
    """What the thread took is what its turns and its compactions took together."""
    [info] = shell.afk("threads", "--json").events
    rows = [row for row in shell.afk("usage", "--json").events if row["type"] == "usage"]
    tokens = sum(row["usage"]["total_tokens"] for row in rows)
    if info["usage"]["total_tokens"] != tokens:
        return [f"the thread took {info['usage']['total_tokens']} tokens, its records say {tokens}"]
    return []
