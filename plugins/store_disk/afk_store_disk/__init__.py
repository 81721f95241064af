"""Thread store for afk: SQLite through diskcache, durable and fenced."""

from __future__ import annotations

from dataclasses import dataclass

from afkcli.hookspecs import Store, hookimpl

AFK_HOOKS = 1


@dataclass
class Settings:
    """`[stores.disk]`. `path` is the folder of the database; "" is the platform's data folder for afk."""

    path: str = ""


@hookimpl
def afk_store(settings: Settings) -> Store:
    """Open the store, or create it where there is none; `StoreError` if that cannot be done."""
    from afk_store_disk.store import open_store

    return open_store(settings.path)
