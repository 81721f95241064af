"""Where afk keeps things: the data, state and config folders of the platform; `AFK_HOME` moves all three."""

from __future__ import annotations

import os
from pathlib import Path


def data_dir() -> Path:
    """Return the folder of the threads: `$AFK_HOME/data`, or the platform's user data folder for afk."""
    return _home("data") or _platform("user_data_path")


def state_dir() -> Path:
    """Return the folder of the event log and of rescue files: `$AFK_HOME/state`, or the platform's."""
    return _home("state") or _platform("user_state_path")


def config_dir() -> Path:
    """Return the folder of the user's config: `$AFK_HOME/config`, or the platform's."""
    return _home("config") or _platform("user_config_path")


def config_file() -> Path:
    """Return the path of the user's config file."""
    return config_dir() / "config.toml"


def make_private_folder(folder: Path) -> None:
    """Create `folder` and those of its parents that are missing, each 0700 whatever the umask is.

    Raises:
        OSError: one cannot be made, or a file is in its place.
    """
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(0o700, exist_ok=True)  # each alone: `parents=True` gives the rights to the last one only


def _home(part: str) -> Path | None:
    home = os.environ.get("AFK_HOME")
    return Path(home).expanduser().absolute() / part if home else None


def _platform(function: str) -> Path:
    import platformdirs

    path: Path = getattr(platformdirs, function)("afk", appauthor=False)
    return path
