"""The processes of a shell and of its worker, and what everyone who may look at them sees."""

from __future__ import annotations

import contextlib
from pathlib import Path

from afkcli.worker.caller import stat_of

CANARY = b"sk-canary-0123456789"
"""The key of the tests: it may be in a command that runs, and nowhere else."""


def processes_of(runtime: Path) -> set[int]:
    """Return the processes whose environment names a folder of sockets, but those that have ended."""
    variable = b"XDG_RUNTIME_DIR=" + bytes(runtime)
    return {pid for pid, environment in _environments().items() if variable in environment.split(b"\0")}


def with_key(pids: set[int]) -> set[int]:
    """Return those processes whose environment or arguments have the key."""
    environments = _environments()
    return {pid for pid in pids if CANARY in environments.get(pid, b"") + _read(f"/proc/{pid}/cmdline")}


def children_of(pid: int) -> list[int]:
    """Return the processes that one has started, those that have ended and were not waited for included."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def has_ended(pid: int) -> bool:
    """Return whether a process has ended; whoever adopts it may take its exit status later."""
    return stat_of(pid)[:1] in ([], ["Z"])


def state_of(pid: int) -> str:
    """Return the letter that says what a process does: T for stopped, Z for ended; empty if there is none."""
    return "".join(stat_of(pid)[:1])


def _environments() -> dict[int, bytes]:
    return {int(folder.name): _read(f"{folder}/environ") for folder in Path("/proc").glob("[0-9]*")}


def _read(path: str) -> bytes:
    """Return what a file has; nothing for a process that has ended, or that hides it."""
    with contextlib.suppress(OSError):
        return Path(path).read_bytes()
    return b""
