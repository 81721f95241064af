"""A terminal of its own with somebody at it: what is typed, what is seen."""

from __future__ import annotations

import os
import pty
import select
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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
        self, shell: Shell, *arguments: str, program: Sequence[str | Path] = (AFK,), **env: str
    ) -> subprocess.Popen[bytes]:
        """Start `afk` on this terminal, as a shell does in the foreground; `program` is put before the arguments."""
        return start(
            [*program, *arguments],
            cwd=shell.folder,
            env=shell.environment(TERM="xterm", **env),
            stdin=self.side,
            stdout=self.side,
            stderr=self.side,
            start_new_session=True,
            take_terminal=True,
        )


@contextmanager
def attended_terminal() -> Iterator[Attended]:
    main, side = pty.openpty()
    try:
        yield Attended(main, side)
    finally:
        os.close(main)
        os.close(side)
