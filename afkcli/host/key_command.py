"""Runs the command of the user's config that prints a key, such as `["pass", "show", "openai"]`.

No shell reads it. It gets the terminal to ask for a passphrase, whatever stdin of afk is.

Since: 0.2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from afkcli.core.contract.credentials import MASK
from afkcli.core.contract.errors import ConfigError
from afkcli.core.contract.text import one_line
from afkcli.core.contract.waits import waiting_for
from afkcli.host.keys import MAX_KEY_CHARS, checked_key

SECONDS = 120.0
"""The longest that a command may take; a person may have to find a passphrase."""

_MAX_BYTES = 2 * MAX_KEY_CHARS
_LEAST_SECRET = 6
"""A shorter word that a command prints may be any word of a message."""
_LAST_BYTES_SECONDS = 1.0
"""How long output is waited for after the end of the command: an agent that it started may keep its pipes open."""


class KeyCommand:
    """One run of a command that prints a key.

    Args:
        words: the program and its arguments.
        what: what an error calls it, such as `[providers.openai] api_key_command`.
        environment: its environment.
        folder: where it runs: a folder that only the user can write.
        terminal: the path of the terminal, if there may be one.
        stdin: a descriptor that is used in its place where that is a terminal.
        mask: takes the secrets out of what the command says.
        problem: returns why the program must not be started, or None.
    """

    def __init__(
        self,
        words: Sequence[str],
        what: str,
        *,
        environment: Mapping[str, str],
        folder: Path,
        terminal: str | None,
        stdin: int | None = None,
        mask: Callable[[str], str],
        problem: Callable[[str], str | None] = lambda program: None,
    ) -> None:
        self._words = words
        self._what = what
        self._environment = environment
        self._folder = folder
        self._terminal = terminal
        self._stdin = stdin
        self._mask = mask
        self._problem = problem
        self._process: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """End the command, from another thread; `run` then raises."""
        if self._process is not None:
            self._process.kill()

    def run(self) -> str:
        """Return the first line that the command prints, without the blanks around it.

        Raises:
            ConfigError: it cannot be started, fails, takes too long, or prints no key.
        """
        program = self._program()
        problem = self._problem(program)
        if problem is not None:
            raise self._error(problem)
        stdin = self._open_terminal()
        try:
            with (
                waiting_for(self._what),
                subprocess.Popen(  # noqa: S603 - the user's own config, or a trusted one, names it
                    [program, *self._words[1:]],
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=dict(self._environment),
                    cwd=self._folder if self._folder.is_dir() else Path.home(),
                ) as process,
            ):
                self._process = process
                return self._key_of(process)
        except OSError as error:
            raise self._error(f"{program} cannot be started: {error.strerror}") from None
        finally:
            if stdin >= 0:
                os.close(stdin)

    def _program(self) -> str:
        name = self._words[0]
        if name.startswith("~"):
            with suppress(RuntimeError):
                name = str(Path(name).expanduser())
        if os.path.basename(name) != name and not Path(name).is_absolute():  # noqa: PTH119 - "./x" is no mere name
            raise self._error(
                f"the program {name!r} is a relative path; write the full one, or one that begins with ~/"
            )
        path = self._environment.get("PATH", os.defpath)
        # Not the folder in which afk was started: somebody else may have written it.
        absolute = os.pathsep.join(entry for entry in path.split(os.pathsep) if Path(entry).is_absolute())
        found = shutil.which(name, path=absolute)
        if found is None:
            raise self._error(f"there is no program {name!r}; install it, or change the setting")
        return found

    def _open_terminal(self) -> int:
        if self._terminal is not None:
            with suppress(OSError):
                return os.open(self._terminal, os.O_RDWR | getattr(os, "O_NOCTTY", 0))
        if self._stdin is not None:
            with suppress(OSError):
                if os.isatty(self._stdin):
                    return os.dup(self._stdin)
        return subprocess.DEVNULL

    def _key_of(self, process: subprocess.Popen[bytes]) -> str:
        assert process.stdout is not None
        assert process.stderr is not None
        out, err = _Reader(process.stdout, process.kill), _Reader(process.stderr)
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise self._error(f"it did not end within {SECONDS:g} s{self._said(out, err)}") from None
        finally:
            printed = out.bytes()
            err.bytes()
        if out.is_too_long:
            raise self._error(f"it was stopped, because it printed more than any key has{self._said(out, err)}")
        if code:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise self._error(f"it failed with {how}{self._said(out, err)}")
        first = printed.decode("utf-8-sig", "replace").partition("\n")[0]
        try:
            return checked_key(first)[0]
        except ValueError as why:
            raise self._error(f"the first line that it prints is not a key: {why}{self._said(out, err)}") from None

    def _said(self, out: _Reader, err: _Reader) -> str:
        """Return the last line of stderr, without what was printed: a program that fails may say the key there too."""
        lines = err.bytes().decode("utf-8", "replace").strip().splitlines()
        if not lines:
            return ""
        line = lines[-1]
        for word in sorted(set(out.bytes().decode("utf-8", "replace").split()), key=len, reverse=True):
            line = line.replace(word, MASK) if len(word) >= _LEAST_SECRET else line
        return f": {one_line(self._mask(line))[:500]}"

    def _error(self, what: str) -> ConfigError:
        return ConfigError(f"{self._what}: {what}")


class _Reader:
    """Reads a pipe on a thread of its own; what is more than a key is dropped.

    Args:
        pipe: the pipe.
        stop: ends the command when it writes more than that; without it, it may go on.
    """

    def __init__(self, pipe: IO[bytes], stop: Callable[[], None] | None = None) -> None:
        self._data = bytearray()
        self._stop = stop
        self.is_too_long = False
        # A copy, which the thread closes: the number of a pipe that is closed while it is read may be used again.
        copy = os.dup(pipe.fileno())
        self._thread = threading.Thread(target=self._read, args=(copy,), name="afk-key", daemon=True)
        self._thread.start()

    def _read(self, descriptor: int) -> None:
        try:
            while piece := os.read(descriptor, 65536):
                if len(self._data) < _MAX_BYTES:
                    self._data += piece
                elif self._stop is not None:
                    self.is_too_long = True
                    self._stop()
                    return  # closed, so that a child of the command, which goes on, gets SIGPIPE
        except OSError:
            pass
        finally:
            os.close(descriptor)

    def bytes(self) -> bytes:
        """Return what came, once no more comes or the command has ended for a moment."""
        self._thread.join(_LAST_BYTES_SECONDS)
        return bytes(self._data)
