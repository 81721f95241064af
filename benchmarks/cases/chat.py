"""The chat: from its start to its first prompt."""

from __future__ import annotations

import math
import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path

from benchmarks.bench import AFK, PYTHON, Bench, benchmark, figures, ms
from benchmarks.measure import RUN_SECONDS, Measured, ProgramFailedError, run_on_terminal
from benchmarks.report import Row, compare

BASE = "python -c import prompt_toolkit"
PROMPT_LIMIT = 1.5
_PROMPT = b"new thread"
"""The beginning of the status line, which is drawn with the prompt."""
_CTRL_D = b"\x04"


@benchmark("chat")
def first_prompt(bench: Bench) -> list[Row]:
    """From the start of `afk chat` on a terminal to the prompt, to the import of what draws it, a whole process."""
    env = bench.home("chat")
    sides = {
        "afk chat": lambda: until_prompt([AFK, "chat"], env, cwd=bench.folder),
        "base": lambda: run_on_terminal([PYTHON, "-c", "import prompt_toolkit"], env, lines=24, cwd=bench.folder),
    }
    results = bench.interleave(sides)
    wall, cpu = (figures(results, attrgetter(name)) for name in ("wall", "cpu"))
    return [
        compare("first prompt", BASE, "ms", ms(wall["afk chat"]), ms(wall["base"]), goal=PROMPT_LIMIT),
        compare("first prompt, CPU", BASE, "ms", ms(cpu["afk chat"]), ms(cpu["base"]), goal=PROMPT_LIMIT),
    ]


def until_prompt(command: list[str | Path], env: Mapping[str, str], *, cwd: Path) -> Measured:
    """Start `command` on a terminal, and measure until its prompt is there; then it is left by Ctrl-D.

    Raises:
        ProgramFailedError: there is no prompt, or it does not leave.
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    begin = time.monotonic()
    try:
        process = subprocess.Popen(
            command,
            env={**env, "TERM": "xterm"},
            cwd=cwd,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
    finally:
        os.close(theirs)
    try:
        seen = b""
        while _PROMPT not in seen:
            if not select.select([ours], [], [], RUN_SECONDS)[0]:
                raise ProgramFailedError(f"{command[0]} chat: no prompt in {seen!r}")
            seen += os.read(ours, 1 << 16)
        wall, cpu = time.monotonic() - begin, _cpu(process.pid)
        os.write(ours, _CTRL_D)
        process.wait(RUN_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProgramFailedError(f"{command[0]} chat: {error}: {seen!r}") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(ours)
    unknown = dict.fromkeys(("to_request", "cpu_to_request", "after_request", "after_first"), math.nan)
    return Measured(wall=wall, cpu=cpu, peak=0, **unknown)


def _cpu(pid: int) -> float:
    """Return the user and system time of a running process in seconds (Linux, proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
