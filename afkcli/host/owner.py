"""Identifies this process so precisely that another process can prove that it has ended.

A process id alone proves nothing: ids are used again, containers have their own, and a machine starts anew. So an owner
also names its host, the boot of that host, its pid namespace and its start time (Linux: proc(5), namespaces(7)).
"""

from __future__ import annotations

import os
import sys
from functools import cache

from afkcli.core.contract.protocols import Owner
from afkcli.core.contract.structs import replace
from afkcli.host.invocation import process_environment

_STATE, _START_TIME = 0, 19  # fields 3 and 22 of /proc/PID/stat, counted from behind the name
_DEAD_STATES = ("Z", "X", "x")


def current_owner(run_id: str) -> Owner:
    """Return this process as the owner `run_id`; what the platform does not say is ""."""
    return replace(_this_process(os.getpid()), run_id=run_id)


def boot_id() -> str:
    """Return the id of this boot of this host, or "" where the platform has none."""
    return _read("/proc/sys/kernel/random/boot_id").strip()


def proven_dead(owner: Owner) -> bool:
    """Return whether `owner` has provably ended; an owner that is unknown or on another host counts as alive."""
    here = _this_process(os.getpid())
    if not here.host or owner.host != here.host:
        return False
    if here.boot_id and owner.boot_id and owner.boot_id != here.boot_id:
        return True  # an earlier boot of this host
    if sys.platform == "darwin":
        return _no_such_process(owner.pid)
    if not here.boot_id or owner.boot_id != here.boot_id:
        return False
    if not here.pid_namespace or owner.pid_namespace != here.pid_namespace:
        return False
    return _no_such_process(owner.pid) or _was_replaced(owner)


@cache
def _this_process(pid: int) -> Owner:
    stat = _stat(pid)
    return Owner(
        host=_host(),
        boot_id=boot_id(),
        pid_namespace=_pid_namespace(),
        pid=pid,
        start_time=stat[_START_TIME] if stat else "",
        run_id="",
    )


def _host() -> str:
    """Return the host's name with its machine id, for names alone are often shared ("localhost")."""
    name = os.uname().nodename if hasattr(os, "uname") else process_environment().get("COMPUTERNAME", "")
    machine = _read("/etc/machine-id").strip()
    return f"{name}/{machine}" if machine else name


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115
    except OSError:
        return ""


def _no_such_process(pid: int) -> bool:
    """Return whether no process has this id now. Signal 0 answers that even where /proc hides processes."""
    if sys.platform == "win32":  # os.kill(pid, 0) would send Ctrl-C there
        return False
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _was_replaced(owner: Owner) -> bool:
    """Return whether the id is now that of a zombie or of a process that started at another time."""
    stat = _stat(owner.pid)
    if not stat:
        return False
    return stat[_STATE] in _DEAD_STATES or bool(owner.start_time and stat[_START_TIME] != owner.start_time)


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name, which may contain spaces and brackets; [] if unknown."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields if len(fields) > _START_TIME else []


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - pathlib is slow to import
            return file.read()
    except OSError:
        return ""
