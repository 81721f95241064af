"""Programs of a model that attack what watches them, and kills of afk while they run: no process is left behind."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from afkcli.testing.model_script import ScriptedCall, Step
from tests.e2e.shell import LIMIT
from tests.faults.table import Row
from tests.faults.world import Running, World, new_world, wait_until

_MCP_SERVER = Path(__file__).parents[2] / "plugins" / "tools_mcp" / "tests" / "scripted_server.py"
_ALLOWED = '[[approvals.rules]]\ntool = "*"\ndecision = "allow"\n'
_DAEMONS = (
    "(setsid env -i /bin/sh -c 'trap \"\" TERM HUP; FOREVER' &); (setsid env -i /bin/sh -c 'FOREVER & exit' &);"
    " sleep 0.2"
)
_AFK = "$(cut -d' ' -f4 /proc/$PPID/stat)"
_UNMARKED = """
    import os, resource, signal, time
    supervisor = os.getppid()
    resource.setrlimit(resource.RLIMIT_RTTIME, (1 << 50, 1 << 50))
    for _ in range(2):
        if os.fork():
            time.sleep(3600)
        os.setsid()
    os.kill(supervisor, signal.SIGKILL)
    time.sleep(3600)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attack:
    """What a program does: a script of sh, code of Python, or calls of tools of an MCP server.

    `signals` are sent to afk when the program is ready; `timeout` is the time limit of the command.
    """

    sh: str = ""
    python: str = ""
    mcp: tuple[str, ...] = ()
    signals: tuple[signal.Signals, ...] = ()
    timeout: float = 300.0
    continue_afk: bool = False


_KILL, _STOP = signal.SIGKILL, signal.SIGSTOP
_ATTACKS = {
    "the supervisor is suspended": _Attack(sh="kill -STOP $PPID; FOREVER"),
    "the supervisor is killed": _Attack(sh="kill -KILL $PPID; FOREVER"),
    "suspended, with daemons": _Attack(sh=f"{_DAEMONS}; kill -STOP $PPID; FOREVER"),
    "killed, with daemons": _Attack(sh=f"{_DAEMONS}; kill -KILL $PPID; FOREVER"),
    "killed by a daemon that takes off its mark": _Attack(python=_UNMARKED),
    "afk is killed": _Attack(sh=f"{_DAEMONS}; touch READY; FOREVER", signals=(_KILL,)),
    "afk is suspended and killed": _Attack(sh=f"{_DAEMONS}; touch READY; FOREVER", signals=(_STOP, _KILL)),
    "afk is killed while the supervisor is suspended": _Attack(
        # afk is given time to stop: a thread of it that still ran would see its supervisor stop, and end the command
        sh=f"{_DAEMONS}; kill -STOP {_AFK}; sleep 0.5; kill -STOP $PPID; touch READY; FOREVER",
        signals=(_KILL,),
    ),
    "the command suspends afk": _Attack(
        sh=f"{_DAEMONS}; kill -STOP {_AFK}; touch READY; FOREVER", timeout=1.0, continue_afk=True
    ),
    "the command kills afk": _Attack(sh=f"{_DAEMONS}; kill -KILL {_AFK}; FOREVER", signals=(_KILL,)),
    "an MCP server kills its supervisor": _Attack(mcp=("spawn", "kill_supervisor")),
    "an MCP server suspends its supervisor": _Attack(mcp=("spawn", "suspend_supervisor")),
    "afk is killed, and an MCP server ignores that": _Attack(mcp=("spawn", "spawn_daemon", "hang"), signals=(_KILL,)),
}


_EFFECTS = ("the supervisor of the command was", "the command took longer than 1 s", "the MCP server 's' ended (")
"""What the model is told of an attack, if afk was not killed."""


def attacked(seed: str, rounds: int) -> Row:
    """Run every attack `rounds` times."""
    row = Row(case="attacks on the supervisor")
    left = 0
    with new_world(seed) as world:
        _configure(world)
        for number in range(rounds):
            for name, attack in _ATTACKS.items():
                row.tries += 1
                left += _attack(world, row, attack, f"{name} {number}")
    row.notes.append(f"{left} processes left behind in {row.tries} runs, of {len(_ATTACKS)} kinds")
    return row


