"""Random bytes flipped and files cut short: every turn reads back as it was, or is named in a line."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

from afkcli.testing.model_script import Step
from tests.e2e.shell import Finished, Shell
from tests.faults.server import numbered
from tests.faults.table import Row
from tests.faults.world import World, new_world

_THREADS = ("t0", "t1")
_TURNS = 4
_HEADER = 16
"""The bytes at the start of a database that identify it; another test shows a database without them."""

_RECORD = 160  # bytes: more or less the messages of one record

Turns = dict[tuple[int, str], str]
"""The content of a thread: question and answer by number and state of the turn."""


@dataclass(frozen=True, slots=True)
class _Sound:
    """An undamaged home, and the content of its threads; `opened` is the turn that was left open."""

    home: Path
    turns: dict[str, Turns]
    opened: str = ""


def database(seed: str, variants: int) -> Row:
    """Damage the database at rest: in every table and index in turn, anywhere, and by cutting it short."""
    return _damage(seed, variants, "database damaged", leave_log=False)


def write_ahead_log(seed: str, variants: int) -> Row:
    """Damage the files of a killed process: the database's write-ahead log, which has its open turn.

    SQLite ends its log at the first damaged frame and says nothing, so text of the open turn can be lost; then the
    store names the log. The question, and the turns that were sealed before, have to be as they were.
    """
    return _damage(seed, variants, "write-ahead log damaged", leave_log=True)


def _damage(seed: str, variants: int, case: str, *, leave_log: bool) -> Row:
    row = Row(case=case, tries=variants)
    with new_world(seed, Step()) as world:
        sound = _sound_home(world, leave_log=leave_log)
        if [len(turns) for turns in sound.turns.values()] != [_TURNS] * len(_THREADS):
            row.problems.append(f"the threads could not be made: {[running.stderr for running in world.runs]}")
            return row
        variant = _Variants(world, sound, row, "threads.db-wal" if leave_log else "threads.db")
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(variant.judge, range(variants)))
        if leave_log:
            row.notes.append(f"text of the open turn was lost in {variant.open_cut} variants, each time with a notice")
        row.notes.append(
            f"of {variant.named + variant.identical} turns {variant.identical} read back as they were, "
            f"{variant.named} were named as damaged or missing"
        )
    return row


def _sound_home(world: World, *, leave_log: bool) -> _Sound:
    """Make two threads; with `leave_log` the last run was killed, so that its writes are in the log alone."""

    def talk(name: str) -> None:
        for turn in range(_TURNS):
            world.run(name, f"{name} question {turn}")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(talk, _THREADS))
    turns = {name: _shown(world.afk("threads", "show", "--json", name)) for name in _THREADS}
    home = world.shell.home / "afk"
    if leave_log:
        world.server.script(numbered(100, 0.02))
        running = world.start(_THREADS[0], "open")
        world.asked(running)
        time.sleep(0.5)
        running.send(signal.SIGKILL)
        running.wait()
        world.server.script(Step())
        copy = shutil.copytree(home, world.root / "sound")
        shown = _shown(_shell(world, copy).afk("threads", "show", "--json", _THREADS[0]))
        return _Sound(home, turns, _open_turn(shown))
    return _Sound(home, turns)


def _shell(world: World, home: Path) -> Shell:
    """Return a shell whose afk lives in `home`."""
    return Shell(home=home, folder=world.shell.folder, env={**world.shell.env, "AFK_HOME": str(home)})


class _Variants:
    """Damages a copy of the sound home, once for each variant, and judges the turns that are read from it."""

    def __init__(self, world: World, sound: _Sound, row: Row, file: str) -> None:
        self.identical = 0
        self.named = 0
        self.open_cut = 0
        self._world = world
        self._sound = sound
        self._row = row
        self._file = file
        self._pages = _first_pages(sound.home / "data" / "threads.db") if file == "threads.db" else []

    def judge(self, number: int) -> None:
        chance = self._world.chance(self._file, number)
        home = shutil.copytree(self._sound.home, self._world.root / f"variant{number}")
        how = self._harm(home / "data" / self._file, number, chance)
        shell = _shell(self._world, home)
        before = len(self._row.problems)
        for name in _THREADS if _in_record(number) else [chance.choice(_THREADS)]:
            self._judge_thread(name, shell.afk("threads", "show", "--json", name))
        if number % 6 == 0:
            self._judge_lines("threads", shell.afk("threads"))
            self._judge_run(shell.afk("run", "-t", _THREADS[0], f"variant {number}"), number)
        if len(self._row.problems) > before:
            self._row.problems.append(f"variant {number} (seed {self._world.seed}): {how}")
        shutil.rmtree(home, ignore_errors=True)

    def _harm(self, file: Path, number: int, chance: Random) -> str:
        """Damage the file and return how."""
        data = bytearray(file.read_bytes())
        if number % 5 == 4:
            end = chance.randrange(_HEADER, len(data))
            file.write_bytes(data[:end])
            return f"cut to {end} of {len(data)} bytes"
        where = _HEADER, len(data)
        if self._pages and number % 5 in (0, 1):
            where = self._pages[number // 5 % len(self._pages)]
        elif _in_record(number):
            where = chance.choice(_records(bytes(data)) or [where])
        flipped = [chance.randrange(*where) for _ in range(1 if _in_record(number) else chance.choice((1, 4, 40)))]
        for place in flipped:
            data[place] ^= chance.randrange(1, 256)
        file.write_bytes(data)
        return f"flipped bytes {flipped[:4]} and so on, {len(flipped)} in {where}"

    def _judge_thread(self, name: str, done: Finished) -> None:
        self._judge_lines(f"threads show {name}", done)
        shown, lost = _shown(done), 0
        if self._sound.opened and name == _THREADS[0]:
            self._judge_open_turn(_open_turn(shown), done)
        for turn, text in self._sound.turns[name].items():
            if shown.get(turn) == text:
                self.identical += 1
            else:
                lost += 1
        self.named += lost
        if lost and f"{name!r}" not in done.err and "threads.db" not in done.err:
            self._row.lost += lost
            self._row.problems.append(f"{lost} turns of {name} are silently lost: {done}")
        for turn, text in shown.items():
            if self._sound.turns[name].get(turn, text) != text:
                self._row.damaged += 1
                self._row.problems.append(f"turn {turn} of {name} is shown as {text!r}, unnoticed: {done}")

    def _judge_open_turn(self, text: str, done: Finished) -> None:
        """The question is in the database too, and text is lost with a notice only."""
        if not text:
            self._row.messages_lost += 1
            self._row.problems.append(f"the question of the open turn is lost: {done}")
        elif text != self._sound.opened:
            self.open_cut += 1
            if not self._sound.opened.startswith(text) or "threads.db-wal is damaged" not in done.err:
                self._row.problems.append(f"the open turn is silently shown as {text!r}: {done}")

    def _judge_lines(self, what: str, done: Finished) -> None:
        """Every error is a line for a person."""
        lines = done.err.splitlines()
        if (
            done.code not in (0, 1, 2)
            or (done.code and not lines)
            or not all(line.startswith("afk: ") for line in lines)
        ):
            self._row.problems.append(f"`afk {what}` ended with {done.code}: {done.out[-500:]} {done.err}")

    def _judge_run(self, done: Finished, number: int) -> None:
        self._judge_lines("run", done)
        if not done.out.endswith(f": variant {number}\n") or done.out.count("\n") != 1:
            self._row.problems.append(f"the answer did not reach stdout: {done}")
        if done.code == 1 and not Path(done.err.rpartition("it is kept in ")[2].strip()).is_file():
            self._row.problems.append(f"the turn is neither saved nor rescued: {done}")


def _in_record(number: int) -> bool:
    """Whether that variant damages one byte of a conversation, the hardest damage to notice."""
    return number % 5 in (2, 3)


def _shown(done: Finished) -> Turns:
    turns: Turns = {}
    for line in done.out.splitlines():
        turn = json.loads(line)
        texts = ["".join(part.get("text", "") for part in message["parts"]) for message in turn["messages"]]
        turns[turn["turn"], turn["state"]] = "\n".join(texts)
    return turns


def _open_turn(shown: Turns) -> str:
    """Return the turn that the killed run left, "" if it is not there."""
    return next((text for (_, state), text in shown.items() if state == "interrupted"), "")


def _first_pages(file: Path) -> list[tuple[int, int]]:
    """Return where the first page of each table and index of the database begins and ends, in bytes."""
    con = sqlite3.connect(f"{file.as_uri()}?mode=ro&immutable=1", uri=True)
    ((size,),) = con.execute("PRAGMA page_size").fetchall()
    roots = [root for (root,) in con.execute("SELECT DISTINCT rootpage FROM sqlite_master WHERE rootpage > 0")]
    con.close()
    return [(_HEADER, size), *((size * (root - 1), size * root) for root in roots)]


def _records(data: bytes) -> list[tuple[int, int]]:
    """Return the place of the conversations in the file, as begin and end in bytes."""
    return [(found.start(), min(found.start() + _RECORD, len(data))) for found in re.finditer(rb'"messages":\[', data)]
