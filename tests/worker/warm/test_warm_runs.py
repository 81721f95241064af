"""A second command runs warm, and a person sees no difference."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import AFK, LIMIT
from tests.worker.warm.conftest import Both, WarmShell, standing_by, until
from tests.worker.warm.processes import CANARY, children_of


def without_ids(text: str) -> str:
    text = re.sub(r"reply \d+:", "reply N:", text)
    return re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "ID", text)


def test_the_second_run_is_warm_and_answers_the_same(both: Callable[..., Both], shell: WarmShell) -> None:
    done = both("run", "-n", "What is photosynthesis?")

    assert (done.warm.code, without_ids(done.warm.out)) == (0, without_ids(done.cold.out))
    assert without_ids(done.warm.err) == without_ids(done.cold.err)


def test_a_warm_run_remembers_its_thread_and_writes_the_log(
    both: Callable[..., Both], shell: WarmShell, server: ModelServer
) -> None:
    both("run", "-n", "-t", "trip", "Where is Rome?")
    before = len(shell.log())

    both("run", "-n", "-t", "trip", "And Milan?")

    messages = server.requests[-1].body["messages"]
    assert [message["content"] for message in messages if message["role"] == "user"][:2] == ["Where is Rome?"] * 2
    assert {event["type"] for event in shell.log()[before:]} >= {"run_started", "completed"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("threads",),
        ("threads", "--json"),
        ("threads", "show", "no-such-thread"),
        ("models", "--no-such-option"),
        ("usage",),
        ("config", "path"),
        ("--version",),
        ("--help",),
        (),
        ("run", "--help"),
        ("no-such-command",),
        ("run", "-n", "-m", "no-such-provider/x", "hi"),
    ],
    ids=" ".join,
)
def test_every_command_answers_the_same_warm(both: Callable[..., Both], arguments: tuple[str, ...]) -> None:
    done = both(*arguments)

    assert (done.warm.code, done.warm.out, done.warm.err) == (done.cold.code, done.cold.out, done.cold.err)


@pytest.mark.parametrize("name", ["./linked", "./.venv/bin/afk", "sub/../linked"])
def test_a_program_that_is_called_by_a_relative_path_runs_warm(shell: WarmShell, name: str) -> None:
    (shell.folder / ".venv/bin").mkdir(parents=True, exist_ok=True)
    (shell.folder / "sub").mkdir(exist_ok=True)
    for link in ("linked", ".venv/bin/afk"):
        if not (shell.folder / link).is_symlink():
            (shell.folder / link).symlink_to(AFK)

    def run(**env: str) -> tuple[int, bytes, bytes]:
        done = subprocess.run(
            [name, "run", "--no-such-option"],
            env=shell.environment(**env),
            cwd=shell.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT,
        )
        return done.returncode, done.stdout, done.stderr

    assert run(AFK_WORKER="off") == shell.warm(run)


def test_what_is_piped_in_is_read_by_the_warm_run(both: Callable[..., Both], server: ModelServer) -> None:
    both("run", "Review this", stdin=b"a diff")

    assert server.requests[-1].body["messages"][-1]["content"] == "Review this\n\na diff"


def test_json_events_are_the_same(both: Callable[..., Both]) -> None:
    done = both("run", "-n", "--json", "hi")

    types = [[json.loads(line)["type"] for line in one.out.splitlines()] for one in (done.cold, done.warm)]
    assert types[0] == types[1]


CONSOLE_SCRIPT = f"""
import sys
sys.argv[0] = {str(AFK)!r}
from afkcli.entry import main
main()
"""
"""What the console script of Python does, which is not in an environment that has the compiled client."""


@pytest.mark.parametrize("words", [("run", "-n", "-q", "hi"), ("run", "-n", "-m", "no-such/x", "hi"), ("threads",)])
def test_the_console_script_of_python_hands_over_too(shell: WarmShell, tmp_path: Path, words: tuple[str, ...]) -> None:
    script = tmp_path / "script.py"
    script.write_text(CONSOLE_SCRIPT)

    def run(**env: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, script, *words],
            env=shell.environment(**env),
            cwd=shell.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        return done.returncode, without_ids(done.stdout), without_ids(done.stderr)

    cold = run(AFK_WORKER="off")
    warm = shell.warm(run)

    assert warm[0] == cold[0]
    assert words == ("threads",) or warm == cold  # a run of `warm` may be one more thread


PLUGIN = """
import json, os, signal, sys
from afkcli import hookimpl
from afkcli.plugin import Tool
AFK_HOOKS = 1
AFK_NAME = "state"

umask = os.umask(0)
os.umask(umask)
with open(os.environ["STATE_FILE"], "w") as file:
    stream = lambda it: it and [it.encoding, it.errors, it.line_buffering, it.isatty(), it.fileno(), it.name, it.mode]
    json.dump({
        "arguments": sys.argv, "path": sys.path, "folder": os.getcwd(), "environment": dict(os.environ),
        "umask": umask, "nice": os.nice(0),
        "descriptors": [fd for fd in (0, 1, 2) if os.path.exists(f"/proc/self/fd/{fd}")],
        "signals": {number: str(signal.getsignal(number)) for number in map(int, signal.valid_signals())},
        "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        "stdin": stream(sys.stdin),
        "encodings": [sys.getfilesystemencoding(), sys.flags[:-1]],
        "inherited": sorted(fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}") and os.get_inheritable(fd)),
    }, file, sort_keys=True)


@hookimpl
def afk_tools(settings):
    return []
"""  # noqa: E501


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_a_warm_process_has_the_state_of_a_cold_one(shell: WarmShell, tmp_path: Path, umask: int) -> None:
    plugin = tmp_path / "state.py"
    plugin.write_text(PLUGIN)
    shell.warm_up()
    states = []
    for switch in ("off", "on"):
        variables = {"STATE_FILE": str(tmp_path / switch), "AFK_WORKER": switch}
        shell.env.update(variables)

        def run() -> None:
            process = shell.start("run", "-n", "--plugin", str(plugin), "hi", umask=umask)
            process.communicate(timeout=LIMIT)

        run() if switch == "off" else shell.warm(run)
        for name in variables:
            del shell.env[name]
        states.append(json.loads((tmp_path / switch).read_text()))
    for state in states:
        del state["environment"]["STATE_FILE"], state["environment"]["AFK_WORKER"]

    assert states[0] == states[1]


def test_the_key_is_in_no_process_that_outlives_its_run(shell: WarmShell) -> None:
    state = shell.warm_up()
    assert shell.warm(lambda: shell.afk("run", "-n", "hi")).code == 0

    until(lambda: children_of(state.pid) == standing_by(state.pid) != [], "no child but the one that stands by")
    for pid in [state.pid, *standing_by(state.pid)]:
        assert CANARY not in memory_of(pid)


def memory_of(pid: int) -> bytes:
    """Return what a process can write to: its heap, its stack and its environment."""
    found = [Path(f"/proc/{pid}/environ").read_bytes()]
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, modes = line.split()[:2]
            if not modes.startswith("rw") or "[v" in line:
                continue
            start, end = (int(number, 16) for number in place.split("-"))
            memory.seek(start)
            try:
                found.append(memory.read(end - start))
            except OSError:
                continue
    assert os.getpid() != pid
    return b"".join(found)
