"""Workers that could not start: each start costs about a second of CPU, so the next one waits, twice as long each time.

What is known of the last failure is in a file beside the socket. Its time is the file's own, so that an empty one, in
a folder without room, makes runs wait too.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence

from afkcli.core.contract.structs import FrozenStruct

ENDING = ".failed"
FIRST_SECONDS = 5.0
MAX_SECONDS = 600.0
UNKNOWN_SECONDS = 60.0
"""How long an empty or damaged file makes runs wait."""
_KILLED = "the worker ended while it started"
_MAX_REASON = 300
_MAX_BYTES = 1 << 16
_OLD_SECONDS = 86400.0


class Failure(FrozenStruct, kw_only=True):
    """The last start of a worker that failed.

    Args:
        at: when, in seconds since the epoch.
        pause: for how many seconds no run starts another one.
        reason: why it failed; "" if there was no room to write it.
        conditions: what the start depended on: where that has changed, nothing waits. "" if it is not known.
        places: the files and folders of the installation and its homes; none if they are not known.
    """

    at: float
    pause: float
    reason: str
    conditions: str
    places: tuple[str, ...] = ()

    @property
    def is_of_no_use(self) -> bool:
        """Whether its installation or a home of it is gone, so that no run can start this worker again."""
        return not all(map(os.path.exists, self.places))

    @property
    def remaining_s(self) -> float:
        """After how many seconds a run starts a worker again; 0 or less if now, or if the clock was set back."""
        past = time.time() - self.at
        return self.pause - past if past >= 0 else 0.0


class Attempt:
    """One start of a worker, which counts as failed until it has ended well.

    Args:
        address: the path of the socket.
        conditions: what the start depends on.
        places: the files and folders without which no run starts this worker: the installation, and its homes.
    """

    def __init__(self, address: str, conditions: str, places: Sequence[str] = ()) -> None:
        self._path = f"{address}{ENDING}"
        self._conditions = conditions
        self._places = list(places)
        before = read_failure(address)
        again = before is not None and before.conditions == conditions
        self._pause = min(before.pause * 2, MAX_SECONDS) if before is not None and again else FIRST_SECONDS
        self.fail(_KILLED)

    def fail(self, reason: str) -> None:
        """Note why the start failed; a full disk is no error."""
        table = {
            "pause": self._pause,
            "reason": reason[:_MAX_REASON],
            "conditions": self._conditions,
            "places": self._places,
        }
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.suppress(OSError):
            file = os.open(self._path, flags, 0o600)
            try:
                os.utime(file)
                os.write(file, json.dumps(table).encode())
            finally:
                os.close(file)

    def succeed(self) -> None:
        """Note that the worker is ready."""
        _remove(self._path)


def read_failure(address: str) -> Failure | None:
    """Return the last failure of a worker for this socket; None if there is none."""
    try:
        with open(f"{address}{ENDING}", "rb") as file:  # noqa: PTH123
            at = os.fstat(file.fileno()).st_mtime
            data = file.read(_MAX_BYTES)
    except OSError:
        return None
    try:
        table = json.loads(data)
        pause, reason, conditions = float(table["pause"]), str(table["reason"]), str(table["conditions"])
        places = tuple(map(str, table.get("places", ())))
    except (ValueError, KeyError, TypeError):
        return Failure(at=at, pause=UNKNOWN_SECONDS, reason="", conditions="")
    return Failure(at=at, pause=min(pause, MAX_SECONDS), reason=reason, conditions=conditions, places=places)


def is_to_wait(address: str, conditions: str) -> bool:
    """Return whether no worker is started yet: the last start failed a short time ago, under the same conditions."""
    failure = read_failure(address)
    return failure is not None and failure.conditions in ("", conditions) and failure.remaining_s > 0


def forget_failure(address: str) -> None:
    """Have the next run start a worker, whatever failed before."""
    _remove(f"{address}{ENDING}")


def remove_outdated(address: str) -> None:
    """Remove the failure of a worker for this socket if it is a day old, or no run can start that worker again."""
    failure = read_failure(address)
    if failure is not None and (failure.is_of_no_use or time.time() - failure.at > _OLD_SECONDS):
        forget_failure(address)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108
