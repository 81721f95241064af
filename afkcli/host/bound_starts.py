"""Programs of trusted projects: the files that a start names are hashed when they are trusted, and before each start.

A project's config may start programs. Trust applies to the program and to the files that its arguments and variables
name, as far as these are in the project's folder. What the program reads or starts in turn is not known here, and
neither is a program outside the folder: `not_bound` names it.

Between the check and the start there is a moment in which a file can be replaced (SECURITY.md).

Since: 0.2.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from afkcli.core.contract.structs import FrozenStruct, field
from afkcli.host.invocation import Invocation, process_environment
from afkcli.host.paths import state_dir

MAX_FOLDER_FILES = 5000
MAX_FOLDER_BYTES = 50_000_000
MAX_FILE_BYTES = 200_000_000
TOO_LARGE = "too large to be bound"
"""In the place of a hash: the file or folder has more files or bytes than are read before a start."""

_SEPARATORS = re.compile(r"[\s;|&<>()'\"`=,@:]+")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_MODULE_FLAG = re.compile(r"-[A-Za-z]*m(.*)")
_RUNS_FOLDERS = re.compile(r"(python|pypy|node|bun|deno|tsx)[\d.]*(\.exe)?")
_LEFT_OUT = (".js", ".mjs", ".cjs", ".ts")  # Node looks for `server.js` where `server` is named
_ENTRIES = ("package.json", "index.js", "index.mjs", "index.cjs", "index.ts")
_CHUNK = 1024 * 1024


class Start(FrozenStruct, kw_only=True):
    """A program that a config starts, as it is written there.

    Args:
        command: the program: a path, or a name that is looked up in PATH.
        args: its arguments.
        env: variables that it is given; `${NAME}` in a value is a variable of afk's environment.
        cwd: the folder in which it runs; "" is the working folder of afk.
    """

    command: str
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""

    @property
    def key(self) -> str:
        """A text that is equal for equal starts."""
        return repr((self.command, list(self.args), sorted(self.env.items()), self.cwd))


class BoundFiles(FrozenStruct, kw_only=True):
    """The files of one start in a project's folder: what they are now, by path, and what is not bound."""

    digests: Mapping[str, str]
    not_bound: Sequence[str] = ()


