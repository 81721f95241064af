"""What a project's afk.toml may set, and the record of the files that the user trusts.

Without trust a project file may set agent names, literal instructions, sampling, models of providers that the user has
configured, and lower limits. Everything else is ignored, with a warning. Trust applies to the real path, the owner and
the SHA-256 of the file and of the files that it references; when one of them changes, the trust ends.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from afkcli.config.checking import BUDGET_KEYS, LIMIT_KEYS, SAMPLING_KEYS, check_config
from afkcli.config.reading import ConfigFile, parse_config, parse_toml, relative_to
from afkcli.core.contract.errors import ConfigError
from afkcli.core.contract.limits import LIMITS
from afkcli.host.files import make_private_folder, replace_file
from afkcli.host.paths import state_dir

FILE_NAME = "afk.toml"
_MAX_BYTES = 1_000_000  # configs are written by hand; a larger file is not read into memory
_NAMED = 8  # how many ignored keys one line lists


class TrustState(StrEnum):
    """Whether the user trusts a project file; a `CHANGED` one was trusted with other contents."""

    TRUSTED = "trusted"
    CHANGED = "changed"
    UNTRUSTED = "untrusted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFile:
    """A project file, read once: `data` are its bytes; `refused` is the reason if the whole file is ignored."""

    path: Path
    data: bytes = b""
    owner: int = -1
    refused: str | None = None


def find_project_file(start: str | Path | None) -> ProjectFile | None:
    """Return the nearest afk.toml at or above `start`, never one above the home folder; None if there is none."""
    if start is None:  # the working directory was deleted
        return None
    try:
        start = Path(start).resolve()
        home = Path.home().resolve()
    except (OSError, RuntimeError):  # `start` was deleted, or the home folder is not known
        return None
    for folder in (start, *start.parents):
        if folder in home.parents:
            break
        path = folder / FILE_NAME
        if os.path.lexists(path) and not os.path.isdir(path):  # noqa: PTH112 - is_dir raises where it may not look
            return read_project_file(path)
        if folder == home:
            break
    return None


def read_project_file(path: Path) -> ProjectFile:
    """Read a project file, or one that it references; refuse it if another user owns it or can write it."""
    try:
        real = path.resolve(strict=True)
        link = path.lstat()
        # O_NONBLOCK, because opening a FIFO would wait for a writer.
        descriptor = os.open(real, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            refused = _refused(status, link)
            data = b"" if refused else file.read(_MAX_BYTES + 1)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        why = getattr(error, "strerror", None) or "a loop of symbolic links"
        return ProjectFile(path=Path(os.path.abspath(path)), refused=f"it cannot be read: {why}")  # noqa: PTH100
    if len(data) > _MAX_BYTES:
        refused = f"it is longer than {_MAX_BYTES} bytes"
    return ProjectFile(path=real, data=b"" if refused else data, owner=status.st_uid, refused=refused)


def _refused(status: os.stat_result, link: os.stat_result) -> str | None:
    """Return why a file is refused: its type, the owner of it or of the link to it, or who can write it."""
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    if not hasattr(os, "geteuid"):
        return None
    if {status.st_uid, link.st_uid} != {os.geteuid()}:
        return "another user owns it"
    if status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and not is_private_group(status)):
        return "others can write it; chmod go-w it"
    return None


def is_private_group(status: os.stat_result) -> bool:
    """Return whether the file's group has only its owner, as on systems with the umask 002.

    Then the right of the group to write gives no other user access. Not for root, whose group has other members on some
    systems.
    """
    import grp
    import pwd

    if status.st_uid == 0:
        return False
    try:
        owner, group = pwd.getpwuid(status.st_uid), grp.getgrgid(status.st_gid)
    except KeyError:
        return False
    return (group.gr_gid, group.gr_name) == (owner.pw_gid, owner.pw_name) and set(group.gr_mem) <= {owner.pw_name}


def project_config(
    file: ProjectFile, configured: Callable[[str], bool], user: Mapping[str, Any], record: Path
) -> ConfigFile:
    """Return the part of a project file that counts: all of it if it is trusted, else what needs no trust.

    Args:
        configured: whether the user has configured the provider of a model name.
        user: the table of the user's config, whose limits may be lowered.
        record: the record of trusted files.

    Raises:
        ConfigError: it is malformed.
    """
    if file.refused is not None:
        return ConfigFile(path=file.path, table={}, inert=(f"everything, because {file.refused}",))
    if trust_state(file, record) is TrustState.TRUSTED:
        return ConfigFile(path=file.path, table=parse_config(file.data, file.path))
    table, inert = without_trust(parse_toml(file.data, file.path), configured, user)
    check_config(table, file.data, file.path)
    return ConfigFile(path=file.path, table=table, inert=tuple(inert))


def inert_line(config: ConfigFile) -> str:
    """Return the line that lists the ignored keys of a project file."""
    names = ", ".join(config.inert[:_NAMED])
    more = f" and {len(config.inert) - _NAMED} more" if len(config.inert) > _NAMED else ""
    return f"{config.path} is not trusted, so this does not count: {names}{more}; see `afk trust`"


def without_trust(
    table: Mapping[str, Any], configured: Callable[[str], bool], user: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the part of a project file's table that counts without trust, and the other keys by dotted name."""
    sieve = _Sieve(configured)
    limits = {limit.field: limit.default for limit in LIMITS} | _table(user.get("limits"))
    own = {key: value for key, value in table.items() if key not in ("agent", "agents", "budgets")}
    allowed = sieve.agent(own, limits, "")
    if "budgets" in table:
        allowed["budgets"] = sieve.lower(table["budgets"], BUDGET_KEYS, _table(user.get("budgets")), "budgets.")
    if "agent" in table:
        allowed["agent"] = table["agent"]
    if "agents" in table:
        allowed["agents"] = table["agents"]
    if isinstance(table.get("agents"), dict):
        known = _table(user.get("agents"))
        allowed["agents"] = {
            name: sieve.agent(agent, limits | _table(_table(known.get(name)).get("limits")), f"agents.{name}.")
            for name, agent in table["agents"].items()
        }
    return allowed, sieve.inert


