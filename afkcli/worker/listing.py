"""The workers of a user that run, and how one is ended."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from afkcli.core.contract.errors import ConfigError
from afkcli.core.contract.structs import FrozenStruct
from afkcli.worker import failures, place, room
from afkcli.worker.failures import Failure, read_failure
from afkcli.worker.leftovers import remove_leftovers
from afkcli.worker.serving import LOOK_SECONDS
from afkcli.worker.starting import is_enabled
from afkcli.worker.state import State, read_state

END_SECONDS = LOOK_SECONDS + 5.0


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
    folder = _folder(environment)
    if folder is None:
        return []
    states = [(address, read_state(address)) for address in place.held(folder)]
    return [
        Listed(address=address, state=state, memory=memory_of(state.pid) if state.is_here else 0)
        for address, state in states
        if state is not None
    ]


def failed_starts(environment: Mapping[str, str]) -> dict[str, Failure]:
    """Return the last failures of workers of this user that could not start, by socket; only where none runs now.

    Those of installations that are gone are removed.
    """
    folder = _folder(environment)
    if folder is None:
        return {}
    ending = f"{place.ENDING}{failures.ENDING}"
    addresses = [str(path).removesuffix(failures.ENDING) for path in sorted(Path(folder).glob(f"*{ending}"))]
    for address in addresses:
        failures.remove_outdated(address)
    found = [(address, read_failure(address)) for address in addresses if not place.is_held(address)]
    return {address: failure for address, failure in found if failure is not None}


def start_refusal(environment: Mapping[str, str], found: Sequence[Listed]) -> str:
    """Return why no run starts another worker than those that were found; "" where it may."""
    if place.is_off(environment):
        return f"no warm worker is used: {place.SWITCH}={environment[place.SWITCH]}"
    try:
        if not is_enabled(environment):
            return "no warm worker is started: the config has `enabled = false` in `[worker]`"
    except ConfigError as error:
        return f"no warm worker is started: {error}"
    if len(found) >= place.MAX_WORKERS:
        return f"no other warm worker is started: {place.MAX_WORKERS} at most run at once"
    if not room.is_ample():
        return f"no warm worker is started: {room.FULL} (ulimit -u): {room.PLACES} places have to be free"
    return ""


def forget_ended(environment: Mapping[str, str]) -> None:
    """Remove what workers that have ended left, and have the next run start one, whatever failed before."""
    folder = _folder(environment)
    if folder is None:
        return
    for address in failed_starts(environment):
        failures.forget_failure(address)
    remove_leftovers(folder)


def _folder(environment: Mapping[str, str]) -> str | None:
    """Return the folder of the sockets; None where it is not the user's own."""
    given = environment.get(place.SOCKET_VARIABLE)
    folder = os.path.dirname(given) if given else place.folder(environment)  # noqa: PTH120
    return folder if sys.platform == "linux" and place.is_own(folder) else None


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
        _ask_to_end(one)
    except (ProcessLookupError, FileNotFoundError):
        return True
    end = time.monotonic() + END_SECONDS
    while place.is_held(one.address):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _ask_to_end(one: Listed) -> None:
    if one.state.is_here:
        os.kill(one.state.pid, signal.SIGTERM)
    else:
        os.unlink(one.address)  # noqa: PTH108 - it ends once it sees that; its process has another id here
