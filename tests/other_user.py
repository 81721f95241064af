"""Runs commands as another user, who can reach this installation though it lies in a folder of root's alone.

What is in such a folder is bound there again, in a mount namespace that the commands share and that no one else sees.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).parents[1]
_LIMIT = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherUser:
    """A user without rights, whose id no other process has.

    Args:
        uid: the id of the user, and of its only group.
        entering: what a command begins with that runs where this user can reach the installation.
    """

    uid: int
    entering: tuple[str, ...]

    def command(self, *words: str | Path, folder: str | Path = "/", limits: Sequence[str] = ()) -> list[str]:
        """Return the command line that runs a command as this user.

        Args:
            words: the command and its arguments.
            folder: its working folder.
            limits: options of prlimit(1), such as `--nproc=40`.
        """
        limited = ("prlimit", *limits) if limits else ()
        user = ("setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups")
        within = ("sh", "-c", 'cd "$0" && exec "$@"', str(folder))
        return [*self.entering, *limited, *user, *within, *map(str, words)]

    def gives(self, path: Path) -> None:
        """Give a file or a folder to this user."""
        os.chown(path, self.uid, self.uid)


@contextmanager
def other_user() -> Iterator[OtherUser]:
    """Give another user, or skip the test with the reason why there is none."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("becoming another user needs root, on Linux")
    if not all(map(shutil.which, ("setpriv", "prlimit", "unshare", "nsenter"))):
        pytest.skip("becoming another user needs setpriv, prlimit, unshare and nsenter of util-linux")
    uid = 20000 + os.getpid() % 40000
    user = OtherUser(uid=uid, entering=())
    if _can_run(user):
        yield user
        return
    script = f"{_bindings()}\necho ready\nexec cat"
    with subprocess.Popen(
        ["unshare", "-m", "sh", "-ec", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stderr is not None
        try:
            if holder.stdout.readline() != b"ready\n":
                said = holder.stderr.read().decode(errors="replace").strip()
                pytest.skip(f"this installation is in a folder of root's, and it cannot be bound elsewhere: {said}")
            user = OtherUser(uid=uid, entering=("nsenter", "-t", str(holder.pid), "-m"))
            assert _can_run(user)
            yield user
        finally:
            holder.stdin.close()


def _can_run(user: OtherUser) -> bool:
    command = user.command(sys.executable, "-c", "import afkcli")
    return subprocess.run(command, capture_output=True, timeout=_LIMIT, check=False).returncode == 0


def _bindings() -> str:
    """Return the commands that show what is needed of folders of root's, and nothing else in them, to all users."""
    kept = dict.fromkeys(os.path.realpath(path) for path in (sys.base_prefix, sys.prefix, _REPOSITORY))
    hidden: dict[str, list[str]] = {}
    for path in kept:
        for folder in reversed(Path(path).parents):
            if not folder.stat().st_mode & 0o001:
                hidden.setdefault(str(folder), []).append(path)
                break
    lines = ["aside=$(mktemp -d)", 'mount -t tmpfs -o mode=755 tmpfs "$aside"']
    for folder, paths in hidden.items():
        numbered = list(enumerate(map(shlex.quote, paths)))
        lines += [f'mkdir "$aside/{at}" && mount --bind {path} "$aside/{at}"' for at, path in numbered]
        lines += [f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(folder)}"]
        lines += [f'mkdir -p {path}; mount --bind "$aside/{at}" {path}' for at, path in numbered]
    lines += ['umount -R "$aside"; rmdir "$aside"']
    return "\n".join(lines)
