"""Where the socket of a worker is: in a folder of the user's own, by another name for each installation and `AFK_HOME`.

The start of `afk` imports this module, so that it imports nothing that Python has not imported already.
"""

from __future__ import annotations

import os
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SWITCH = "AFK_WORKER"
SOCKET_VARIABLE = "AFK_WORKER_SOCKET"
"""Names the socket itself, for tests that share one worker."""
ENDING = ".sock"
MAX_WORKERS = 4
"""Of one user; each takes about as much memory as a run."""
FROM_START = (
    "PYTHONCOERCECLOCALE",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHASHSEED",
    "PYTHONINTMAXSTRDIGITS",
    "PYTHONIOENCODING",
    "PYTHONNOUSERSITE",
    "PYTHONPYCACHEPREFIX",
    "PYTHONUNBUFFERED",
    "PYTHONUSERBASE",
    "PYTHONUTF8",
)
"""What an interpreter reads at its start: a worker has them, and runs commands with the same values.

With any other variable of Python a command runs cold.
"""
COERCED = "LC_CTYPE"
"""The variable that Python sets at its start where the locale is "C" or is not installed (PEP 538)."""
_COERCED_TO = ("C.UTF-8", "C.utf8", "UTF-8")
_LOOK_INTO = ("COV_", "COVERAGE_")
ON = ("on", "1", "yes", "true")
_OFF = ("off", "0", "no", "false")
_PATHS = ("AFK_HOME", "HOME", "XDG_CONFIG_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "OPENSSL_CONF")
"""The variables that name places on which a worker depends."""
_OFFSET, _PRIME, _MASK = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1  # FNV-1a, 64 bits


def is_off(environment: Mapping[str, str]) -> bool:
    """Return whether the variable `AFK_WORKER` says that there is no worker."""
    return environment.get(SWITCH, "").lower() in _OFF


def keeps_cold(name: str) -> bool:
    """Return whether a command runs cold because a variable is set: it is of an interpreter's start, or of coverage."""
    return name.startswith(_LOOK_INTO) or (name.startswith("PYTHON") and name not in FROM_START)


def relative_path(environment: Mapping[str, str]) -> str | None:
    """Return a variable that names a place below the working folder, which is another one for each command."""
    for name in _PATHS:
        value = environment.get(name)
        if value and value[0] != "/" and not (name == "AFK_HOME" and value[0] == "~"):
            return name
    return None


def given_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of this process as it was given to it: without the locale that Python has set.

    The compiled client has none set: a worker that got it from a cold run would differ from each of its clients.

    Args:
        environment: of this process, early: once it hides its memory, what it was given cannot be read any more.
    """
    given = dict(environment)
    if given.get(COERCED) not in _COERCED_TO:
        return given
    del given[COERCED]
    try:
        with open("/proc/self/environ", "rb") as file:  # noqa: PTH123
            items = [item.partition(b"=") for item in file.read().split(b"\0")]
    except OSError:
        return dict(environment)
    found = [os.fsdecode(value) for name, _, value in items if os.fsdecode(name) == COERCED]
    return {**given, COERCED: found[0]} if found else given


def folder(environment: Mapping[str, str]) -> str:
    """Return the folder of the sockets: `$XDG_RUNTIME_DIR/afk`, or `/tmp/afk-UID` where that is not the user's own."""
    given = environment.get("XDG_RUNTIME_DIR", "")
    if given.startswith("/") and is_own(given):
        return f"{given.rstrip('/')}/afk"
    return f"/tmp/afk-{os.getuid()}"  # noqa: S108 - it is used only if it is the user's own


def is_own(path: str) -> bool:
    """Return whether a path is a folder, no link, that belongs to this user and that no one else may use."""
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and status.st_mode & 0o777 == 0o700


def socket_path(environment: Mapping[str, str], program: str) -> str | None:
    """Return where the socket of the worker for this installation is, None where there can be none.

    Args:
        environment: of the command.
        program: what was executed: the path of the console script, or a link to it.
    """
    if os.getuid() != os.geteuid() or os.getgid() != os.getegid():
        return None
    given = environment.get(SOCKET_VARIABLE)
    if given:
        return given if given.startswith("/") and is_own(given.rpartition("/")[0]) else None
    prefix = prefix_of(program)
    return None if prefix is None else f"{folder(environment)}/{name_of(prefix, environment)}{ENDING}"


def is_held(address: str) -> bool:
    """Return whether there is a worker for a socket: it holds a lock as long as it lives."""
    import fcntl

    try:
        lock = os.open(f"{address}.lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(lock)
    return False


def held(folder_: str) -> list[str]:
    """Return the sockets in a folder for which there is a worker."""
    try:
        names = sorted(os.listdir(folder_))  # noqa: PTH208
    except OSError:
        return []
    addresses = [f"{folder_}/{name.removesuffix('.lock')}" for name in names if name.endswith(f"{ENDING}.lock")]
    return [address for address in addresses if is_held(address)]


def prefix_of(program: str) -> str | None:
    """Return the folder of the environment in which a program is installed; None where it has no interpreter."""
    place, _, name = os.path.realpath(program).rpartition("/")
    prefix, _, last = place.rpartition("/")
    if not name or last != "bin" or prefix != os.path.realpath(sys.prefix):
        return None
    there = (f"{prefix}/pyvenv.cfg", f"{prefix}/bin/python")
    return prefix if any(os.path.exists(path) for path in there) else None  # noqa: PTH110 - pathlib is slow to import


def name_of(prefix: str, environment: Mapping[str, str]) -> str:
    """Return what names the worker of an environment: 16 hexadecimal digits."""
    parts = (prefix, environment.get("AFK_HOME", ""), environment.get("HOME", ""))
    value = _OFFSET
    for byte in b"\0".join(map(os.fsencode, parts)):
        value = (value ^ byte) * _PRIME & _MASK
    return f"{value:016x}"
