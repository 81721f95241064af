"""The processes of a shell, and what everyone who may look at them sees."""

from __future__ import annotations

import contextlib
from pathlib import Path

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


def _environments() -> dict[int, bytes]:
    return {int(folder.name): _read(f"{folder}/environ") for folder in Path("/proc").glob("[0-9]*")}


def _read(path: str) -> bytes:
    """Return what a file has; nothing for a process that has ended, or that hides it."""
    with contextlib.suppress(OSError):
        return Path(path).read_bytes()
    return b""
