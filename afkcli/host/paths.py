"""Where afk keeps things: the data, state and config folders of the platform; `AFK_HOME` moves all three.

Each function takes the environment that names them; plugins leave it out and get that of the process.
Without `AFK_HOME` each raises `ConfigError` if this user has no home folder: no `HOME`, no entry in the user database.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from afkcli.core.contract.errors import ConfigError
from afkcli.host.invocation import process_environment


def data_dir(environment: Mapping[str, str] | None = None) -> Path:
    """Return the folder of the threads: `$AFK_HOME/data`, or the platform's user data folder for afk."""
    return _home("data", environment) or _platform("user_data_path")


def state_dir(environment: Mapping[str, str] | None = None) -> Path:
    """Return the folder of the event log and of rescue files: `$AFK_HOME/state`, or the platform's."""
    return _home("state", environment) or _platform("user_state_path")


def config_dir(environment: Mapping[str, str] | None = None) -> Path:
    """Return the folder of the user's config: `$AFK_HOME/config`, or the platform's."""
    return _home("config", environment) or _platform("user_config_path")


def cache_dir(environment: Mapping[str, str] | None = None) -> Path:
    """Return the folder of what can be made again: `$AFK_HOME/cache`, or the platform's. Since: 0.2."""
    return _home("cache", environment) or _platform("user_cache_path")


def config_file(environment: Mapping[str, str] | None = None) -> Path:
    """Return the path of the user's config file."""
    return config_dir(environment) / "config.toml"


_kept: set[Path] = set()


def keep_place(*places: Path) -> None:
    """Have files or folders count as afk's own in this process: a store or a sink that keeps them elsewhere says so.

    Since: 0.2.
    """
    _kept.update(places)


def forget_places() -> None:
    """Begin again with no place that a store or a sink has named. Since: 0.2."""
    _kept.clear()


def own_places() -> list[Path]:
    """Return afk's data, state and config folders, and what plugins keep elsewhere (`keep_place`), as it is now.

    Since: 0.2.
    """
    return [data_dir(), state_dir(), config_dir(), *sorted(_kept)]


def _home(part: str, environment: Mapping[str, str] | None) -> Path | None:
    home = (process_environment() if environment is None else environment).get("AFK_HOME")
    return expand_user(home, "AFK_HOME").absolute() / part if home else None


def expand_user(path: str, what: str) -> Path:
    """Return `path` with a beginning `~` or `~USER` replaced by that user's home folder.

    Args:
        path: as the user wrote it.
        what: where the user wrote it, for the error: `[stores.disk] path`.

    Raises:
        ConfigError: the home folder is not known.

    Since: 0.2.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(f"{what} is {path!r}, but that home folder is not known; write the full path") from None


_XDG = {
    "user_data_path": ("XDG_DATA_HOME", ".local/share"),
    "user_state_path": ("XDG_STATE_HOME", ".local/state"),
    "user_config_path": ("XDG_CONFIG_HOME", ".config"),
    "user_cache_path": ("XDG_CACHE_HOME", ".cache"),
}
"""The variable and the default of each folder (XDG Base Directory Specification)."""


def _platform(function: str) -> Path:
    return _on_linux(function) or _by_library(function)


def _on_linux(function: str) -> Path | None:
    """Return what the library says, without importing it; None where something is unusual, for which it is asked."""
    environment = process_environment()
    if sys.platform != "linux" or "ANDROID_ROOT" in environment:
        return None
    variable, default = _XDG[function]
    folder, home = environment.get(variable, ""), environment.get("HOME", "")
    if folder.startswith("/"):
        return Path(folder, "afk")
    return Path(home, default, "afk") if not folder and home.startswith("/") else None


def _by_library(function: str) -> Path:
    import platformdirs

    try:
        path: Path = getattr(platformdirs, function)("afk", appauthor=False)
    except RuntimeError:
        raise ConfigError(
            "this user has no home folder for afk's files; set AFK_HOME (or HOME) to a folder that can be written"
        ) from None
    return path
