"""The workers of a user that run, and how one is ended."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from afkcli.core.contract.structs import FrozenStruct
from afkcli.worker import place
from afkcli.worker.state import State, read_state

END_SECONDS = 5.0


class Listed(FrozenStruct, kw_only=True):
    """A worker that runs.

    Args:
        address: its socket.
        state: what it tells of itself.
        memory: in bytes, of the worker and the child that stands by, what they share counted once; 0 if unknown.
    """

    address: str
    state: State
    memory: int


def listed_workers(environment: Mapping[str, str]) -> list[Listed]:
    """Return the workers of this user whose sockets are in the folder that `environment` names."""
    if sys.platform != "linux":
        return []
    given = environment.get(place.SOCKET_VARIABLE)
    folder = os.path.dirname(given) if given else place.folder(environment)  # noqa: PTH120
    if not place.is_own(folder):
        return []
    states = [(address, read_state(address)) for address in place.held(folder)]
    return [
        Listed(address=address, state=state, memory=memory_of(state.pid))
        for address, state in states
        if state is not None
    ]


def memory_of(pid: int) -> int:
    """Return the memory of a process and its children in bytes, what they share counted once; 0 if unknown."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return sum(_share_of(one) for one in (str(pid), *children))


def _share_of(pid: str) -> int:
    """Return the proportional set size of a process in bytes (proc(5), smaps_rollup)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def end_worker(one: Listed) -> bool:
    """Have a worker end; return whether it has given its place free in time."""
    try:
        os.kill(one.state.pid, signal.SIGTERM)
    except ProcessLookupError:
        return True
    end = time.monotonic() + END_SECONDS
    while place.is_held(one.address):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
