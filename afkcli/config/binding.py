"""What the trust in a project applies to: its config, the files that it references, and the programs that it starts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from afkcli.config.project import ProjectFile, read_project_file
from afkcli.config.reading import parse_toml, relative_to
from afkcli.core.contract.errors import ConfigError
from afkcli.core.contract.structs import FrozenStruct
from afkcli.host.bound_starts import BoundFiles, Start, bound_files
from afkcli.host.invocation import process_environment

_RUNS_FILES = re.compile(r"(python|pypy|node|bun|deno|ruby|perl|php|lua|(ba|da|z|k|fi)?sh|pwsh)[\d.]*(\.exe)?")

_WITH_KEYS = ("providers", "stores", "sinks", "tools", "engines", "commands")
"""The tables of plugins, any of which may have a secret setting."""


class References(FrozenStruct, kw_only=True):
    """The files that a project file references, read once: their bytes and hashes, by path."""

    files: Mapping[Path, bytes]
    hashes: Mapping[str, str]


def referenced_files(file: ProjectFile) -> list[Path]:
    """Return the files that a project file references: instructions, plugin files, and what these may import."""
    table = parse_toml(file.data, file.path)
    tables = [table, *(_table(agent) for agent in _table(table.get("agents")).values())]
    texts = [item.get("instructions_file") for item in tables]
    for key in ("paths", "modules"):
        names = _table(table.get("plugins")).get(key)
        texts += names if isinstance(names, list) else []
    return [relative_to(file.path, text) for text in texts if isinstance(text, str)]


def read_references(file: ProjectFile) -> References:
    """Read the files that a project file references.

    Raises:
        ConfigError: one cannot be read, or another user owns it or can write it.
    """
    files: dict[Path, bytes] = {}
    hashes: dict[str, str] = {}
    for path in referenced_files(file):
        read = read_project_file(path)
        if read.refused is not None:
            raise ConfigError(f"{path}, which {file.path} references, cannot be trusted: {read.refused}")
        files[path] = read.data
        hashes[str(path)] = f"{read.path} {hashlib.sha256(read.data).hexdigest()}"
    return References(files=files, hashes=hashes)


def starts_of(table: Mapping[str, Any]) -> dict[str, Start]:
    """Return the programs that a project starts, by key: those of servers, those that print keys, and those that an
    approval rule allows.

    A table in `[tools]` with a `command` is a server, whatever the plugin: [tools.mcp.servers.NAME], for instance.
    """
    found = dict(_servers(_table(table.get("tools")), "tools"))
    for section in _WITH_KEYS:
        found |= _key_commands(_table(table.get(section)), section, section)
    rules = _table(table.get("approvals")).get("rules")
    for number, rule in enumerate(rules if isinstance(rules, list) else [], 1):
        start = start_of_rule(_table(rule), _table(_table(table.get("tools")).get("shell")))
        if start is not None:
            found[rule_key(number)] = start
    return found


def is_key_command(section: str, key: str, value: object) -> bool:
    """Return whether a setting of a plugin is the command that prints one of its keys: `api_key_command`."""
    return section in _WITH_KEYS and key.endswith("_command") and isinstance(value, list)


def _key_commands(table: Mapping[str, Any], section: str, key: str) -> Iterator[tuple[str, Start]]:
    for name, value in table.items():
        if is_key_command(section, name, value) and value and all(isinstance(word, str) for word in value):
            yield f"{key}.{name}", Start(command=value[0], args=value[1:])
        elif isinstance(value, dict):
            yield from _key_commands(value, section, f"{key}.{name}")


def rule_key(number: int) -> str:
    """Return the key of an approval rule; the first one is number 1."""
    return f"approvals.rules[{number}]"


def start_of_rule(rule: Mapping[str, Any], shell: Mapping[str, Any]) -> Start | None:
    """Return the program that an approval rule allows by its `argv`, or None if it allows none by name.

    Args:
        rule: the rule.
        shell: the table [tools.shell], which says where commands run.
    """
    argv = _table(rule.get("arguments")).get("argv")
    if rule.get("decision") != "allow" or not isinstance(argv, list) or not argv or not isinstance(argv[0], str):
        return None
    script = [word for word in argv[1:] if isinstance(word, str) and not word.startswith("-")]
    args = script[:1] if _RUNS_FILES.fullmatch(Path(argv[0]).name) else []
    return Start(command=argv[0], args=args, cwd=_text(shell.get("cwd")))


def bind_starts(file: ProjectFile, environment: Mapping[str, str] | None = None) -> dict[str, BoundFiles]:
    """Return the files of the project that each program which it starts names, as they are now, by the program's key.

    Args:
        file: the project file.
        environment: the variables of afk; those of the process by default.
    """
    folder = file.path.parent
    bound = {}
    for key, start in starts_of(parse_toml(file.data, file.path)).items():
        where = relative_to(file.path, start.cwd)
        bound[key] = bound_files(start, folder, where, process_environment() if environment is None else environment)
    return bound


def _servers(table: Mapping[str, Any], key: str) -> Iterator[tuple[str, Start]]:
    command = table.get("command")
    if isinstance(command, str) or (isinstance(command, list) and command):
        program, *args = [command] if isinstance(command, str) else [str(word) for word in command]
        env = {name: value for name, value in _table(table.get("env")).items() if isinstance(value, str)}
        args += _texts(table.get("args"))
        yield key, Start(command=program, args=args, env=env, cwd=_text(table.get("cwd")))
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _servers(value, f"{key}.{name}")


def _texts(value: Any) -> Sequence[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _table(value: Any) -> dict[str, Any]:
    """Return `value` if it is a table, else an empty one."""
    return value if isinstance(value, dict) else {}
