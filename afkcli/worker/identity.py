"""What a worker is: the state of all that its imports depend on. A child compares it with what is there now.

Where anything differs, a command runs cold, as it would have without a worker.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from afkcli.worker.caller import disk_priority_of, scheduling_of
from afkcli.worker.place import COERCED
from afkcli.worker.watching import Watch

_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
_STATUS = (
    b"Uid:",
    b"Gid:",
    b"Groups:",
    b"CapInh:",
    b"CapPrm:",
    b"CapEff:",
    b"CapBnd:",
    b"CapAmb:",
    b"NoNewPrivs:",
    b"Seccomp:",
    b"Seccomp_filters:",
    b"Speculation_Store_Bypass:",
    b"Cpus_allowed:",
    b"Mems_allowed:",
    b"THP_enabled:",
)
"""The lines of /proc/PID/status (proc(5)) that limit what a process may do."""
_FILES = (
    "limits",
    "cgroup",
    "oom_score_adj",
    "personality",
    "attr/current",
    "loginuid",
    "sessionid",
    "coredump_filter",
)

MATTERS = re.compile(
    r"(?i:(http|https|all|no|ftp|ws|wss)_proxy|request_method)"
    r"|(PYTHON|LD_|MALLOC_|GLIBC_|LC_|OPENSSL_|GCONV_|LOCPATH|NLSPATH|RES_OPTIONS|LOCALDOMAIN|HOSTALIASES|SSL|PYDANTIC_).*"
    r"|LANG|LANGUAGE|TZDIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|VIRTUAL_ENV|CONDA_PREFIX|XDG_CONFIG_HOME|AFK_DEBUG"
    r"|TMPDIR|SQLITE_TMPDIR",
)
"""The variables that the interpreter and C libraries read, whether or not Python asks for them.

SQLite asks once where temporary files are to be, as it opens the first database of a process.
"""

_OF_LOADER = ("/etc/ld.so.cache", "/etc/ld.so.preload")
"""By which the loader finds shared libraries (ld.so(8))."""
_DELETED = " (deleted)"
"""How /proc/PID/maps ends a path that leads to another file now, or to none."""

Stamp = tuple[int, int, int, int, int] | None


def stamp(path: str) -> Stamp:
    """Return what changes when a file or a folder does: device, inode, size, time of change of content and of status.

    None where there is none.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - it is called for thousands of files
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class Identity:
    """The state of what a worker's imports depend on.

    Args:
        paths: files and folders.
        read: the names of the variables that were read while something was imported.
        environment: the worker's own, as it was given to it: see `given_environment`.
        program_folder: the folder of the program, which Python puts on its path.
    """

    def __init__(
        self, paths: Iterable[str], read: Iterable[str], environment: Mapping[str, str], program_folder: str
    ) -> None:
        paths = list(paths)
        self._watch = Watch(paths)  # before the state is asked, so that no change comes between
        self.stamps = {path: stamp(path) for path in paths}
        self._ask_unwatched()
        self._has_asked_folders = False
        self.variables = {name: environment.get(name) for name in read}
        self.added = {name: value for name, value in os.environ.items() if environment.get(name) != value}
        """What Python has set at its start, and the imports, as they do in a cold run."""
        self.own = {name: value for name, value in environment.items() if MATTERS.fullmatch(name)}
        self._coerced = self.added.get(COERCED)
        self.program_folder = program_folder
        self.process = process_state("self")
        self._day = _today()

    def changed_path(self) -> str | None:
        """Return a file or folder that has changed, or None."""
        return None if self._is_as_before() else _changed(self.stamps)

    def renew(self) -> str | None:
        """Return a file or folder that has changed, or None; what has changed without counting is not asked again.

        It is for the worker itself, before it forks a child: a child that was killed between the two steps would leave
        a change that no one has seen.
        """
        if not self._watch.is_on or self._is_as_before():
            return None
        self._watch.close()
        self._watch = Watch(self.stamps)
        self._ask_unwatched()
        return _changed(self.stamps)

    def _ask_unwatched(self) -> None:
        """Take the state of what is not watched, or may be hidden by a mount, as the one before."""
        self._asked = {path: self.stamps.get(path) or stamp(path) for path in self._watch.asked}
        self._folders = {path: self.stamps.get(path) or stamp(path) for path in self._watch.folders}

    def is_of_today(self) -> bool:
        """Return whether the date is the same as when the modules were imported: one may have kept it."""
        return self._day == _today()

    def look_ahead(self) -> None:
        """Ask already now for what need not be asked at the hand-over unless something is mounted meanwhile."""
        self._watch.watch_mounts()
        self._has_asked_folders = _changed(self._folders) is None
        self._is_as_before()
        self.changed_variable(os.environ)
        self.differing_state(os.getpid())

    def _is_as_before(self) -> bool:
        """Return whether it is known that nothing has changed, without asking for the state of each file."""
        if not self._watch.is_quiet or _changed(self._asked) is not None:
            return False
        is_known = self._has_asked_folders and self._watch.has_same_mounts
        return is_known or _changed(self._folders) is None

    def changed_since(self, before: Mapping[str, Stamp]) -> str | None:
        """Return a file that is another one than it was before the imports: it may be imported as it was.

        The time of a change of its status does not count: it is another one when a hard link to the file is made.
        """
        for path, known in before.items():
            now = self.stamps.get(path)
            if known is not None and now is not None and known[:4] != now[:4]:
                return path
        return None

    def changed_variable(self, environment: Mapping[str, str]) -> str | None:
        """Return a variable that differs from the worker's and matters to what was imported, or None."""
        environment = self._without_coerced(environment)
        for name, value in self.variables.items():
            if environment.get(name) != value:
                return name
        theirs = {name: value for name, value in environment.items() if MATTERS.fullmatch(name)}
        if theirs != self.own:
            return min(name for name in {*theirs, *self.own} if theirs.get(name) != self.own.get(name))
        return None

    def _without_coerced(self, environment: Mapping[str, str]) -> Mapping[str, str]:
        """Return an environment as it was given to a client that is Python: it sends the locale that it has set."""
        if self._coerced is None or environment.get(COERCED) != self._coerced:
            return environment
        given = {name: value for name, value in environment.items() if name != COERCED}
        return {**given, COERCED: self.own[COERCED]} if COERCED in self.own else given

    def differing_state(self, pid: int) -> str | None:
        """Return in what the process of a client differs from this one, or None."""
        theirs = process_state(pid)
        for name, value in self.process.items():
            if theirs[name] != value:
                return name
        return None


