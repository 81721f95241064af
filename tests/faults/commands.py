"""SIGKILL inside commands that write to the store: an import, a migration, a resumption, changes of a thread."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.shell import Shell
from tests.faults.ledger import KeptThread, kept_thread, shown_text
from tests.faults.server import numbered
from tests.faults.table import Row
from tests.faults.world import PLUGINS, World, faulty_store, new_world, wait_until


@dataclass(frozen=True, slots=True)
class _Command:
    """A command, the setup before it, and the check after it was killed (one line for each problem)."""

    name: str
    arguments: tuple[str, ...]
    prepare: Callable[[Shell, Path], None]
    check: Callable[[Shell, Path], list[str]]


def killed(seed: str, tries: int) -> Row:
    """Have each command kill itself between the store's writes, `tries` times at most, each in a home of its own."""
    row = Row(case="SIGKILL in commands that write")
    with new_world(seed, numbered(40, 0.01)) as world:
        backup = _backup(world)
        for command in _commands(backup):
            points = _points(world, command, backup)
            chosen = world.chance(command.name).sample(range(1, len(points) + 1), min(tries, len(points)))
            died = sum(_try(world, command, backup, at, points[at - 1], row) for at in sorted(chosen))
            row.notes.append(f"{command.name}: {died} of {len(chosen)} died at one of {len(points)} points")
    return row


def _commands(backup: Path) -> tuple[_Command, ...]:
    return (
        _Command("import", ("threads", "import", str(backup)), lambda shell, backup: None, _check_import),
        _Command("resume", ("threads", "resume", "cut"), _import, _check_resumed),
        # It opens the store and, unlike the list, seals no turn.
        _Command("migration", ("threads", "export", "whole"), _import_older, _check_migrated),
        _Command("undo", ("threads", "undo", "whole"), _import, _either([1, 2], [1])),
        _Command("redo", ("threads", "redo", "whole"), _import_undone, _either([1], [1, 2])),
        _Command("retry", ("run", "--retry", "-t", "whole"), _import, _either([1, 2], [1, 3])),
        _Command("tag", ("threads", "tag", "whole", "a"), _import, _either([1, 2])),
        _Command("compact", ("threads", "compact", "whole"), _import, _either([1, 2])),
        _Command("fork", ("threads", "fork", "whole", "copy"), _import, _check_fork),
    )


def _backup(world: World) -> Path:
    """Return an export: a thread of two turns, and one whose turn a kill left open."""
    world.run("whole", "first")
    world.run("whole", "second")
    world.server.script(numbered(4_000, 0.01))
    cut = world.start("cut", "cut off")
    wait_until(lambda: shown_text(cut).count(" ") > 50)  # of half a second, so that some of it is journaled
    world.server.script(numbered(40, 0.01))
    cut.send(signal.SIGKILL)
    cut.wait()
    file = world.root / "backup.jsonl"
    world.afk("threads", "export", "--all", "-o", str(file))
    return file


def _points(world: World, command: _Command, backup: Path) -> list[str]:
    """Return the points that the command passes."""
    file = world.root / f"points of {command.name}"
    shell = _home(world, command, backup)
    shell.afk(*command.arguments, **faulty_store(points=file))
    return file.read_text().splitlines()


def _home(world: World, command: _Command, backup: Path) -> Shell:
    """Return a shell with a home of its own, in which the command is about to be made."""
    home = world.root / f"home of {command.name}"
    shutil.rmtree(home, ignore_errors=True)
    config = home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[plugins]\npaths = ["{PLUGINS / "faulty_store.py"}"]\n')
    shell = Shell(home=home, folder=world.shell.folder, env=world.shell.env)
    command.prepare(shell, backup)
    return shell


def _try(world: World, command: _Command, backup: Path, at: int, point: str, row: Row) -> bool:
    """Kill the command at a point; return whether it died there."""
    row.tries += 1
    shell = _home(world, command, backup)
    done = shell.afk(*command.arguments, **faulty_store(kill_at=at))
    problems = command.check(shell, backup)
    if done.code not in (0, -signal.SIGKILL):
        problems.append(f"ended with {done.code}: {done.err}")
    row.problems += [f"{command.name} killed at {at}, {point}: {problem}" for problem in problems]
    row.finished += not problems
    return done.code == -signal.SIGKILL


