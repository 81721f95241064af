"""The environment that afk runs in: which tool made it, and whether a plugin may be installed into it.

Since: 0.2.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import site
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.structs import FrozenStruct

DISTRIBUTION = "afkcli"
Tool: TypeAlias = Literal["pip", "uv", "uv tool", "pipx"]
"""What installs into an environment, and keeps what it installed when afk is upgraded."""

_LOCKS = {
    "uv.lock": "uv {verb} {name}",
    "poetry.lock": "poetry {verb} {name}",
    "pdm.lock": "pdm {verb} {name}",
    "Pipfile.lock": "pipenv {install} {name}",
}
_CACHED = re.compile(r"(archive|environments|builds)-v\d+")
"""The folders of uv's cache in which `uvx` and `uv run --with` make their environments."""


class Environment(FrozenStruct, kw_only=True):
    """An environment into which a plugin can be installed.

    Args:
        tool: what installs into it.
        program: the path of uv or pipx; the interpreter for pip.
        python: its interpreter.
        prefix: its folder.
        sites: the folders of its packages.
        is_user: whether afk is in the user's own packages (`pip install --user`).
    """

    tool: Tool
    program: str
    python: str
    prefix: Path
    sites: tuple[Path, ...]
    is_user: bool = False

    @property
    def installed(self) -> dict[str, str]:
        """The versions of the distributions that are installed, by their normalised names."""
        found = {}
        for folder in self.sites:
            for info in folder.glob("*.dist-info"):
                name, _, version = info.name.removesuffix(".dist-info").partition("-")
                found[normalised(name)] = version
        return found


