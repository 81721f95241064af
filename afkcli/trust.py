"""What a project's afk.toml may set, and the record of the files that the user trusts.

Without trust a project file may set agent names, literal instructions, sampling, models of providers that the user has
configured, and limits that lower. Everything else is inert, and that is said. Trust binds the real path, the owner and
the SHA-256 of the bytes read, and those of the files that it references; a change ends it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afkcli.config import ConfigFile, parse_config, parse_toml
from afkcli.core.errors import ConfigError
from afkcli.paths import state_dir

FILE_NAME = "afk.toml"
_OPTIONS = frozenset({"temperature", "top_p", "max_output_tokens", "stop", "seed"})
_HARMLESS = frozenset({"agent", "instructions", "limits"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFile:
    """A project file as it was read, once: `data` are its bytes, `refused` why it does not count at all."""

    path: Path
    data: bytes = b""
    owner: int = -1
    refused: str | None = None


def find_project_file(start: Path | None = None) -> ProjectFile | None:
    """Return the nearest afk.toml at or above `start` (the working directory), not above the home folder."""
    start = (start or Path.cwd()).resolve()
    home = Path.home().resolve()
    for folder in (start, *start.parents):
        path = folder / FILE_NAME
        if path.is_file():
            return read_project_file(path)
        if folder == home:
            break
    return None


def read_project_file(path: Path) -> ProjectFile:
    """Read a project file; one that others own or can write is refused."""
    path = path.resolve()
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read()
    except OSError as error:
        return ProjectFile(path=path, refused=f"it cannot be read: {error.strerror}")
    if hasattr(os, "geteuid"):
        if status.st_uid != os.geteuid():
            return ProjectFile(path=path, owner=status.st_uid, refused="another user owns it")
        if status.st_mode & 0o022:
            return ProjectFile(path=path, owner=status.st_uid, refused="others can write it; chmod go-w it")
    return ProjectFile(path=path, data=data, owner=status.st_uid)


def project_config(file: ProjectFile, configured: Callable[[str], bool]) -> ConfigFile:
    """Return what counts of a project file: all of it if it is trusted, else what needs no trust.

    Args:
        configured: whether the user has configured the provider of a model name.

    Raises:
        ConfigError: it is malformed.
    """
    if file.refused is not None:
        return ConfigFile(path=file.path, table={}, inert=(f"everything ({file.refused})",))
    if is_trusted(file):
        return ConfigFile(path=file.path, table=parse_config(file.data, file.path))
    table, inert = without_trust(parse_toml(file.data, file.path), configured)
    parse_config(_known_part(table, file), file.path)
    return ConfigFile(path=file.path, table=table, inert=tuple(inert))


def without_trust(table: Mapping[str, Any], configured: Callable[[str], bool]) -> tuple[dict[str, Any], list[str]]:
    """Return the part of a project file's table that counts without trust, and the names of the keys that do not."""
    allowed: dict[str, Any] = {}
    inert: list[str] = []
    for key, value in table.items():
        if key == "agents" and isinstance(value, dict):
            agents = {}
            for name, agent in value.items():
                if isinstance(agent, dict):
                    agents[name], dropped = without_trust(agent, configured)
                    inert += [f"agents.{name}.{item}" for item in dropped]
                else:
                    inert.append(f"agents.{name}")
            allowed[key] = agents
        elif key == "options" and isinstance(value, dict):
            allowed[key] = {name: item for name, item in value.items() if name in _OPTIONS}
            inert += [f"options.{name}" for name in value if name not in _OPTIONS]
        elif key in _HARMLESS or (key == "model" and isinstance(value, str) and configured(value)):
            allowed[key] = value
        else:
            inert.append(key)
    return allowed, inert


def _known_part(table: Mapping[str, Any], file: ProjectFile) -> bytes:
    """Return the file's own bytes if all of it counts, so that errors name its lines; else the part that counts."""
    if table == parse_toml(file.data, file.path):
        return file.data
    import tomli_w

    return tomli_w.dumps(table).encode()


def referenced_files(file: ProjectFile) -> list[Path]:
    """Return the files that a project file references: instructions and plugin files."""
    table = parse_toml(file.data, file.path)
    texts: list[Any] = [table.get("instructions_file")]
    agents = table.get("agents")
    texts += [agent.get("instructions_file") for agent in _tables(agents)]
    plugins = table.get("plugins")
    if isinstance(plugins, dict) and isinstance(plugins.get("paths"), list):
        texts += plugins["paths"]
    return [(file.path.parent / Path(text).expanduser()).resolve() for text in texts if isinstance(text, str)]


def fingerprint(file: ProjectFile) -> dict[str, Any]:
    """Return what trust binds: the owner, and the SHA-256 of the file and of each file that it references.

    Raises:
        ConfigError: a referenced file cannot be read, or others own it or can write it.
    """
    references: dict[str, str] = {}
    for path in referenced_files(file):
        read = read_project_file(path)
        if read.refused is not None:
            raise ConfigError(f"{path}, which {file.path} references, cannot be trusted: {read.refused}")
        references[str(path)] = hashlib.sha256(read.data).hexdigest()
    return {
        "owner": file.owner,
        "sha256": hashlib.sha256(file.data).hexdigest(),
        **({"references": references} if references else {}),
    }


def is_trusted(file: ProjectFile) -> bool:
    """Whether the user trusts the file as it is now."""
    recorded = _read_record().get(str(file.path))
    if recorded is None or file.refused is not None:
        return False
    try:
        return bool(recorded == fingerprint(file))
    except ConfigError:
        return False


def trust(file: ProjectFile) -> None:
    """Record that the user trusts the file as it is now.

    Raises:
        ConfigError: it is malformed, refused, or the record cannot be written.
    """
    if file.refused is not None:
        raise ConfigError(f"{file.path} cannot be trusted: {file.refused}")
    parse_config(file.data, file.path)
    record = _read_record()
    record[str(file.path)] = fingerprint(file)
    _write_record(record)


def distrust(file: ProjectFile) -> bool:
    """Take trust back; return whether there was any."""
    record = _read_record()
    known = record.pop(str(file.path), None) is not None
    if known:
        _write_record(record)
    return known


def record_file() -> Path:
    """Return the path of the record of trusted files."""
    return state_dir() / "trusted.toml"


def _read_record() -> dict[str, Any]:
    path = record_file()
    try:
        return parse_toml(path.read_bytes(), path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigError(f"the record of trusted files {path} cannot be read: {error.strerror}") from None


def _write_record(record: Mapping[str, Any]) -> None:
    import tomli_w

    path = record_file()
    new = path.with_suffix(f".{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            tomli_w.dump(record, file)
        new.replace(path)
    except OSError as error:
        raise ConfigError(f"the record of trusted files {path} cannot be written: {error.strerror}") from None


def _tables(value: Any) -> Iterable[Mapping[str, Any]]:
    return [item for item in value.values() if isinstance(item, dict)] if isinstance(value, dict) else []
