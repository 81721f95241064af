"""Starts a worker at the end of a cold run, which does not wait for it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from afkcli.config.reading import load_user_config
from afkcli.core.contract.errors import ConfigError
from afkcli.host.paths import config_file
from afkcli.worker import place, room
from afkcli.worker.caller import Caller
from afkcli.worker.client import is_looked_into
from afkcli.worker.failures import is_to_wait
from afkcli.worker.identity import files_of_modules, stamp
from afkcli.worker.surroundings import may_outlive

_PROVIDER = re.compile(r"afk_provider_\w+\.provider|afkcli\.providers\.base")
"""What a run imports that asks a provider: after any other command, no worker is started."""

PASSED_ON = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TMPDIR|LANG|LANGUAGE|LC_[A-Z]+|TZ|TZDIR|XDG_[A-Z_]+_(HOME|DIR|DIRS)|AFK_HOME"
    r"|AFK_WORKER|AFK_WORKER_SOCKET|AFK_WORKER_LOG|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE"
    r"|VIRTUAL_ENV|CONDA_PREFIX|LD_LIBRARY_PATH|MALLOC_[A-Z_]+|GLIBC_TUNABLES|OPENSSL_CONF|LOCPATH|(?i:(http|https|all|no|ftp|ws|wss)_proxy)"
)
"""The variables that a worker gets. None of them has a key, except a proxy with a password: see `environment_of`."""

_SCRIPT = os.path.join(os.path.dirname(os.path.dirname(__file__)), "warm.py")  # noqa: PTH118, PTH120
_NOT_IMPORTED = re.compile(r"__main__|__mp_main__|afk_plugin_file_.*|afkcli\.worker\..*")


def start_worker(environment: Mapping[str, str], program: str) -> None:
    """Start a worker for the next command, if one is of use here and none is there.

    Args:
        environment: of this process, as it was given to it: see `given_environment`.
        program: what was executed.
    """
    with contextlib.suppress(OSError, ValueError, ConfigError):
        address = _wanted(environment, program)
        if address is None:
            return
        conditions = conditions_of(environment)
        if not is_to_wait(address, conditions):
            spawn({**order_of(address, program), "conditions": conditions}, environment)


def _wanted(environment: Mapping[str, str], program: str) -> str | None:
    """Return where the socket of a worker is to be; None where there is one, or none is wanted."""
    if (
        sys.platform != "linux"
        or not any(map(_PROVIDER.fullmatch, tuple(sys.modules)))
        or place.is_off(environment)
        or place.relative_path(environment) is not None
        or is_looked_into()
        or Caller(os.getpid()).is_traced()  # strace -f would wait for the end of the worker
    ):
        return None
    if not may_outlive(environment):
        return None
    address = place.socket_path(environment, program)
    if address is None or place.is_held(address) or not is_enabled(environment):
        return None
    folder = os.path.dirname(address)  # noqa: PTH120
    if not _can_be_own(folder):
        return None
    return address if len(place.held(folder)) < place.MAX_WORKERS and room.is_ample() else None


def _can_be_own(folder: str) -> bool:
    """Return whether the folder of the sockets is the user's own, or can be made, and can be written."""
    if os.path.lexists(folder):
        return place.is_own(folder) and os.access(folder, os.W_OK | os.X_OK)
    return os.access(os.path.dirname(folder), os.W_OK | os.X_OK)  # noqa: PTH120


def is_enabled(environment: Mapping[str, str]) -> bool:
    """Return whether the user's config lets a worker start.

    Raises:
        ConfigError: it is malformed: a worker could not read it either.
    """
    return bool(load_user_config(config_file(environment)).table.get("worker", {}).get("enabled", True))


def conditions_of(environment: Mapping[str, str]) -> str:
    """Return what a start depends on, as 64 hexadecimal digits: where it has changed, one that failed may succeed.

    That is the environment of the worker, the config, the interpreter, the folders of its packages, and the providers
    that the run has used.
    """
    import hashlib

    paths = (os.fspath(config_file(environment)), sys.executable, f"{sys.prefix}/pyvenv.cfg", *sys.path)
    found = {
        "environment": sorted((environment_of(environment) or {}).items()),
        "files": [(path, stamp(path)) for path in paths],
        "providers": sorted(name for name in tuple(sys.modules) if _PROVIDER.fullmatch(name)),
    }
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def is_passed_on(name: str) -> bool:
    """Return whether a worker gets the variable of this name."""
    return PASSED_ON.fullmatch(name) is not None or name in place.FROM_START


def environment_of(environment: Mapping[str, str]) -> dict[str, str] | None:
    """Return the environment of a worker; None where a proxy has a password, which no worker may have."""
    kept = {name: value for name, value in environment.items() if is_passed_on(name)}
    secret = any(name.lower().endswith("_proxy") and "@" in value for name, value in kept.items())
    return None if secret else kept


def spawn(order: Mapping[str, object], environment: Mapping[str, str]) -> int | None:
    """Start a worker, and return its process id; None where it may not have its environment.

    Args:
        order: what it is to be: see `order_of`.
        environment: of the process that starts it.
    """
    kept = environment_of(environment)
    if kept is None:
        return None
    file = os.memfd_create("afk-worker")
    try:
        os.write(file, json.dumps(order).encode())
        os.lseek(file, 0, os.SEEK_SET)
        return os.posix_spawn(
            sys.executable,
            [sys.executable, _SCRIPT],
            kept,
            file_actions=_file_actions(file),
            setsid=True,
            setsigmask=(),
            setsigdef=_reset(),
        )
    finally:
        os.close(file)


def order_of(address: str, program: str) -> dict[str, object]:
    """Return the order for a worker that imports what this process has imported.

    Args:
        address: the path of its socket.
        program: what was executed.
    """
    return {
        "socket": address,
        "program_folder": os.path.dirname(os.path.realpath(program)),  # noqa: PTH120
        "path": sys.path,
        "files": files_of_modules(),
        "modules": [name for name, module in tuple(sys.modules.items()) if _is_kept(name, module)],
    }


def _is_kept(name: str, module: object) -> bool:
    """Return whether a worker imports a module: not one of a plugin file, or of what is only in this process."""
    if _NOT_IMPORTED.fullmatch(name):
        return False
    spec = getattr(module, "__spec__", None)
    return spec is not None and getattr(spec, "name", None) == name


def _file_actions(order: int) -> list[tuple[Any, ...]]:
    """Give stdin the order, stdout and stderr the null device, and no other descriptor."""
    actions: list[tuple[Any, ...]] = [
        (os.POSIX_SPAWN_DUP2, order, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_RDWR, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_RDWR, 0),
    ]
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(OSError):
            if int(name) > 2 and not fcntl.fcntl(int(name), fcntl.F_GETFD) & fcntl.FD_CLOEXEC:
                actions.append((os.POSIX_SPAWN_CLOSE, int(name)))
    return actions


def _reset() -> list[int]:
    import signal

    return sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
