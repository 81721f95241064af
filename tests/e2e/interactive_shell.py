"""An interactive shell on a terminal of its own, in which a person types `afk ...` and the Tab key."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.shell import AFK, LIMIT, Shell
from tests.e2e.warm import shim

READY = "READY> "
_START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
_PREPARED = {
    "bash": 'bind "set enable-bracketed-paste off"; eval "$(afk completion bash)"; PS1="READY"; PS1="$PS1> "',
    "zsh": 'unsetopt prompt_sp; eval "$(afk completion zsh)"; PS1="READY"; PS1="$PS1> "',
    "fish": 'afk completion fish | source; function fish_prompt; echo -n READY; echo -n "> "; end',
}
_WRAPPER = """#!{python} -IS
import os, sys
if "_AFK_COMPLETE" in os.environ or sys.argv[1:2] == ["completion"]:
    os.execv({afk!r}, [{afk!r}, *sys.argv[1:]])
with open({out!r}, "wb") as file:
    file.write(b"\\0".join(map(os.fsencode, sys.argv[1:])) + b"\\0end")
"""


class InteractiveShell:
    """A shell with the completion of afk. A call of `afk` in it only keeps its arguments."""

    def __init__(self, descriptor: int, out: Path) -> None:
        self._descriptor = descriptor
        self._out = out
        self.seen = ""

    def arguments(self, typed: str) -> list[str]:
        """Type a line, which may have Tab keys in it, and Enter; return the arguments that `afk` got."""
        self._out.unlink(missing_ok=True)
        self.type(f"{typed}\r")
        deadline = time.monotonic() + LIMIT
        while not (self._out.exists() and self._out.read_bytes().endswith(b"\0end")):
            assert time.monotonic() < deadline, self.seen
            self._take()
        self.wait_for(READY)
        return self._out.read_bytes().decode().split("\0")[:-1]

    def listed(self, typed: str, wanted: str) -> str:
        """Type a line with Tab keys in it, wait until `wanted` is shown, give the line up; return what was shown."""
        self.type(typed)
        shown = self.wait_for(wanted) + wanted
        self.type("\x15\r")  # Ctrl-U leaves an empty line
        self.wait_for(READY)
        return shown

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, text: str) -> str:
        """Wait until `text` is shown, and return what was shown until then, which counts no more."""
        deadline = time.monotonic() + LIMIT
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            self._take()
        before, _, self.seen = self.seen.partition(text)
        return before

    def _take(self) -> None:
        """Take what the terminal shows, if something comes within a moment."""
        if not select.select([self._descriptor], [], [], 0.2)[0]:
            return
        try:
            self.seen += os.read(self._descriptor, 65536).decode(errors="replace")
        except OSError:  # Linux: EIO, when the shell has ended
            raise AssertionError(f"the shell ended: {self.seen}") from None


@contextmanager
def interactive(shell: Shell, name: str, folder: Path) -> Iterator[InteractiveShell]:
    """Start the shell `name` (bash, zsh or fish) with the home and the folder of `shell`; end it afterwards."""
    programs, out = folder / "programs", folder / "arguments"
    programs.mkdir()
    wrapper, warm = programs / "afk", folder / "warm-afk"
    if name != "bash":  # which asks afk as it is installed
        shim(warm)
    afk = warm if warm.exists() else AFK
    wrapper.write_text(_WRAPPER.format(python=sys.executable, afk=str(afk), out=str(out)))
    wrapper.chmod(0o755)
    main, side = pty.openpty()
    environment = shell.environment(TERM="xterm", COLUMNS="100", LANG="C.UTF-8", LC_ALL="C.UTF-8", HISTFILE="")
    environment["PATH"] = f"{programs}:{environment.get('PATH', os.defpath)}"
    process = subprocess.Popen(
        _START[name],
        cwd=shell.folder,
        env=environment,
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # fish wants it
    )
    os.close(side)
    started = InteractiveShell(main, out)
    try:
        started.type(f"{_PREPARED[name]}\r")
        started.wait_for(READY)
        yield started
    finally:
        process.kill()
        process.wait(LIMIT)
        os.close(main)
