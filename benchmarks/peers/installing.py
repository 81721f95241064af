"""Installs the peers by their names, each into a folder of its own that can be thrown away or kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

INSTALL_SECONDS = 600
REPOSITORY = Path(__file__).parents[2]
_DONE = "installed"
"""The file that marks a folder whose installation came to its end."""


class NotInstalledError(Exception):
    """A peer cannot be installed here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A program to install.

    `program` is its path below its folder; `version` are the arguments of the program that tell its version. What is
    not `kept` is installed each time, into the folder that is there.
    """

    package: str
    install: Callable[[Peer, Path], None]
    program: str
    version: tuple[str, ...] = ("--version",)
    kept: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """An installed peer, and the first line that its version prints."""

    program: Path
    version: str


def install(names: Iterable[str], folder: Path, say: Callable[[str], None]) -> dict[str, Installed | str]:
    """Install the peers of these names below `folder`; what is there already is used again.

    Returns:
        For each name what was installed, or the reason why it could not be.
    """
    peers: dict[str, Installed | str] = {}
    for name in names:
        say(f"installing {PEERS[name].package}")
        try:
            peers[name] = _install(PEERS[name], folder / name)
        except NotInstalledError as error:
            peers[name] = f"{PEERS[name].package} could not be installed: {error}"
    return peers


def native_codex(codex: Installed) -> Installed | str:
    """Return the native program that codex's launcher, a script of Node, starts; or the reason why there is none."""
    folder = codex.program.parents[1] / "@openai"
    found = next(folder.glob("codex-*/vendor/*/bin/codex"), None)
    if found is None:
        return f"the package of codex has no native program below {folder}"
    return Installed(program=found, version=codex.version)


def _install(peer: Peer, folder: Path) -> Installed:
    done = folder / _DONE
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    if not (peer.kept and done.exists()):
        peer.install(peer, folder)
    program = folder / peer.program
    version = _run([program, *peer.version], folder).strip().splitlines()
    done.touch()
    return Installed(program=program, version=version[0] if version else "")


def _from_pypi(peer: Peer, folder: Path) -> None:
    """Install from PyPI into an environment of the interpreter that afk has."""
    python = folder / "bin" / "python"
    uv = shutil.which("uv")
    if uv:
        _run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, folder], folder)
        _run([uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, peer.package], folder)
    else:
        _run([sys.executable, "-m", "venv", folder], folder)
        _run([python, "-m", "pip", "install", "--quiet", peer.package], folder)


def _from_npm(peer: Peer, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NotInstalledError("npm is not installed")
    _run([npm, "install", "--prefix", folder, "--no-package-lock", "--no-audit", "--no-fund", peer.package], folder)


def _from_here(peer: Peer, folder: Path) -> None:
    """Make an environment of this repository with the litellm plugin, as its tests have it."""
    uv = shutil.which("uv")
    if uv is None:
        raise NotInstalledError("uv is not installed")
    sync = ["sync", "--quiet", "--no-default-groups", "--group", "litellm", "--compile-bytecode"]
    _run([uv, *sync, "--python", sys.executable], REPOSITORY, UV_PROJECT_ENVIRONMENT=str(folder))


def _run(command: list[str | Path], cwd: Path, **variables: str) -> str:
    """Return what `command` prints.

    Raises:
        NotInstalledError: it fails, with its last line; or it does not end in time.
    """
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(str(error)) from None
    if done.returncode != 0:
        raise NotInstalledError(next(reversed((done.stderr or done.stdout).strip().splitlines()), "no reason given"))
    return done.stdout


PEERS: dict[str, Peer] = {
    "llm": Peer(package="llm", install=_from_pypi, program="bin/llm"),
    "openai-agents": Peer(
        package="openai-agents",
        install=_from_pypi,
        program="bin/python",
        version=("-c", "from importlib.metadata import version; print(version('openai-agents'))"),
    ),
    "codex": Peer(package="@openai/codex", install=_from_npm, program="node_modules/.bin/codex"),
    "claude": Peer(package="@anthropic-ai/claude-code", install=_from_npm, program="node_modules/.bin/claude"),
    "litellm": Peer(
        package="afk with LiteLLM",
        install=_from_here,
        program="bin/python",
        version=("-c", "from importlib.metadata import version; print('litellm', version('litellm'))"),
        kept=False,  # it follows what this repository depends on
    ),
}
