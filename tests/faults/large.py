"""Turns that outgrow every limit, and records that are too large: what fits is kept, and the thread continues."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afkcli.testing.model_server import ModelServer, ScriptedCall, Step
from tests.e2e.shell import AFK, LIMIT, Finished, Shell
from tests.faults.table import Row

PEAK = Path(__file__).with_name("peak.py")
MB = 1 << 20
PLUGIN = '''
from afkcli import hookimpl, tool

AFK_HOOKS = 1


@tool(name="big.text", changes=False)
def text(size: int = 100_000) -> str:
    """Return a text that JSON makes longer."""
    return '"' * size


@hookimpl
def afk_tools():
    return [text]
'''
QUESTION = "what fits?"


def _piece(size_mb: int) -> Step:
    return Step(text="p" * (min(size_mb, 7) * MB))  # a server's event has a limit of its own


def _text(size_mb: int) -> Step:
    return Step(text="t" * 1024, repeat=size_mb * 1024)


def _wide(size_mb: int) -> Step:
    return Step(text="w" * 1020 + "\U0001f600", repeat=size_mb * 1024)


def _reasoning(size_mb: int) -> Step:
    return Step(reasoning=["r" * 8192] * (size_mb * 128), text="said")


def _arguments(size_mb: int) -> Step:
    return Step(tool_calls=[ScriptedCall(name="big.text", arguments={"a": "b" * size_mb * MB}, pieces=size_mb * 64)])


def _calls(size_mb: int) -> Step:
    count = min(900, size_mb * 50)  # providers take 1,000
    return Step(tool_calls=[ScriptedCall(name="big.text", arguments={"size": 10}, id=f"c{n}") for n in range(count)])


def _results(size_mb: int) -> Step:
    return Step(tool_calls=[ScriptedCall(name="big.text", arguments={}, id=f"c{n}") for n in range(size_mb * 5)])


def _small(size_mb: int) -> Step:
    return Step(text="ab", repeat=size_mb * 10_000)


SHAPES: dict[str, tuple[Callable[[int], Step], bool]] = {
    "text": (_text, True),
    "one piece": (_piece, False),
    "ASCII and emoji": (_wide, True),
    "reasoning": (_reasoning, True),
    "arguments of one call": (_arguments, True),
    "results of tools": (_results, True),
    "calls of one step": (_calls, False),
    "small pieces": (_small, False),
}
"""What is large, and whether `large_turns` makes more of it than a turn may have."""


@dataclass(slots=True)
class _Place:
    shell: Shell
    server: ModelServer
    row: Row

    def afk(self, *arguments: str) -> Finished:
        """Run `afk` to its end; the row gets the most memory that it had."""
        peak = self.shell.home / "peak"
        done = subprocess.run(
            [sys.executable, "-S", PEAK, peak, AFK, *arguments],
            cwd=self.shell.folder,
            env=self.shell.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT * 5,
            check=False,
        )
        self.row.tries += 1
        self.row.add_memory(int(peak.read_text()) / 1024)
        return Finished(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))

    def problems_of_log(self, done: Finished) -> list[str]:
        """Return what is wrong with the events that the sink wrote: they have to be those on stdout, to the letter."""
        written = "".join(path.read_text("utf-8") for path in sorted(self.shell.home.rglob("events/*.jsonl")))
        same = written == done.out
        return [] if same else [f"the log has {len(written)} characters of events, stdout {len(done.out)}"]

    def check_thread(self, what: str, *, named: str = "") -> list[dict[str, Any]]:
        """Read, export and continue the thread `t`; each has to end well. Return its turns."""
        shown = self.afk("threads", "show", "t", "--json")
        exported = self.afk("threads", "export", "t", "-o", str(self.shell.folder / "t.jsonl"))
        self.server.script(Step(text="fine"))
        again = self.afk("run", "-n", "-t", "t", "and now?")
        for name, done in (("show", shown), ("export", exported), ("the next run", again)):
            if done.code != 0:
                self.row.problems.append(f"{what}: {name} ended with {done.code}: {done.err[:300]}")
            if named not in done.err:
                self.row.problems.append(f"{what}: {name} does not name {named!r}: {done.err[:300]}")
        return [row for row in shown.events if row["type"] == "turn"] if shown.code == 0 else []


def large_turns(seed: str, text_mb: int, other_mb: int | None = None) -> Row:
    """Each shape of a large turn: the run ends `degraded`, what fits is in the thread, and the thread continues.

    The text has `text_mb`, past the limit that a turn has by default. So has each other shape, or it has `other_mb` and
    a limit that is 1 MB less: the same way through the same code, in less time.
    """
    row = Row(case="large-turns")
    for what, (make, is_cut) in SHAPES.items():
        size_mb = text_mb if other_mb is None or what == "text" else other_mb
        with tempfile.TemporaryDirectory(prefix="afk-large-") as root, ModelServer([make(size_mb)]) as server:
            place = _Place(_shell(Path(root), server), server, row)
            if size_mb == other_mb:
                place.shell.env["AFK_MAX_TURN_MB"] = str(size_mb - 1)
            server.script(make(size_mb), Step(text="done"))
            plugin = place.shell.folder / "big.py"
            plugin.write_text(PLUGIN)
            done = place.afk("run", "--json", "-n", "-t", "t", "--plugin", str(plugin), "--tool", "big.*", QUESTION)
            if done.code != 3 and (is_cut or done.code != 0):
                row.problems.append(f"{what}: the run ended with {done.code}: {done.err[:300]}")
            if "rescue" in done.err:
                row.problems.append(f"{what}: {done.err[:300]}")
            row.problems += [f"{what}: {problem}" for problem in place.problems_of_log(done)]
            turns = place.check_thread(what)
            if not turns or turns[0]["messages"][0]["parts"][0]["text"] != QUESTION:
                row.messages_lost += 1
            elif done.code == 3 and turns[0]["reason"] != "max_turn_mb":
                row.problems.append(f"{what}: its turn ended {turns[0]['state']}, {turns[0]['reason']}")
            row.finished += bool(turns)
    return row


def large_records(seed: str, size_mb: int) -> Row:
    """A record that is too large stands between two others: it is named, and they are read."""
    row = Row(case="large-records")
    with tempfile.TemporaryDirectory(prefix="afk-large-") as root, ModelServer() as server:
        place = _Place(_shell(Path(root), server), server, row)
        for number in range(3):
            place.afk("run", "-n", "-t", "t", f"question {number}")
        database = next(place.shell.home.rglob("threads.db"))
        with sqlite3.connect(database) as con:
            half = size_mb * MB // 2
            grown = f"value || replace(hex(zeroblob({half})), '00', 'xx')"
            con.execute(f"UPDATE Cache SET value = {grown} WHERE key LIKE '%/kept/%/0000000002'")
        con.close()
        turns = place.check_thread("a record between two others", named="turn 2")
        row.lost += 2 - len({turn["turn"] for turn in turns} & {1, 3})
        row.finished += len(turns)
        again = place.afk("threads", "show", "t", "--json")
        row.lost += [json.loads(line).get("turn") for line in again.out.splitlines()][-1] != 4
        there = place.shell.folder / "t.jsonl"
        place.shell.env["AFK_HOME"] = str(place.shell.home / "other")
        imported = place.afk("threads", "import", str(there))
        if imported.code != 0 or "turn 2" not in imported.err:
            row.problems.append(f"the import ended with {imported.code}: {imported.err[:300]}")
        there.write_bytes(b'{"v":1,"type":"thread","x":"' + b"x" * (size_mb * MB) + b'"}\n')
        refused = place.afk("threads", "import", str(there))
        if refused.code != 2:
            row.problems.append(f"the import of a long line ended with {refused.code}: {refused.err[:300]}")
    return row


def _shell(root: Path, server: ModelServer) -> Shell:
    for name in ("home", "work"):
        (root / name).mkdir()
    env = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-canary-0123456789", "AFK_MODEL": "gpt-5.2-mini"}
    return Shell(home=root / "home", folder=root / "work", env=env)
