"""Thread store for afk: PostgreSQL, shared by many hosts."""

from __future__ import annotations

from dataclasses import dataclass, field

from afkcli.hookspecs import Store, hookimpl

AFK_HOOKS = 1


@dataclass(kw_only=True)
class Settings:
    """`[stores.postgres]`.

    Args:
        url: a connection string of libpq (`postgresql://...` or `host=... dbname=...`); "" leaves all to libpq's own
            variables, service file and password file.
        schema: the schema of the tables; it is created if it is missing.
        wait_timeout: seconds that a call waits for a server that is away, 0 to 3600.

    Raises:
        ValueError: a value is out of range.
    """

    url: str = field(default="", repr=False, metadata={"secret": True, "env": "AFK_DATABASE_URL"})
    schema: str = "afk"
    wait_timeout: float = 60.0

    def __post_init__(self) -> None:
        if not 0 <= self.wait_timeout <= 3600:  # also refuses nan
            raise ValueError(f"wait_timeout must be a number of seconds from 0 to 3600 (got {self.wait_timeout:g})")
        if not 0 < len(self.schema.encode("utf-8", "replace")) <= 63 or "\0" in self.schema:
            raise ValueError(f"schema must be a name of 1 to 63 bytes (got {self.schema!r})")


@hookimpl
def afk_store(settings: Settings) -> Store:
    """Connect to the server, and make the tables where there are none; `StoreError` if that cannot be done."""
    from afk_store_postgres.store import PostgresStore

    return PostgresStore(settings.url, schema=settings.schema, wait_timeout=settings.wait_timeout)