class BoundStarts:
    """The starts of the trusted projects of this process, with what their files were when they were trusted."""

    def __init__(self) -> None:
        self._known: dict[str, dict[Path, Mapping[str, str]]] = {}

    def add(self, start: Start, config: Path, digests: Mapping[str, str]) -> None:
        """Check `start` from now on; `digests` is what the record of trusted files has for it in the file `config`."""
        self._known.setdefault(start.key, {})[config] = digests

    def problem(self, start: Start, program: str | None, folder: Path, environment: Mapping[str, str]) -> str | None:
        """Return why the program must not be started, or None; `program` is looked up by default."""
        for config, trusted in self._known.get(start.key, {}).items():
            now = bound_files(start, config.parent, folder, environment, program).digests
            gone = {path: digest_of(Path(path)) for path in trusted if path not in now}
            for path, digest in {**now, **gone}.items():
                if path not in trusted:
                    return f"{path} was not there, or not named, when {config} was trusted; look at it, {_AGAIN}"
                if digest != trusted[path]:
                    what = "has changed since" if digest else "is gone since"
                    return f"{path} {what} {config} was trusted; look at it, {_AGAIN}"
        return None

    def environment(self, start: Start) -> dict[str, str]:
        """Return variables for the program: Python keeps the bytecode of a bound package in a folder of afk.

        In the package's own `__pycache__` somebody else could have put other code than what was hashed.
        """
        folders = any(path.endswith("/") for trusted in self._known.get(start.key, {}).values() for path in trusted)
        if not folders or "PYTHONPYCACHEPREFIX" in start.env:
            return {}
        key = hashlib.sha256(start.key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return {"PYTHONPYCACHEPREFIX": str(state_dir() / "bytecode" / key)}


_AGAIN = "then run `afk trust` again"

BOUND_STARTS = BoundStarts()
"""Those of this process: the config fills it, and plugins that start programs ask it."""


def start_problem(start: Start, program: str, folder: Path | None) -> str | None:
    """Return why a program of the config must not be started, or None. Call it just before the start.

    Only the programs of trusted projects are checked, those of the user's own config are not. It reads the files that
    the start names, so call it outside the event loop.

    Args:
        start: the start as the config has it.
        program: the path of the program that was found for it.
        folder: the folder in which it will run; None is the working folder of afk.

    Since: 0.2.
    """
    if folder is None:
        folder = Path(Invocation.of_process().folder or os.sep)
    return BOUND_STARTS.problem(start, program, folder, process_environment())


def start_environment(start: Start) -> dict[str, str]:
    """Return the variables that a program of a trusted project is given besides those of the config. Since: 0.2."""
    return BOUND_STARTS.environment(start)


def bound_files(
    start: Start, project: Path, folder: Path, environment: Mapping[str, str], program: str | None = None
) -> BoundFiles:
    """Return the files of `project` that a start names, with the hash of each.

    Args:
        start: the start.
        project: the folder of the project; a file counts if its path or what it links to is in it.
        folder: the folder in which the program runs.
        environment: the variables of afk.
        program: the path of the program; it is looked up by default.
    """
    variables = {
        name: _REFERENCE.sub(lambda found: environment.get(found[1], ""), value) for name, value in start.env.items()
    }
    program = program or find_program(start.command, folder, variables.get("PATH", environment.get("PATH")))
    named = _Named(project, folder)
    named.take([start.command, *([program] if program else [])])
    words = _words(start.args, folder)
    named.take([*start.args, *words])
    named.take([value for pair in zip(start.env.values(), variables.values(), strict=True) for value in pair])
    named.take_below_folders()
    if any(_RUNS_FOLDERS.fullmatch(Path(word).name) for word in (start.command, *words)):
        named.take_entries()
    on_path = variables.get("PYTHONPATH", "").split(os.pathsep)
    named.take_modules(_modules(words), [folder, *(folder / entry for entry in on_path if entry)])
    named.take_interpreters()
    outside = [] if program is None or named.covers(Path(folder, program)) else [f"{program}, outside the project"]
    large = [f"{path}, {TOO_LARGE}" for path, digest in named.digests.items() if digest.endswith(TOO_LARGE)]
    folders = [f"{path}, a folder" for path in sorted(named.folders) if f"{path}/" not in named.digests]
    return BoundFiles(digests=named.digests, not_bound=[*outside, *large, *folders])


def find_program(command: str, folder: Path, path: str | None) -> str | None:
    """Return the path of a program, looked up in `path` if it is a mere name, or None."""
    name = _expanded(command)
    if len(name.parts) > 1:
        return shutil.which(str(folder / name))
    found = shutil.which(command, path=path)
    return str(folder / found) if found is not None else None


def digest_of(path: Path) -> str:
    """Return what a file is: the path that its links lead to, and the SHA-256 of its bytes; "" if there is no file."""
    try:
        real = path.resolve(strict=True)
        if stat.S_ISDIR(real.stat().st_mode):
            return f"{real} {_digest_of_folder(real)}"
        return f"{real} {_hash(real)}"
    except (OSError, RuntimeError):  # RuntimeError: a loop of links, before Python 3.13
        return ""


class _Named:
    """Collects the files of a project that words name."""

    def __init__(self, project: Path, folder: Path) -> None:
        self._inside = {str(project.absolute()), str(project.resolve())}
        self._folder = folder.absolute()
        self.digests: dict[str, str] = {}
        self.folders: set[Path] = set()
        self._seen: set[str] = set()

    def take(self, words: Iterable[str]) -> None:
        """Collect the files that words name, or a part of a word: `--config=FILE`, `-eFILE`, `./a && ./b`."""
        for word in words:
            for piece in _pieces(word):
                if piece not in self._seen:
                    self._seen.add(piece)
                    self._take_path(self._folder / _expanded(piece))

    def _take_path(self, path: Path, *, folders: bool = True) -> None:
        try:
            mode = path.stat().st_mode
        except (OSError, ValueError):
            for suffix in _LEFT_OUT:
                if os.path.lexists(f"{path}{suffix}"):
                    self._take_path(path.with_name(path.name + suffix))
            return
        if self.covers(path):
            if stat.S_ISDIR(mode):
                if folders:
                    self.folders.add(_plain(path))
            else:
                self.digests[str(_plain(path))] = digest_of(path)

    def covers(self, path: Path) -> bool:
        """Return whether a path, or what it leads to, is in the project."""
        for place in (os.path.normpath(path), os.path.realpath(path)):
            if any(place == folder or place.startswith(folder.rstrip("/") + "/") for folder in self._inside):
                return True
        return False

    def take_below_folders(self) -> None:
        """Collect the files that words name below a folder that another word names: `--directory server main.py`."""
        for folder in [folder for folder in self.folders if folder != _plain(self._folder)]:
            for piece in self._seen:
                if Path(piece).name and not Path(piece).is_absolute() and piece.strip("./"):
                    self._take_path(folder / piece, folders=False)

    def take_entries(self) -> None:
        """Collect what Python or Node run in a folder that is named."""
        for folder in list(self.folders):
            for name in _ENTRIES:
                if (folder / name).is_file() and folder != _plain(self._folder):
                    self._take_path(folder / name)
            if (folder / "__main__.py").is_file():
                self._take_folder(folder)

    def take_modules(self, names: Iterable[str], bases: Sequence[Path]) -> None:
        """Collect the packages and modules of `python -m NAME`; whichever of them Python would take."""
        for name in names:
            for base in bases:
                for found in _entries_of(base, name):
                    if found.is_dir() and self.covers(found):
                        self._take_folder(found)
                    elif found.is_file():
                        self._take_path(found)

    def _take_folder(self, folder: Path) -> None:
        self.digests[f"{_plain(folder)}/"] = digest_of(folder)

    def take_interpreters(self) -> None:
        """Collect the interpreters that the first lines of collected scripts name."""
        for path in list(self.digests):
            self.take(_interpreter_of(Path(path)))


def _expanded(text: str) -> Path:
    """Return a path with `~` expanded, if that home folder is known."""
    path = Path(text)
    if text.startswith("~"):
        with contextlib.suppress(RuntimeError):
            path = path.expanduser()
    return path


def _plain(path: Path) -> Path:
    return Path(os.path.normpath(path))


def _pieces(word: str) -> Iterator[str]:
    """Yield a word, and the parts of it that may be a path."""
    parts = [word, word.partition("=")[2], word.removeprefix("file://"), *_SEPARATORS.split(word)]
    parts += [part[2:] for part in parts if part.startswith("-") and not part.startswith("--")]
    parts += [part.removeprefix("//") for part in parts if part.startswith("//")]
    yield from filter(None, parts)


def _words(args: Sequence[str], folder: Path) -> list[str]:
    """Return the words of all arguments; those that are commands of a shell are split."""
    words = [word for arg in args for word in re.split(r"[\s;|&<>()'\"`]+", arg)]
    return [re.sub(r"\$(PWD|\{PWD\})", lambda found: str(folder), word) for word in words if word]


def _modules(words: Sequence[str]) -> list[str]:
    """Return the first parts of the modules that `-m` names."""
    found = []
    for word, following in zip(words, [*words[1:], ""], strict=False):
        flag = _MODULE_FLAG.fullmatch(word)
        if flag is not None:
            found.append((flag[1] or following).partition(".")[0])
    return [name for name in found if name.isidentifier()]


def _entries_of(base: Path, name: str) -> list[Path]:
    try:
        return [entry for entry in base.iterdir() if entry.name == name or entry.name.startswith(f"{name}.")]
    except OSError:
        return []


def _interpreter_of(script: Path) -> list[str]:
    if not script.is_file():  # opening a FIFO would wait for a writer
        return []
    try:
        with script.open("rb") as file:
            line = file.readline(512)
    except OSError:
        return []
    return line[2:].decode("utf-8", "replace").split() if line.startswith(b"#!") else []


def _digest_of_folder(folder: Path) -> str:
    """Return the hash of all files below a folder, without bytecode caches, or `TOO_LARGE`."""
    total = hashlib.sha256()
    count = size = 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted([*files, *(name for name in folders if Path(place, name).is_symlink())]):
            path = Path(place, name)
            count, size = count + 1, size + path.lstat().st_size
            if count > MAX_FOLDER_FILES or size > MAX_FOLDER_BYTES:
                return TOO_LARGE
            what = path.readlink() if path.is_symlink() else ""
            content = _hash(path) if path.is_file() else ""
            total.update(f"{path.relative_to(folder)}\0{what}\0{content}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _hash(path: Path) -> str:
    """Return the SHA-256 of a regular file, read piece by piece."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"
    if status.st_size > MAX_FILE_BYTES:
        return TOO_LARGE
    total = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()