def _import(shell: Shell, backup: Path) -> None:
    shell.afk("threads", "import", str(backup))


def _import_undone(shell: Shell, backup: Path) -> None:
    _import(shell, backup)
    shell.afk("threads", "undo", "whole")


def _import_older(shell: Shell, backup: Path) -> None:
    """Import, and bring the database back to the first version of its schema."""
    _import(shell, backup)
    with closing(sqlite3.connect(shell.home / "afk" / "data" / "threads.db")) as con:
        con.execute("DROP TABLE Content")
        con.execute("PRAGMA user_version = 1")
        con.commit()


def _check_import(shell: Shell, backup: Path) -> list[str]:
    """Each thread is whole or not there, and the same import again brings the rest."""
    whole = _by_thread(backup.read_text("utf-8"))
    half = [thread for thread in _by_thread(shell.afk("threads", "export", "--all").out) if thread not in whole]
    again = shell.afk("threads", "import", str(backup))
    problems = [f"half a thread is there: {thread[:300]}" for thread in half]
    if again.code != 0:
        problems.append(f"the import afterwards ended with {again.code}: {again.err}")
    return problems + _check_migrated(shell, backup)


def _check_migrated(shell: Shell, backup: Path) -> list[str]:
    """All is there, to the letter."""
    done = shell.afk("threads", "export", "--all")
    return [] if done.out == backup.read_text("utf-8") else [f"not all came back: {done.out[:300]} {done.err}"]


def _check_resumed(shell: Shell, backup: Path) -> list[str]:
    """The turn that was cut is kept as it was, and can be resumed to its end."""
    problems = [f"damaged: {line}" for line in _exported(shell).damage]
    if _exported(shell).turns[-1].state != "completed":
        done = shell.afk("threads", "resume", "cut")
        problems += [f"resuming it again ended with {done.code}: {done.err}"] if done.code else []
    turns = _exported(shell).turns
    states = [turn.state for turn in turns]
    if states[0] != "interrupted" or states[-1] != "completed" or {turn.question for turn in turns} != {"cut off"}:
        problems.append(f"its turns are {turns}")
    if not turns[0].answer or not turns[-1].answer.startswith(turns[0].answer):
        problems.append(f"what had been said is lost: {turns}")
    return problems


def _either(*allowed: list[int]) -> Callable[[Shell, Path], list[str]]:
    """Return the check that the turns that are seen of the thread `whole` are those of one of `allowed`."""

    def check(shell: Shell, backup: Path) -> list[str]:
        return _check_seen(shell, "whole", *allowed)

    return check


def _check_fork(shell: Shell, backup: Path) -> list[str]:
    """The source is as it was, and the fork is whole or not there; made again, it is there."""
    problems = _check_seen(shell, "whole", [1, 2])
    if not any(info["thread_id"] == "copy" for info in shell.afk("threads", "--json").events):
        shell.afk("threads", "fork", "whole", "copy")
    return problems + _check_seen(shell, "copy", [1, 2])


def _check_seen(shell: Shell, thread: str, *allowed: list[int]) -> list[str]:
    shown = shell.afk("threads", "show", thread, "--json")
    seen = [turn["turn"] for turn in shown.events]
    problems = [f"the thread {thread!r} has the turns {seen}"] if seen not in allowed else []
    return problems + [f"damaged: {shown.err}"] * ("damaged" in shown.err or shown.code != 0)


def _exported(shell: Shell) -> KeptThread:
    return kept_thread(shell.afk("threads", "export", "cut").out)


def _by_thread(export: str) -> list[str]:
    """Return the lines of each thread of an export."""
    threads: list[str] = []
    for line in export.splitlines(keepends=True):
        if '"type":"end"' in line[:40]:
            continue
        if '"type":"thread"' in line[:40]:
            threads.append("")
        threads[-1] += line
    return threads
