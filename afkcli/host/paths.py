"""Where afk keeps things: the data, state and config folders of the platform; `AFK_HOME` moves all three.

Each function takes the environment that names them; plugins leave it out and get that of the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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


def config_file(environment: Mapping[str, str] | None = None) -> Path:
    """Return the path of the user's config file."""
    return config_dir(environment) / "config.toml"


def _home(part: str, environment: Mapping[str, str] | None) -> Path | None:
    home = (process_environment() if environment is None else environment).get("AFK_HOME")
    return Path(home).expanduser().absolute() / part if home else None


def _platform(function: str) -> Path:
    import platformdirs

    path: Path = getattr(platformdirs, function)("afk", appauthor=False)
    return path