def _configure(world: World) -> None:
    args = ["-u", str(_MCP_SERVER), "--at-start", "ignoring_sigterm", "--note", str(world.root / "notes")]
    server = f"[tools.mcp.servers.s]\ncommand = {json.dumps(sys.executable)}\nargs = {json.dumps(args)}\n"
    server += f"read_only = {json.dumps(sorted({tool for attack in _ATTACKS.values() for tool in attack.mcp}))}\n"
    path = world.shell.home / "afk" / "config" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[tools.shell]\nsandbox = 'off'\ntimeout_s = 600\n{server}{_ALLOWED}")


def _attack(world: World, row: Row, attack: _Attack, name: str) -> int:
    """Run one attack; return the number of processes that it has left behind."""
    word, pids = uuid4().hex, world.root / "notes.pids"
    marker, ready = world.root / word, world.root / f"{word}.ready"
    marker.touch()
    pids.unlink(missing_ok=True)
    world.server.script(*_steps(attack, marker, ready), Step(text="done"))
    running = world.start(name, name, ["--tool", "shell.run", "--tool", "s.*"])
    is_ready = ready.exists if attack.sh else lambda: len(_noted(pids)) >= len(attack.mcp) + 3
    awaited = bool(attack.signals) or attack.continue_afk
    if awaited and not wait_until(lambda: is_ready() or running.process.poll() is not None):
        row.problems.append(f"{name}: the program was not started: {running.stderr}")
    for number in attack.signals:
        running.send(number)
    if attack.continue_afk:
        found = _left(marker, None, lambda: True)  # while afk is suspended; its MCP server waits with it
        running.process.send_signal(signal.SIGCONT)
    else:
        found = _left(marker, pids, lambda: running.process.poll() is not None)
    _check_end(row, attack, name, running)
    found = found or _left(marker, pids, lambda: True)
    row.problems += [f"{name}: left behind: {line}" for line in found]
    world.server.script(Step(text="after"))
    after = world.run(name, f"after {name}")
    if after.process.returncode != 0:
        row.problems.append(f"{name}: the next run ended with {after.process.returncode}: {after.stderr}")
    return len(found)


def _steps(attack: _Attack, marker: Path, ready: Path) -> list[Step]:
    if attack.mcp:
        return [Step(tool_calls=[ScriptedCall(id=tool, name=f"s__{tool}", arguments={})]) for tool in attack.mcp]
    argv = [sys.executable, "-c", textwrap.dedent(attack.python), str(marker)]
    if attack.sh:
        forever = f"{shutil.which('tail')} -f /dev/null {marker}"
        script = attack.sh.replace("FOREVER", forever).replace("READY", str(ready))
        argv = ["sh", "-c", script, str(marker)]
    arguments: dict[str, Any] = {"argv": argv, "timeout_s": attack.timeout}
    return [Step(tool_calls=[ScriptedCall(id="c", name="shell__run", arguments=arguments)])]


def _check_end(row: Row, attack: _Attack, name: str, running: Running) -> None:
    code = running.wait()
    events = running.events()
    row.finished += sum(event["type"] == "completed" for event in events)
    told = [event for event in events if event["type"] == "tool_completed"]
    said = " ".join(event["tool_error"] or event["tool_output"] for event in told)
    if not attack.signals and not any(effect in said for effect in _EFFECTS):
        row.problems.append(f"{name}: it had no effect: {said}")
    if code not in ((-signal.SIGKILL,) if attack.signals else (0,)):
        row.problems.append(f"{name}: afk ended with {code}: {running.stderr}")


def _left(marker: Path, pids: Path | None, is_over: Callable[[], bool]) -> list[str]:
    """Wait until afk has ended and no process of the program runs; return those that still do after a long time."""
    found: list[str] = []

    def is_clean() -> bool:
        found[:] = _running(marker.name, _noted(pids) if pids is not None else [])
        return not found and is_over()

    wait_until(is_clean, LIMIT)
    return list(found)


def _running(word: str, noted: list[int]) -> list[str]:
    listed = subprocess.run(["ps", "-A", "-o", "stat=,pid=,args="], capture_output=True, text=True).stdout
    lines = [line for line in listed.splitlines() if not line.startswith("Z")]
    return [line for line in lines if word in line or int(line.split()[1]) in noted]


def _noted(pids: Path) -> list[int]:
    try:
        return [int(line) for line in pids.read_text().split("\n")[:-1]]
    except OSError:
        return []
