"""The attempts: what a command tries, in a shell's words, and how to tell that it succeeded."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

KEY = "sk-canary-0123456789"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a run takes place.

    Attributes:
        port: of a server on this machine.
        socket: of a local service.
        mark: a word of the run's own command line, by which a command finds afk among the processes; it begins with
            "afk-".
    """

    home: Path
    folder: Path
    port: int
    socket: Path
    mark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One thing that a command tries.

    Attributes:
        name: the row's name.
        held: whether a sandbox has to hold it; the others have to work in a sandbox too.
        open: whether it succeeds without a sandbox.
        argv: the command, for a place.
        done: whether it succeeded, by what the model was told and by what is in the place afterwards.
    """

    name: str
    held: bool
    argv: Callable[[Place], Sequence[str]]
    done: Callable[[Place, str], bool]
    open: bool = True


def _python(code: str) -> Sequence[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def _shell(code: str) -> Sequence[str]:
    return ["sh", "-c", code]


def _told(word: str) -> Callable[[Place, str], bool]:
    return lambda place, told: word in told


_CONNECTED = "the line is open"

ATTEMPTS = (
    Attempt(
        name="write in the workspace",
        held=False,
        argv=lambda place: _shell("echo yes > made && cat made"),
        done=lambda place, told: (place.folder / "made").exists() and "yes" in told,
    ),
    Attempt(
        name="write a temporary file",
        held=False,
        argv=lambda place: _shell("f=$(mktemp) && echo kept > $f && cat $f"),
        done=_told("kept"),
    ),
    Attempt(
        name="read a program and a page of the system",
        held=False,
        argv=lambda place: _shell("ls /usr/bin | grep -x env; head -c 1 /etc/passwd | wc -c"),
        done=lambda place, told: "env\n1" in told,
    ),
    Attempt(
        name="read afk's config, with a key in it",
        held=True,
        argv=lambda place: _shell(f"tr a-z A-Z < {place.home}/afk/config/config.toml"),
        done=_told(KEY.upper()),
    ),
    Attempt(
        name="read a key of ssh",
        held=True,
        argv=lambda place: ["cat", f"{place.home}/.ssh/id_ed25519"],
        done=_told("PRIVATE"),
    ),
    Attempt(
        name="read the memory of afk's processes",
        held=True,
        argv=lambda place: _shell("for p in /proc/[0-9]*; do tr a-z A-Z < $p/environ; done 2>/dev/null"),
        done=_told(KEY.upper()),
        open=False,  # afk hides its memory from every command
    ),
    Attempt(
        name="write outside",
        held=True,
        argv=lambda place: _shell(f"echo x > {place.home}/outside"),
        done=lambda place, told: (place.home / "outside").exists(),
    ),
    Attempt(
        name="write outside through a link",
        held=True,
        argv=lambda place: _shell(
            f"ln -s {place.home} link; echo x > link/through; ln {place.home}/linked hard; echo x > hard"
        ),
        done=lambda place, told: (place.home / "through").exists() or (place.home / "linked").read_text() != "old",
    ),
    Attempt(
        name="empty a file outside",
        held=True,
        argv=lambda place: _python(f"import os; os.truncate({str(place.home / 'emptied')!r}, 0)"),
        done=lambda place, told: (place.home / "emptied").read_text() == "",
    ),
    Attempt(
        name="remove and rename outside",
        held=True,
        argv=lambda place: _shell(f"mv {place.home}/moved {place.home}/elsewhere; rm {place.home}/removed"),
        done=lambda place, told: not ((place.home / "moved").exists() and (place.home / "removed").exists()),
    ),
    Attempt(
        name="connect to the network",
        held=True,
        argv=lambda place: _python(
            f"import socket; socket.create_connection(('127.0.0.1', {place.port})); print({_CONNECTED!r})"
        ),
        done=_told(_CONNECTED),
    ),
    Attempt(
        name="send a datagram",
        held=True,
        argv=lambda place: _python(
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
            f" s.sendto(b'x', ('127.0.0.1', {place.port})); print({_CONNECTED!r})"
        ),
        done=_told(_CONNECTED),
    ),
    Attempt(
        name="connect to a service's local socket",
        held=True,
        argv=lambda place: _python(
            f"import socket; socket.socket(socket.AF_UNIX).connect({str(place.socket)!r}); print({_CONNECTED!r})"
        ),
        done=_told(_CONNECTED),
    ),
)

SEARCH = Attempt(
    name="search files (tools.files)",
    held=False,
    argv=lambda place: [],
    done=_told("note:1: beans"),
)
"""A call of another tool, whose process is confined, too; a run of its own, because shell.run may be refused."""

_FIND_AND_KILL = (
    "m=afk-; m=${m}%s; for p in /proc/[0-9]*; do grep -q $m $p/cmdline 2>/dev/null && kill -9 ${p#/proc/}; done;"
    " kill -9 $PPID; sleep 0.2; true"
)
"""The mark is put together by the shell, so that its own command line does not have it."""

KILL = Attempt(
    name="kill afk",
    held=True,
    argv=lambda place: _shell(_FIND_AND_KILL % place.mark.removeprefix("afk-")),
    done=lambda place, told: not told,
)
"""A run of its own, because afk may not survive it."""
