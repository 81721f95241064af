"""Reads config files into checked tables. The checks are imported where there is a file to check."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from afkcli.core.contract.errors import ConfigError
from afkcli.core.contract.structs import FrozenStruct, field
from afkcli.host.permissions import UnsafeFileError, read_own_file


class ConfigFile(FrozenStruct, kw_only=True):
    """A config file that was read and checked.

    `table` is the part that counts, and `inert` are the names of other keys. `changed` says that the file was trusted
    with other contents. `files` are the bytes of the files to which trust applies, by their paths: they are used as
    they were read and hashed, and not read again. `starts` are the hashes of the files that the programs which it
    starts name, by the key of the program and the path of the file. `data` are the bytes of the file itself.
    """

    path: Path
    table: Mapping[str, Any]
    inert: tuple[str, ...] = ()
    changed: bool = False
    files: Mapping[Path, bytes] = field(default_factory=dict)
    starts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    data: bytes = b""

    def __repr__(self) -> str:
        return (
            f"ConfigFile(path={self.path!r}, inert={self.inert!r}, changed={self.changed!r})"  # without what is in it
        )

    def place_of(self, at: Sequence[str]) -> tuple[int, str]:
        """Return how many keys of the path `at` the file has, and the file and line of the last of them."""
        from afkcli.config.checking import line_of

        value: Any = self.table
        for depth, key in enumerate(at):
            if not isinstance(value, dict) or key not in value:
                return depth, f"{self.path}, line {line_of(self.data, at[:depth])}"
            value = value[key]
        return len(at), f"{self.path}, line {line_of(self.data, at)}"


def load_user_config(path: Path) -> ConfigFile:
    """Read the user's config; a file that does not exist is an empty one.

    Raises:
        ConfigError: it is malformed; the message has the file, the line and what was expected. Or others can write it;
            the message has the command that mends it.
    """
    try:
        data = read_own_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return ConfigFile(path=path, table={})
    except UnsafeFileError as error:
        raise ConfigError(f"the config {path} is not used: {error}") from None
    except OSError as error:
        raise ConfigError(f"the config {path} cannot be read: {error.strerror}") from None
    return ConfigFile(path=path, table=parse_config(data, path), data=data)


def parse_config(data: bytes, path: Path) -> dict[str, Any]:
    """Return the checked table in the bytes of a config file.

    Raises:
        ConfigError: the message has the file, the line and what was expected.
    """
    from afkcli.config.checking import check_config

    table = parse_toml(data, path)
    check_config(table, data, path)
    return table


def parse_toml(data: bytes, path: Path) -> dict[str, Any]:
    """Return the table in TOML bytes; `ConfigError` names the file and line."""
    import tomllib

    try:
        return _with_seconds(tomllib.loads(data.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{path}: not valid TOML: nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, or an integer with thousands of digits
        what, where = str(error), ""
        found = re.search(r" \(at line (\d+), column \d+\)$", what)
        if found:
            what, where = what[: found.start()], f", line {found[1]}"
        elif what.endswith("(at end of document)"):
            where = f", line {len(data.splitlines())}"
        raise ConfigError(f"{path}{where}: not valid TOML: {what}") from None


_TIMES = (("", "busy_timeout"), ("", "retry_delay"), ("approvals", "timeout"), ("limits", "max_wall_time_s"))
"""The keys that hold a length of time, each with its table below the top level or an agent."""


def _with_seconds(table: dict[str, Any]) -> dict[str, Any]:
    """Return a table with lengths of time such as `"5m"` in seconds; the check of the config refuses others."""
    agents = table.get("agents")
    for owner in (table, *(agents.values() if isinstance(agents, dict) else ())):
        for section, key in _TIMES:
            holder = owner.get(section) if section and isinstance(owner, dict) else owner
            if isinstance(holder, dict) and isinstance(value := holder.get(key), str):
                from afkcli.core.contract.durations import seconds_of

                seconds = seconds_of(value)
                holder[key] = value if seconds is None else seconds
    return table


def relative_to(file: Path, text: str) -> Path:
    """Return a path in a config file: relative to the folder of the file, with `~` expanded if that home exists."""
    path = Path(text)
    with contextlib.suppress(RuntimeError):
        path = path.expanduser()
    return file.parent / path