def _changed(stamps: Mapping[str, Stamp]) -> str | None:
    """Return a path whose state is another one, or None."""
    stat = os.stat
    for path, before in stamps.items():
        try:
            status = stat(path)
        except (OSError, ValueError):
            if before is not None:
                return path
            continue
        if before is None or before != (
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        ):
            return path
    return None


def process_state(pid: int | str) -> dict[str, object]:
    """Return what limits a process, by the name of each part."""
    state: dict[str, object] = {name: _read(pid, name) for name in _FILES}
    status = _read(pid, "status").split(b"\n")
    state["status"] = [line for line in status if line.startswith(_STATUS)]
    for name in _NAMESPACES:
        state[name] = _numbers(f"/proc/{pid}/ns/{name}")
    state["root"] = _numbers(f"/proc/{pid}/root")
    state["scheduling"] = scheduling_of(pid)
    state["priority of the disk"] = disk_priority_of(pid)
    return state


def _today() -> str:
    return time.strftime("%Y-%m-%d")


def _read(pid: int | str, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return b""


def _numbers(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_dev, status.st_ino


def imported_paths() -> list[str]:
    """Return the files that were imported, and the folders and files by which Python finds modules."""
    found = dict.fromkeys(files_of_modules())
    for entry in sys.path:
        found[entry] = None
        found.update(dict.fromkeys(_in_folder(entry, (".pth", ".egg-link"))))
    for module in tuple(sys.modules.values()):
        found.update(dict.fromkeys(_folders_of(module)))
    config = os.path.join(sys.prefix, "pyvenv.cfg")  # noqa: PTH118
    found.update(dict.fromkeys((os.path.realpath(sys.executable), sys.executable, config)))
    found.update(dict.fromkeys((*_mapped_files(), *_OF_LOADER)))
    return [path for path in found if path]


def _mapped_files() -> list[str]:
    """Return the files that this process has mapped: the shared libraries, which no module names, and locales.

    Raises:
        RuntimeError: a library was replaced since this process has loaded it.
    """
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
        found = {line.rstrip("\n").split(None, 5)[5] for line in file if "/" in line}
    replaced = sorted(path for path in found if path.endswith(_DELETED) and ".so" in path)
    if replaced:
        raise RuntimeError(f"{replaced[0].removesuffix(_DELETED)} has changed meanwhile")
    return [path for path in found if path.startswith("/") and not path.endswith(_DELETED)]


def files_of_modules() -> list[str]:
    """Return the files of the modules that this process has imported."""
    paths = (getattr(module, "__file__", None) for module in tuple(sys.modules.values()))
    return [path for path in paths if isinstance(path, str) and path.startswith("/")]


def _folders_of(module: object) -> Sequence[str]:
    """Return the folders of a package that has no file of its own: a portion may be added to it."""
    if getattr(module, "__file__", None) is not None:
        return ()
    path = getattr(module, "__path__", None)
    return [entry for entry in path if isinstance(entry, str)] if path is not None else ()


def _in_folder(folder: str, endings: tuple[str, ...]) -> list[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return []
    return [os.path.join(folder, name) for name in names if name.endswith(endings)]  # noqa: PTH118


def recorded(names: set[str], counts: Callable[[], bool]) -> Callable[[], None]:
    """Note in `names` each variable that is read from here on while `counts` is true; return what ends that."""
    data = os.environ._data  # type: ignore[attr-defined]

    class Noting(dict):  # type: ignore[type-arg]
        def __getitem__(self, key: bytes) -> bytes:
            if counts():
                names.add(os.fsdecode(key))
            return super().__getitem__(key)  # type: ignore[no-any-return]

    noting = Noting(data)
    both: Any = os.environ, os.environb  # which share their data
    for environment in both:
        environment._data = noting

    def end() -> None:
        data.clear()
        data.update(noting)
        for environment in both:
            environment._data = data

    return end
