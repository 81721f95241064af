"""A shell of another user, whose commands run warm where they may."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afkcli.testing.model_server import ModelServer
from afkcli.worker import place
from tests.e2e.shell import AFK, LIMIT, Finished
from tests.other_user import OtherUser
from tests.worker.warm.conftest import WarmShell


@dataclass
class UserShell(WarmShell):
    """Runs `afk` as another user, with limits of its own."""

    user: OtherUser = field(kw_only=True)
    limits: tuple[str, ...] = ()

    def command(self, *words: str | Path) -> list[str]:
        """Return the command line that runs a command as the user, in the folder of the shell."""
        return self.user.command(*words, folder=self.folder, limits=self.limits)

    def afk(self, *arguments: str, stdin: bytes | None = None, **env: str) -> Finished:
        done = subprocess.run(
            self.command(AFK, *arguments),
            env=self.environment(**env),
            input=b"" if stdin is None else stdin,
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
        return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(self.command(AFK, *arguments), **{"env": self.environment(), **pipes, **options})

    @property
    def address(self) -> str:
        name = place.name_of(str(Path(sys.prefix).resolve()), self.environment())
        return f"{self.runtime}/afk/{name}{place.ENDING}"

    def tasks(self) -> int:
        """Return how many processes and threads the user has."""
        return sum(threads for _, threads in self._processes())

    def is_at_rest(self) -> bool:
        """Return whether a worker and the child that stands by wait for a command, or there is no process at all."""
        return all(self._is_waiting() for _ in range(5))

    def _is_waiting(self) -> bool:
        time.sleep(0.02)
        found = self._processes()
        return len(found) in (0, 2) and all(process == ("S", 1) for process in found)

    def _processes(self) -> list[tuple[str, int]]:
        """Return the state (proc_pid_status(5)) and the number of threads of each process of the user."""
        found = []
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            except (OSError, ValueError):
                continue
            if lines["Uid"].split()[0] == str(self.user.uid):
                found.append((lines["State"].split()[0], int(lines["Threads"])))
        return found


@contextmanager
def user_shell(user: OtherUser, server: ModelServer, *limits: str) -> Iterator[UserShell]:
    """Give a shell of another user whose model is the server's, and end its worker."""
    with tempfile.TemporaryDirectory(prefix="afk-u-") as name:  # not in a folder of pytest, which is for root alone
        root = Path(name)
        shell = UserShell(
            home=root / "home", folder=root / "work", cold=True, runtime=root / "run", user=user, limits=limits
        )
        root.chmod(0o755)
        for folder in (shell.home, shell.folder, shell.runtime):
            folder.mkdir(mode=0o700)
            user.gives(folder)
        shell.env.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-canary-0123456789")
        shell.env.update(AFK_MODEL="openai/gpt-5.2-mini")
        try:
            yield shell
        finally:
            shell.stop_worker()
