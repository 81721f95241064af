"""Sees what modules do while they are imported: what would be another thing at the next command must not be kept.

What a module reads then counts for the worker as the module itself does. Where one writes, or asks for the folder, a
process, the network or a file of the user, a cold run has an effect or a value that a warm one has not.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Collection, Iterator
from types import FrameType
from typing import Any

from afkcli.host.descriptors import LinesForPeople

_READS = ("open", "os.listdir", "os.scandir")
_DOUBTFUL = {
    "socket.connect": "connects to something",
    "socket.getaddrinfo": "asks the network",
    "sqlite3.connect": "opens a database",
}
"""Audit events of Python, and what a module does then."""
_PROCESSES = ("os.exec", "os.fork", "os.posix_spawn", "os.system", "subprocess.Popen")
_EVENTS = frozenset((*_READS, *_PROCESSES, *_DOUBTFUL))
_SYSTEM = ("/usr", "/etc", "/lib", "/lib64", "/opt")
_NOT_FILES = ("/proc", "/sys", "/dev")
_FINDS_TEMPORARY = "_get_default_tempdir"
"""The function of `tempfile` that tries to write to a folder; each command finds the folder anew."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Importing:
    """What was seen: the files and folders that were read, and why the modules must not be kept, "" if they may."""

    def __init__(self, plugins: Collection[str]) -> None:
        self._plugins = plugins
        self.paths: set[str] = set()
        self.doubt = ""
        self.is_on = True

    def on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take note of an audit event."""
        if not self.is_on or event not in _EVENTS:
            return
        module = _imported_module(sys._getframe(1))
        if module is None:
            return
        if event in _PROCESSES:
            self.on_question("starts a process")
        elif event in _DOUBTFUL:
            self._note(module, _DOUBTFUL[event])
        elif arguments and isinstance(arguments[0], str | bytes):
            self._on_path(module, os.fsdecode(arguments[0]), event == "open" and _writes(*arguments[1:]))

    def on_write(self) -> None:
        """Take note of text for a standard stream."""
        module = _imported_module(sys._getframe(1)) if self.is_on else None
        if module is not None:
            self._note(module, "writes to a standard stream")

    def on_question(self, does: str) -> None:
        """Take note of a question about the process or the machine, if a plugin asks: libraries ask for their logs."""
        module = _imported_module(sys._getframe(1)) if self.is_on else None
        if module is not None and _name(module).partition(".")[0] in self._plugins:
            self._note(module, does)

    def _on_path(self, module: FrameType, path: str, writes: bool) -> None:
        if _is_below(path, _NOT_FILES):
            return
        if writes:
            self._note(module, f"writes {path}")
        elif not path.startswith("/"):
            self._note(module, f"reads {path} in the working folder")
        elif _is_below(path, (*_SYSTEM, sys.prefix, sys.base_prefix, *sys.path, os.path.dirname(_file(module)))):  # noqa: PTH120
            self.paths.add(path)
        else:
            self._note(module, f"reads {path}")

    def _note(self, module: FrameType, does: str) -> None:
        self.doubt = self.doubt or f"{_name(module)} {does} while it is imported"


@contextlib.contextmanager
def observed(plugins: Collection[str]) -> Iterator[Importing]:
    """See what is imported meanwhile does; the end of the block raises nothing, so look at `doubt` then.

    Args:
        plugins: the packages of installed plugins.
    """
    seen = Importing(plugins)
    sys.addaudithook(seen.on_event)  # it stays, without an effect: there is no way to remove one
    streams, getcwd = (sys.stdout, sys.stderr), os.getcwd

    def noted_getcwd() -> str:
        seen.on_question("asks for the working folder")
        return getcwd()

    sys.stdout, sys.stderr = (_Noting(stream, seen) for stream in streams)
    os.getcwd = noted_getcwd
    try:
        yield seen
    finally:
        seen.is_on = False
        os.getcwd = getcwd
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = streams


class _Noting(io.TextIOWrapper):
    """A standard stream; a module may keep it, so it stays usable."""

    def __init__(self, stream: Any, seen: Importing) -> None:
        number = stream.fileno()
        # A command replaces a stderr that waits for its reader.
        there: Any = LinesForPeople(2, "stderr") if number == 2 else io.BufferedWriter(io.FileIO(number, "w", False))
        super().__init__(there, encoding=stream.encoding, errors=stream.errors, newline="\n", line_buffering=True)
        self._seen = seen

    def write(self, text: str, /) -> int:
        self._seen.on_write()
        return super().write(text)

    def isatty(self) -> bool:
        self._seen.on_question("asks for a terminal")
        return super().isatty()


def _imported_module(frame: FrameType | None) -> FrameType | None:
    """Return the frame of the module whose import has led here; None if there is none, or Python itself does it."""
    module = None
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith("<frozen importlib"):
            return module
        if code.co_name == _FINDS_TEMPORARY:
            return None
        if module is None and code.co_name == "<module>":
            module = frame
        frame = frame.f_back
    return None


def _name(module: FrameType) -> str:
    return str(module.f_globals.get("__name__"))


def _file(module: FrameType) -> str:
    return module.f_code.co_filename


def _is_below(path: str, folders: tuple[str, ...]) -> bool:
    return any(folder not in ("", "/") and f"{path}/".startswith(f"{folder.rstrip('/')}/") for folder in folders)


def _writes(mode: object = None, flags: object = 0) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & _WRITING)
