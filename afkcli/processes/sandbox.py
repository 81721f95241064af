"""What a sandbox holds, and which mechanism of this machine holds it: bubblewrap, else Landlock with seccomp.

There is no silent fallback: where neither can be had, `make_sandbox` raises. `afkcli/processes/confine.py` carries a
policy out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

from afkcli.core.contract.errors import PluginError
from afkcli.host.paths import config_dir, data_dir, state_dir
from afkcli.processes import confine
from afkcli.processes.confine import LANDLOCK_VERSION, bubblewrap, has_seccomp, landlock_version

SandboxMode = Literal["workspace", "read-only", "off"]

HIDDEN = (
    "~/.ssh",
    "~/.gnupg",
    "~/.aws",
    "~/.azure",
    "~/.config/gcloud",
    "~/.config/gh",
    "~/.config/op",
    "~/.kube",
    "~/.docker/config.json",
    "~/.netrc",
    "~/.pgpass",
    "~/.pg_service.conf",
    "~/.npmrc",
    "~/.pypirc",
    "~/.git-credentials",
    "~/.config/git/credentials",
    "~/.cargo/credentials.toml",
    "~/.password-store",
    "~/.local/share/keyrings",
    "~/.mozilla",
    "~/.config/google-chrome",
    "~/.config/chromium",
    "/etc/shadow",
    "/etc/gshadow",
)
"""Where programs keep keys and passwords by their own conventions; `hidden` of the config replaces the list."""

_BUBBLEWRAP = ("/usr/bin/bwrap", "/usr/local/bin/bwrap", "/run/current-system/sw/bin/bwrap")  # never by PATH
_PROBE_SECONDS = 10.0
_NO_SECCOMP = "seccomp cannot be used here, or not by afk on this kind of processor"


class SandboxError(PluginError):
    """No sandbox can be made, or not as it was asked for; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mechanism:
    """A way to make a sandbox on this machine.

    Attributes:
        name: "bubblewrap" or "landlock".
        program: the path of bubblewrap, or "".
        works: whether it can be used here.
        detail: its version, or why it cannot be used.
    """

    name: str
    program: str
    works: bool
    detail: str


