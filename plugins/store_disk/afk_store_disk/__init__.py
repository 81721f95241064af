"""Thread store for afk: SQLite through diskcache, durable and fenced."""

from __future__ import annotations

from dataclasses import dataclass

from afkcli.hookspecs import Store, hookimpl

AFK_HOOKS = 1


@dataclass
class Settings:
    """`[stores.disk]`.

    Args:
        path: the folder of the database; "" is the platform's data folder for afk.
        lock_timeout: seconds that a turn waits while another process locks the database, 0 to 3600. Since 0.2.

    Raises:
        ValueError: a number is out of range.
    """

    path: str = ""
    lock_timeout: float = 60.0

    def __post_init__(self) -> None:
        if not 0 <= self.lock_timeout <= 3600:  # also refuses nan
            raise ValueError(f"lock_timeout must be a number of seconds from 0 to 3600 (got {self.lock_timeout:g})")


@hookimpl
def afk_store(settings: Settings) -> Store:
    """Open the store, or create it where there is none; `StoreError` if that cannot be done."""
    from afk_store_disk.store import open_store

    return open_store(settings.path, settings.lock_timeout)
