"""What a worker tells of itself: in the file whose lock it holds."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence

from afkcli.core.contract.structs import FrozenStruct
from afkcli.worker import place

_MAX_BYTES = 1 << 16


class State(FrozenStruct, kw_only=True):
    """What a worker tells of itself.

    Args:
        pid: its process id.
        began: when it was ready, in seconds since the epoch.
        served: how many commands it has run.
        reason: why the last command that asked it ran cold; "" if it ran warm, or none has asked.
        holds: the packages that it has imported, without those of Python itself.
        pid_namespace: of which namespace its process id is; "" if that is not known.
    """

    pid: int = 0
    began: float
    served: int
    reason: str
    holds: tuple[str, ...]
    pid_namespace: str = ""

    @property
    def is_here(self) -> bool:
        """Whether its process id names the worker here: a container that shares the folder has ids of its own."""
        return self.pid_namespace == _pid_namespace()


def write_state(lock: int, state: State) -> None:
    """Write what `state` says, and the id of this process, to the open file of the lock; a full disk is no error."""
    table = {
        "pid": os.getpid(),
        "began": state.began,
        "served": state.served,
        "reason": state.reason,
        "holds": list(state.holds),
        "pid_namespace": _pid_namespace(),
    }
    with contextlib.suppress(OSError):
        os.pwrite(lock, json.dumps(table).encode().ljust(os.fstat(lock).st_size), 0)


def read_state(address: str) -> State | None:
    """Return what the worker of a socket tells of itself; None if there is none, or it is not ready yet."""
    if not place.is_held(address):
        return None
    try:
        with open(f"{address}.lock", "rb") as file:  # noqa: PTH123
            table = json.loads(file.read(_MAX_BYTES))
        return State(
            pid=int(table["pid"]),
            began=float(table["began"]),
            served=int(table["served"]),
            reason=str(table["reason"]),
            holds=tuple(map(str, table["holds"])),
            pid_namespace=str(table.get("pid_namespace", "")),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115
    except OSError:
        return ""


def held_modules(modules: Sequence[str]) -> tuple[str, ...]:
    """Return the packages of imported modules, sorted, without those of Python itself."""
    packages = {name.partition(".")[0] for name in modules if name in sys.modules}
    return tuple(sorted(name for name in packages - sys.stdlib_module_names if not name.startswith("_")))
