"""A terminal with a person at it: a command in a tmux server of its own, what is typed, and what the screen shows.

    with Terminal(["afk", "run", "hi"], columns=40, environment={...}, folder=folder) as terminal:
        terminal.wait_for("photosynthesis")
        terminal.resize(30, 10)
        terminal.key("C-c")
        assert terminal.wait_for_end() == 130
        assert "photosynthesis" in terminal.text()

It is for what needs a real terminal: redraws, resizing, what is left in the scrollback, keys. What is about bytes on a
terminal is quicker on a pseudo-terminal (`tests/e2e/attended.py`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.e2e.warm import on_terminal

LIMIT = 120  # seconds after which a command hangs; never a measure of speed
_POLL_SECONDS = (0.03, 0.2)
"""The shortest and the longest pause between two looks, each of which starts a tmux."""
_WAITING = """trap : INT QUIT HUP TERM; "$@"; echo $? >"$0" """
_CONFIG = """\
set -g status off
set -g remain-on-exit on
set -g remain-on-exit-format ""
set -g history-limit 100000
set -g escape-time 0
set -g default-terminal tmux-256color
"""


class Terminal:
    """A command on a terminal of its own; `with` ends both.

    Args:
        command: the program and its arguments; no shell reads them.
        columns, lines: the size of the terminal, which `resize` changes.
        environment: all of the command's environment. TERM is `tmux-256color` where it is not there.
        folder: the working directory of the command.
        cold: start `afk` cold (see `tests.e2e.warm`).
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        columns: int = 80,
        lines: int = 24,
        environment: Mapping[str, str],
        folder: Path,
        cold: bool = False,
    ) -> None:
        self.columns, self.lines = columns, lines
        self._folder = Path(tempfile.mkdtemp(prefix="afk-tmux-"))
        config = self._folder / "tmux.conf"
        config.write_text(_CONFIG)
        variables = {"TERM": "tmux-256color", **environment}
        given = [f"{name}={value}" for name, value in variables.items()]
        started = ("new-session", "-d", "-x", str(columns), "-y", str(lines), "-c", str(folder), "--")
        waiting = ("sh", "-c", _WAITING, str(self._folder / "code"))  # tmux loses some exit codes
        try:
            warm = None if cold else on_terminal(command, variables, self._folder)
            run = ("env", "-i", *given, *map(str, warm or command))
            self._tmux("-f", str(config), *started, *(() if warm else waiting), *run)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the terminal, so that what runs on it gets SIGHUP, as when a window is closed."""
        subprocess.run([*self._program(), "kill-server"], capture_output=True, check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def type(self, text: str) -> None:
        """Type `text` as it is: a newline in it is the key Enter."""
        for number, line in enumerate(text.split("\n")):
            if number:
                self.key("Enter")
            if line:
                self._tmux("send-keys", "-l", "--", line)

    def key(self, *names: str) -> None:
        """Press keys, by the names of tmux(1): `Enter`, `C-c`, `M-Enter`, `Escape`, `Up`, `Tab`, `BSpace`."""
        self._tmux("send-keys", *names)

    def paste(self, text: str) -> None:
        """Paste `text`, in brackets if the program has asked for that (`CSI ? 2004 h`)."""
        self._tmux("load-buffer", "-", given=text)
        self._tmux("paste-buffer", "-p", "-d")

    def resize(self, columns: int, lines: int) -> None:
        """Change the size of the terminal; the program gets SIGWINCH.

        tmux tells the program up to 250 ms later where it has told it another size just before. What is drawn between
        is for the wrong width, so this returns when the program can see the new size.
        """
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))
        self.columns, self.lines = columns, lines
        self.wait_until(lambda: self._told_size() == (lines, columns), "new size")

    def screen(self, *, colours: bool = False) -> str:
        """Return the rows on the screen without the blank ones at its end; with escape sequences for `colours`."""
        return self._captured(*(["-e"] if colours else []))

    def text(self, *, colours: bool = False) -> str:
        """Return all rows: what has scrolled away, then the screen."""
        return self._captured("-S", "-", *(["-e"] if colours else []))

    def copied(self) -> str:
        """Return what a person would copy: rows that the terminal has wrapped are one line, blanks at ends are kept."""
        return self._captured("-S", "-", "-J")

    def scrolled_away(self) -> int:
        """Return the number of rows that have scrolled off the screen."""
        return int(self._asked("history_size"))

    def cursor(self) -> tuple[int, int]:
        """Return the column and the row of the cursor, from 0."""
        column, row = self._asked("cursor_x} #{cursor_y").split()
        return int(column), int(row)

    def wait_for(self, text: str, *, anywhere: bool = True) -> None:
        """Wait until `text` is there, also in what has scrolled away unless `anywhere` is false."""
        self.wait_until(lambda: text in (self.text() if anywhere else self.screen()), repr(text))

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until `condition` holds; `what` says it in the error.

        Raises:
            AssertionError: it does not hold after `LIMIT` seconds.
        """
        deadline = time.monotonic() + LIMIT
        pause, longest = _POLL_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"no {what} on the terminal:\n{self.text()}"
            time.sleep(pause)
            pause = min(pause * 1.3, longest)

    def wait_for_end(self) -> int:
        """Wait until the command has ended; return its exit code as a shell gives it (128 and the signal)."""
        code = self._folder / "code"
        self.wait_until(lambda: code.exists() and code.read_text().endswith("\n"), "end of the command")
        self.wait_until(lambda: self._asked("pane_dead") == "1", "last output")
        return int(code.read_text())

    def picture(self, file: Path, *, title: str = "", scrollback: bool = False) -> None:
        """Write the screen as an SVG picture, with what has scrolled away where `scrollback` is true."""
        import io

        from rich.console import Console
        from rich.text import Text

        console = Console(
            record=True, width=self.columns, file=io.StringIO(), force_terminal=True, legacy_windows=False
        )
        shown = self.text(colours=True) if scrollback else self.screen(colours=True)
        for line in shown.splitlines():
            console.print(Text.from_ansi(line), soft_wrap=True)
        file.write_text(console.export_svg(title=title or file.stem), encoding="utf-8")

    def _captured(self, *options: str) -> str:
        shown = self._tmux("capture-pane", "-p", *options)
        return shown.rstrip("\n") + "\n" if shown.strip("\n") else ""

    def _told_size(self) -> tuple[int, int]:
        """Return the rows and columns that the program's terminal has."""
        descriptor = os.open(self._asked("pane_tty"), os.O_RDONLY | os.O_NOCTTY)
        try:
            return termios.tcgetwinsize(descriptor)
        finally:
            os.close(descriptor)

    def _asked(self, name: str) -> str:
        return self._tmux("display-message", "-p", f"#{{{name}}}").strip()

    def _program(self) -> list[str]:
        return ["tmux", "-u", "-S", str(self._folder / "socket")]

    def _tmux(self, *arguments: str, given: str = "") -> str:
        done = subprocess.run(
            [*self._program(), *arguments], input=given.encode(), capture_output=True, timeout=LIMIT, check=False
        )
        assert done.returncode == 0, f"tmux {arguments[0]}: {done.stderr.decode()}"
        return done.stdout.decode("utf-8", "replace")