class _Sieve:
    """Selects from tables what counts without trust; `inert` collects the rest by dotted name."""

    def __init__(self, configured: Callable[[str], bool]) -> None:
        self._configured = configured
        self.inert: dict[str, Any] = {}

    def agent(self, table: Any, limits: Mapping[str, Any], prefix: str) -> Any:
        """Return the part of an agent's table that counts; a value may only be lower than in `limits`.

        A value that should be a table and is not is returned unchanged, because the check of the config reports it.
        """
        if not isinstance(table, dict):
            return table
        allowed: dict[str, Any] = {}
        for key, value in table.items():
            if key == "instructions" or (key in ("model", "fallback_models") and self._are_configured(value)):
                allowed[key] = value
            elif key == "options":
                allowed[key] = self._part(value, SAMPLING_KEYS, f"{prefix}options.")
            elif key == "limits":
                allowed[key] = self.lower(value, LIMIT_KEYS, limits, f"{prefix}limits.")
            else:
                self.inert[f"{prefix}{key}"] = value
        return allowed

    def _are_configured(self, value: Any) -> bool:
        models = value if isinstance(value, list) else [value]
        return all(isinstance(model, str) and self._configured(model) for model in models)

    def _part(self, value: Any, known: Mapping[str, Any], prefix: str) -> Any:
        """Return the known keys of a table."""
        if not isinstance(value, dict):
            return value
        self.inert |= {prefix + key: item for key, item in value.items() if key not in known}
        return {key: item for key, item in value.items() if key in known}

    def lower(self, value: Any, known: Mapping[str, Any], limits: Mapping[str, Any], prefix: str) -> Any:
        """Return the known keys of a table whose value is at most that in `limits`."""
        part = self._part(value, known, prefix)
        if not isinstance(part, dict):
            return part
        higher = [key for key, item in part.items() if _is_higher(item, limits.get(key))]
        self.inert |= {f"{prefix}{key}": part[key] for key in higher}
        return {key: item for key, item in part.items() if key not in higher}