def normalised(name: str) -> str:
    """Return the name of a distribution as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def find_environment(environment: Mapping[str, str], name: str, *, install: bool = True) -> Environment:
    """Return the environment of this process.

    Args:
        environment: the variables, for the paths of programs.
        name: the distribution that is to be installed or uninstalled, for the line to use.
        install: whether it is to be installed.

    Raises:
        UsageError: something else decides what is in the environment, or it cannot be changed; the message has the line
            to use.
    """
    prefix = Path(sys.prefix)
    words = _Words(name, install)
    if (prefix / "uv-receipt.toml").is_file():
        return _by_program("uv tool", "uv", prefix, environment, words.uv_tool())
    if (prefix / "pipx_metadata.json").is_file():
        return _by_program("pipx", "pipx", prefix, environment, words.pipx(prefix.name))
    _refuse_managed(prefix, environment, words)
    own, is_user = _own_folder()
    if own is None:
        raise UsageError(f"afk was not installed into {prefix}, so a plugin cannot be added there; {words.elsewhere()}")
    if not os.access(own, os.W_OK):
        raise UsageError(f"the folder {own} cannot be written by you; {words.elsewhere()}")
    return _by_pip(prefix, environment, words, is_user=is_user)


class _Words:
    """The lines to use instead."""

    def __init__(self, name: str, install: bool) -> None:
        self.name = name
        self.install = install

    def uv_tool(self) -> str:
        return f"uv tool install {DISTRIBUTION} --with {self.name}" if self.install else "uv tool install"

    def pipx(self, venv: str) -> str:
        return f"pipx {'inject' if self.install else 'uninject'} {venv} {self.name}"

    def project(self, form: str) -> str:
        verb, other = ("add", "install") if self.install else ("remove", "uninstall")
        return form.format(verb=verb, install=other, name=self.name)

    def elsewhere(self) -> str:
        return f"use an environment for afk alone: uv tool install {DISTRIBUTION} --with {self.name}"


def _by_program(tool: Tool, program: str, prefix: Path, environment: Mapping[str, str], line: str) -> Environment:
    path = shutil.which(program, path=environment.get("PATH"))
    if path is None:
        raise UsageError(f"afk was installed by {tool}, and {program} is not on the PATH; add it, or use: {line}")
    return Environment(tool=tool, program=path, python=sys.executable, prefix=prefix, sites=_sites())


def _by_pip(prefix: Path, environment: Mapping[str, str], words: _Words, *, is_user: bool) -> Environment:
    """Return the environment with uv where uv made it or installed afk, else with pip."""
    uv = shutil.which("uv", path=environment.get("PATH"))
    has_pip = importlib.util.find_spec("pip") is not None
    by_uv = "uv" in _venv_settings(prefix) or _installer() == "uv"
    sites = (Path(site.getusersitepackages()),) if is_user else _sites()
    if uv is not None and not is_user and (by_uv or not has_pip):
        return Environment(tool="uv", program=uv, python=sys.executable, prefix=prefix, sites=sites)
    if has_pip:
        return Environment(
            tool="pip", program=sys.executable, python=sys.executable, prefix=prefix, sites=sites, is_user=is_user
        )
    verb = "install" if words.install else "uninstall"
    line = f"uv pip {verb} --python {sys.executable} {words.name}"
    raise UsageError(f"{prefix} has no pip, and uv is not on the PATH; add one of them, or use: {line}")


def _refuse_managed(prefix: Path, environment: Mapping[str, str], words: _Words) -> None:
    """Refuse an environment that another tool keeps as its own files say: it would undo the change."""
    if any(_CACHED.fullmatch(part) for part in prefix.parts):
        line = words.uv_tool() if words.install else "leave out --with"
        raise UsageError(f"this environment of uv's cache is made for one call; use: {line}")
    if sys.prefix == sys.base_prefix:
        if Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").is_file():
            raise UsageError(f"the Python in {prefix} belongs to the system (PEP 668); {words.elsewhere()}")
        return
    found = _project_of(prefix, environment)
    if found is not None:
        project, form = found
        raise UsageError(f"the environment {prefix} belongs to the project {project}; use: {words.project(form)}")


def _project_of(prefix: Path, environment: Mapping[str, str]) -> tuple[Path, str] | None:
    """Return the project to which a virtual environment belongs, and the form of the line that adds to it."""
    folder = prefix.parent
    named = environment.get("UV_PROJECT_ENVIRONMENT")
    if named and Path(named).absolute().resolve() == prefix.resolve():
        return Path(named).parent, _LOCKS["uv.lock"]
    for lock, form in _LOCKS.items():
        if (folder / lock).is_file():
            return folder, form
    if "uv" in _venv_settings(prefix) and prefix.name == ".venv" and _is_project(folder):
        return folder, _LOCKS["uv.lock"]
    if "pypoetry" in prefix.parts:
        return prefix, _LOCKS["poetry.lock"]
    if (prefix / ".project").is_file():
        return prefix, _LOCKS["Pipfile.lock"]
    return None


def _is_project(folder: Path) -> bool:
    """Return whether uv would take a folder for a project: a pyproject.toml with a table `project`."""
    import tomllib

    try:
        return "project" in tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def _venv_settings(prefix: Path) -> dict[str, str]:
    try:
        lines = (prefix / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = [line.partition("=") for line in lines]
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _installer() -> str:
    try:
        return (importlib.metadata.distribution(DISTRIBUTION).read_text("INSTALLER") or "").strip()
    except importlib.metadata.PackageNotFoundError:
        return ""


def _sites() -> tuple[Path, ...]:
    return tuple(dict.fromkeys(Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")))


def _own_folder() -> tuple[Path | None, bool]:
    """Return the folder with the metadata of afk, if it is one of this environment; and whether that is the user's."""
    try:
        folder = Path(str(importlib.metadata.distribution(DISTRIBUTION).locate_file(""))).resolve()
    except importlib.metadata.PackageNotFoundError:
        return None, False
    if folder in [path.resolve() for path in _sites()]:
        return folder, False
    if site.ENABLE_USER_SITE and folder == Path(site.getusersitepackages()).resolve():
        return folder, True
    return None, False