@cache
def mechanisms() -> tuple[Mechanism, ...]:
    """Return what this machine has, the preferred mechanism first. bubblewrap is tried once (about 10 ms)."""
    return (_bubblewrap(), _landlock()) if sys.platform == "linux" else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What a program can do, for `SupervisedProcess.start`; `make_sandbox` makes it.

    Attributes:
        mechanism: "bubblewrap" or "landlock".
        program: the path of bubblewrap, or "".
        writable: the folders in which it writes, besides a temporary folder of its own.
        hidden: the files and folders of which it reads and writes nothing.
        network: whether it may open connections.

    Since: 0.2.
    """

    mechanism: str
    program: str
    writable: tuple[str, ...]
    hidden: tuple[str, ...]
    network: bool

    def policy(self) -> dict[str, Any]:
        """Return the policy that `afkcli/processes/confine.py` carries out."""
        return {**asdict(self), "guarded": sorted({os.getpid(), os.getpgrp()})}


def make_sandbox(
    mode: SandboxMode,
    *,
    workspace: str,
    writable: Iterable[str] = (),
    hidden: Iterable[str] = HIDDEN,
    network: bool = False,
) -> Sandbox | None:
    """Return a sandbox for a program that runs on behalf of a model; None with the mode "off".

    Args:
        mode: "workspace" lets the program write in the workspace, "read-only" nowhere. Both give it a temporary folder
            of its own, which vanishes, and let it read all but `hidden` and afk's own folders.
        workspace: the folder that the program works in.
        writable: more folders to write in, with the mode "workspace"; a beginning `~` is the home folder.
        hidden: files and folders that it cannot read; afk's own folders are always hidden.
        network: whether it may open connections, also to the local sockets of services.

    Raises:
        SandboxError: this machine has no mechanism, or the one that it has cannot hold this.

    Since: 0.2.
    """
    if mode == "off":
        return None
    found = next((item for item in mechanisms() if item.works), None)
    if found is None:
        raise SandboxError(_none())
    every = [*hidden, *(str(folder) for folder in (config_dir(), data_dir(), state_dir()))]
    places = tuple(sorted({_real(path) for path in every if os.path.lexists(_expanded(path))}))
    folders = tuple(_real(path) for path in ((workspace, *writable) if mode == "workspace" else ()))
    _check(found, folders, places)
    return Sandbox(mechanism=found.name, program=found.program, writable=folders, hidden=places, network=network)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderSandbox:
    """How a Python program of a plugin's own is confined that reads some folders and writes to its pipes alone.

    Attributes:
        code: Python code that the program executes when it has imported all its modules, before it takes any input; ""
            without Landlock. It raises `OSError` if the system refuses a part.
        sandbox: for `SupervisedProcess.start`; None with Landlock.

    Since: 0.2.
    """

    code: str
    sandbox: Sandbox | None


def readers_use_landlock() -> bool:
    """Return whether programs that only read are confined by Landlock; any version holds these, with seccomp."""
    return landlock_version() > 0 and has_seccomp()


def make_reader_sandbox(folders: Sequence[str], *, hidden: Sequence[str] = ()) -> ReaderSandbox:
    """Return a sandbox for a program of a plugin's own that takes input of a model and only reads.

    Landlock comes first here, in the program itself: that starts no other process, and lets it read its folders alone.
    Without it, bubblewrap lets it read all but what is hidden from commands.

    Args:
        folders: what it reads, without symbolic links in their paths.
        hidden: files and folders in them that it does not read.

    Raises:
        SandboxError: this machine has no mechanism.

    Since: 0.2.
    """
    if readers_use_landlock():
        place = os.path.dirname(confine.__file__)  # noqa: PTH120
        code = f"import sys; sys.path.insert(0, {place!r}); import confine; del sys.path[0]"
        inside = [path for path in hidden if any(_inside(path, folder) for folder in folders)]  # it reads no others
        return ReaderSandbox(code=f"{code}; confine.confine_reader({[*folders]!r}, {inside!r})", sandbox=None)
    wanted = [path for path in HIDDEN if not any(_inside(folder, _real(path)) for folder in folders)]
    sandbox = make_sandbox("read-only", workspace="/", hidden=[*wanted, *hidden])
    return ReaderSandbox(code="", sandbox=sandbox)


def _check(found: Mechanism, folders: Sequence[str], places: Sequence[str]) -> None:
    for folder in folders:
        for place in places:
            if _inside(folder, place):
                raise SandboxError(f"the folder {folder!r} is inside {place!r}, which is hidden from commands")
            if _inside(place, folder) and found.name == "landlock":
                raise SandboxError(
                    f"Landlock cannot hide {place!r} inside the folder {folder!r}, where commands may write; install"
                    " bubblewrap, or run afk in the folder of a project"
                )


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _expanded(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - text, as it goes to the supervisor


def _real(path: str) -> str:
    return os.path.realpath(_expanded(path))


def _none() -> str:
    if sys.platform != "linux":
        return "afk has no sandbox for this system: it uses bubblewrap or Landlock, which only Linux has"
    reasons = "; ".join(f"{item.name}: {item.detail}" for item in mechanisms())
    return f"no sandbox can be made on this machine ({reasons}); install bubblewrap"


def _bubblewrap() -> Mechanism:
    program = next((path for path in _BUBBLEWRAP if os.access(path, os.X_OK)), "")
    reason = "not installed" if not program else _bubblewrap_problem(program)
    return Mechanism(name="bubblewrap", program=program, works=not reason, detail=reason or program)


def _bubblewrap_problem(program: str) -> str:
    """Return why bubblewrap cannot be used here, or ""."""
    if not has_seccomp():
        return _NO_SECCOMP
    policy = {"program": program, "network": False, "writable": [], "hidden": []}
    try:
        line = bubblewrap(policy, [shutil.which("true") or "/bin/true"])
        done = subprocess.run(line, capture_output=True, timeout=_PROBE_SECONDS, stdin=subprocess.DEVNULL, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if not done.returncode:
        return ""
    said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
    return said[-1].removeprefix("bwrap: ")


def _landlock() -> Mechanism:
    version = landlock_version()
    if not version:
        reason = "this kernel does not have it, or does not let afk use it"
    elif version < LANDLOCK_VERSION:
        reason = f"version {version} of this kernel does not hold truncation; Linux 6.2 or later does"
    else:
        reason = "" if has_seccomp() else _NO_SECCOMP
    detail = reason or f"version {version}, with seccomp"
    return Mechanism(name="landlock", program="", works=not reason, detail=detail)
