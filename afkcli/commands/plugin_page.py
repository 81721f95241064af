"""What `afk plugins install` shows before it asks: what a wheel declares, and what it would hide or overwrite."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afkcli.commands.plugins import is_own_command
from afkcli.installing.declared import Declared
from afkcli.installing.environment import Environment, normalised
from afkcli.loading.discovery import KINDS, Plugins

_OWN = ("afkcli", "afk")
"""The packages of afk."""

_IS_NEEDED = re.compile(r"afk|python[\d.]*", re.IGNORECASE)
"""The commands without which there is no afk."""

_AT_START = ("sitecustomize", "usercustomize")
"""The modules that Python imports at its start: https://docs.python.org/3/library/site.html"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a distribution declares, and what that means in an environment.

    Args:
        declared: what it declares.
        installed: the version that is installed; None if it is not.
        warnings: what it would hide or overwrite, and what of it would never be used.
        damage: what of afk it would overwrite; "" if nothing.
    """

    declared: Declared
    installed: str | None
    warnings: Sequence[str]
    damage: str

    @property
    def ids(self) -> list[str]:
        """The ids of its plugins and the model prefixes, as a list of plugins has them."""
        return [*self.declared.plugins, *self.declared.prefixes]

    def lines(self, planned: Mapping[str, str], environment: Environment) -> Iterator[str]:
        """Yield the lines of the page.

        Args:
            planned: the versions that would be installed, by name.
            environment: where.
        """
        declared = self.declared
        upgrade = f" (installed: {self.installed})" if self.installed else ""
        yield f"{declared.name} {declared.version}{upgrade}"
        yield f"  {declared.summary or '(it has no summary)'}"
        yield f"  licence: {declared.licence or 'not stated'}"
        yield f"  plugins: {', '.join(declared.plugins)}"
        if declared.prefixes:
            yield f"  models that begin with: {', '.join(declared.prefixes)}"
        if declared.scripts:
            yield f"  commands of the shell: {', '.join(declared.scripts)}"
        yield f"  needs: {', '.join(declared.requires) or 'nothing'}"
        more = {name: version for name, version in planned.items() if name != normalised(declared.name)}
        if more:
            yield f"  also installs: {', '.join(f'{name} {version}' for name, version in more.items())}"
        for warning in self.warnings:
            yield f"  warning: {warning}"
        yield f"  into: {environment.prefix}, with {environment.tool}"

    def as_json(self) -> dict[str, Any]:
        declared = self.declared
        return {
            "name": declared.name,
            "version": declared.version,
            "summary": declared.summary,
            "licence": declared.licence,
            "plugins": declared.plugins,
            "model_prefixes": declared.prefixes,
            "scripts": declared.scripts,
            "requires": list(declared.requires),
            "warnings": list(self.warnings),
        }

    def differs(self, environment: Environment) -> bool:
        """Return whether the installed files have other hashes than those that were fetched."""
        name = normalised(self.declared.name)
        for site in environment.sites:
            for info in site.glob("*.dist-info"):
                if normalised(info.name.partition("-")[0]) == name and (info / "RECORD").is_file():
                    record = (info / "RECORD").read_text(encoding="utf-8", errors="replace")
                    return not _hashes(self.declared.record) <= _hashes(record)
        return True


def page_of(declared: Declared, environment: Environment, plugins: Plugins) -> Page:
    """Return what a distribution declares, and what that means in an environment with its plugins."""
    others = {
        id_: plugin.distribution
        for id_, plugin in plugins.found.items()
        if plugin.file is None and normalised(plugin.distribution) != normalised(declared.name)
    }
    warnings = [*_conflicts(declared, others), *_hidden_models(declared, plugins, others)]
    warnings += _files(declared, environment)
    warnings += _programs(declared, environment)
    tops = {name.partition("/")[0].partition(".")[0].casefold() for name in declared.files}
    damage = [f"the package {name}" for name in _OWN if name in tops]
    damage += [f"the command {name}" for name in declared.scripts if _IS_NEEDED.fullmatch(name)]
    return Page(
        declared=declared,
        installed=environment.installed.get(normalised(declared.name)),
        warnings=warnings,
        damage=" and ".join(damage),
    )


def _conflicts(declared: Declared, others: Mapping[str, str]) -> Iterator[str]:
    for id_ in declared.plugins:
        kind, _, name = id_.partition(".")
        if kind not in KINDS:
            yield f"{id_} is of a kind that this afk does not know, so it is never used"
        elif id_ in others:
            yield f"{others[id_]} has {id_} too: then neither of the two is used"
        elif kind == "command" and is_own_command(name):
            yield f"afk {name} is a command of afk's own, so {id_} is never called"


def _hidden_models(declared: Declared, plugins: Plugins, others: Mapping[str, str]) -> Iterator[str]:
    for prefix in declared.prefixes:
        owner = others.get(plugins.prefixes.get(prefix, ""))
        if owner is not None:
            yield f"{owner} claims models that begin with {prefix} too: then neither of the two has them"


def _files(declared: Declared, environment: Environment) -> Iterator[str]:
    """Yield warnings about files that run by themselves, or that another distribution has."""
    for name in declared.files:
        if (name.endswith(".pth") and "/" not in name) or name.partition("/")[0].partition(".")[0] in _AT_START:
            yield f"{name} may run code at each start of Python in this environment"
    own = _own_files(declared, environment)
    taken = [
        name
        for name in declared.files
        if name not in own and not name.endswith(".pth") and any((site / name).exists() for site in environment.sites)
    ]
    if taken:
        more = f" and {len(taken) - 1} more files" if len(taken) > 1 else ""
        yield f"it overwrites {taken[0]}{more} of what is installed"


def _programs(declared: Declared, environment: Environment) -> Iterator[str]:
    """Yield warnings about commands of the environment that it overwrites."""
    folder = Path(environment.python).parent
    own = {name.rpartition("/")[2] for name in _own_files(declared, environment)}
    for name in declared.scripts:
        if name not in own and (folder / name).exists():
            yield f"it overwrites the command {folder / name}"


def _own_files(declared: Declared, environment: Environment) -> set[str]:
    """Return the files of the version that is installed."""
    found: set[str] = set()
    for site in environment.sites:
        for info in site.glob("*.dist-info"):
            if normalised(info.name.partition("-")[0]) == normalised(declared.name) and (info / "RECORD").is_file():
                text = (info / "RECORD").read_text(encoding="utf-8", errors="replace")
                found |= {line.partition(",")[0] for line in text.splitlines()}
    return found


_BY_INSTALLERS = ("/INSTALLER,", "/REQUESTED,", "/direct_url.json,", "/uv_cache.json,", ".data/")
_SCRIPTS = ("..", "bin/", "Scripts/")


def _hashes(record: str) -> set[str]:
    """Return the lines of a RECORD with the hash of a file, without what an installer adds or changes itself."""
    lines = [line.strip() for line in record.splitlines() if ",sha256=" in line and not line.startswith(_SCRIPTS)]
    return {line for line in lines if not any(part in line for part in _BY_INSTALLERS)}