def _is_higher(value: Any, limit: float | None) -> bool:
    return limit is not None and isinstance(value, (int, float)) and value > limit


def referenced_files(file: ProjectFile) -> list[Path]:
    """Return the files that a project file references: instructions and plugin files."""
    table = parse_toml(file.data, file.path)
    tables = [table, *(_table(agent) for agent in _table(table.get("agents")).values())]
    texts = [item.get("instructions_file") for item in tables]
    paths = _table(table.get("plugins")).get("paths")
    texts += paths if isinstance(paths, list) else []
    return [relative_to(file.path, text) for text in texts if isinstance(text, str)]


def fingerprint(file: ProjectFile) -> dict[str, Any]:
    """Return what trust applies to: the owner, and the SHA-256 of the file and of each file that it references.

    Raises:
        ConfigError: a referenced file cannot be read, or another user owns it or can write it.
    """
    references: dict[str, str] = {}
    for path in referenced_files(file):
        read = read_project_file(path)
        if read.refused is not None:
            raise ConfigError(f"{path}, which {file.path} references, cannot be trusted: {read.refused}")
        references[str(path)] = f"{read.path} {hashlib.sha256(read.data).hexdigest()}"
    return {
        "owner": file.owner,
        "sha256": hashlib.sha256(file.data).hexdigest(),
        **({"references": references} if references else {}),
    }


def trust_state(file: ProjectFile, record: Path) -> TrustState:
    """Return whether the user trusts the file as it is now, by the record at the path `record`."""
    if file.refused is not None:
        return TrustState.REFUSED
    recorded = _read_record(record).get(str(file.path))
    if recorded is None:
        return TrustState.UNTRUSTED
    try:
        return TrustState.TRUSTED if recorded == fingerprint(file) else TrustState.CHANGED
    except ConfigError:  # a referenced file is missing or refused, or the file is no longer valid TOML
        return TrustState.CHANGED


def trust(file: ProjectFile, record: Path) -> None:
    """Write to the file `record` that the user trusts the file as it is now.

    Raises:
        ConfigError: it is malformed, refused, or the record cannot be written.
    """
    if file.refused is not None:
        raise ConfigError(f"{file.path} cannot be trusted: {file.refused}")
    parse_config(file.data, file.path)
    trusted = _read_record(record)
    trusted[str(file.path)] = fingerprint(file)
    _write_record(record, trusted)


def distrust(file: ProjectFile, record: Path) -> bool:
    """Remove the file from the file `record`; return whether it was trusted."""
    trusted = _read_record(record)
    known = trusted.pop(str(file.path), None) is not None
    if known:
        _write_record(record, trusted)
    return known


def record_file(environment: Mapping[str, str] | None = None) -> Path:
    """Return the path of the record of trusted files."""
    return state_dir(environment) / "trusted.toml"


def _read_record(path: Path) -> dict[str, Any]:
    try:
        return parse_toml(path.read_bytes(), path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigError(f"the record of trusted files {path} cannot be read: {error.strerror}") from None


def _write_record(path: Path, trusted: Mapping[str, Any]) -> None:
    import tomli_w

    try:
        make_private_folder(path.parent)
        replace_file(path, [tomli_w.dumps(trusted)])
    except UnicodeEncodeError:
        raise ConfigError("a file whose path is not UTF-8 cannot be trusted; rename its folder") from None
    except OSError as error:
        raise ConfigError(f"the record of trusted files {path} cannot be written: {error.strerror}") from None


def _table(value: Any) -> dict[str, Any]:
    """Return `value` if it is a table, else an empty one."""
    return value if isinstance(value, dict) else {}
