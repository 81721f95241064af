"""The memory of processes, as Linux counts it: the pages of one alone, and shared pages by their share."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Memory of one or more processes in bytes.

    `private` are pages that no other process has; `share` are these, and of each shared page the part that is left when
    it is divided by the number of its processes.
    """

    private: int = 0
    share: int = 0

    @classmethod
    def of(cls, *pids: int) -> Self:
        """Return the memory of these processes together; one that has ended has none."""
        tables = [_rollup(pid) for pid in pids]
        return cls(
            private=sum(table.get("Private_Clean", 0) + table.get("Private_Dirty", 0) for table in tables),
            share=sum(table.get("Pss", 0) for table in tables),
        )


def family(pid: int) -> list[int]:
    """Return a process and all processes below it."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):  # it has ended
            for file in Path(f"/proc/{one}/task").glob("*/children"):
                found += map(int, file.read_text().split())
    return found


def owner(connection: socket.socket) -> int:
    """Return the process at the other end of a connection over 127.0.0.1; 0 if it is not found."""
    port = connection.getpeername()[1]
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{row[9]}]" for row in rows if int(row[1].rpartition(":")[2], 16) == port}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if str(link.readlink()) in inodes:
                return int(link.parts[2])
    return 0


def _rollup(pid: int) -> dict[str, int]:
    """Return the table of a process in bytes; empty for one that has ended, or belongs to another user."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    rows = (line.split() for line in lines)
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3}
