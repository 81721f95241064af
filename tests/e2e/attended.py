"""A terminal of its own with somebody at it: what is typed, what is seen."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.e2e.shell import AFK, LIMIT, Shell
from tests.e2e.warm import start


@dataclass
class Attended:
    """The other side of a terminal; `seen` is what it got so far."""

    main: int
    side: int
    seen: str = ""

    def wait_for(self, text: str, after: int = 0) -> int:
        """Read until `text` is seen from position `after` on; return the position behind it."""
        while text not in self.seen[after:]:
            assert select.select([self.main], [], [], LIMIT)[0], f"no {text!r} in {self.seen!r}"
            self.seen += os.read(self.main, 65536).decode("utf-8", "replace")
        return self.seen.index(text, after) + len(text)

    def type(self, text: str) -> None:
        os.write(self.main, text.encode())

    def start(
        self,
        shell: Shell,
        *arguments: str,
        program: Sequence[str | Path] = (AFK,),
        stderr: IO[bytes] | None = None,
        **env: str,
    ) -> subprocess.Popen[bytes]:
        """Start `afk` on this terminal, as a shell does in the foreground.

        Args:
            program: put before the arguments.
            stderr: a file in place of the terminal.
        """
        return start(
            [*program, *arguments],
            cwd=shell.folder,
            env=shell.environment(**{"TERM": "xterm", **env}),
            stdin=self.side,
            stdout=self.side,
            stderr=self.side if stderr is None else stderr,
            start_new_session=True,
            take_terminal=True,
        )


@contextmanager
def attended_terminal(columns: int = 0, lines: int = 24) -> Iterator[Attended]:
    """Open a terminal that is so many columns wide; one that does not say its size by default."""
    main, side = pty.openpty()
    if columns:
        termios.tcsetwinsize(side, (lines, columns))
    try:
        yield Attended(main, side)
    finally:
        os.close(main)
        os.close(side)
