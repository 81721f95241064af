"""Engine for `afk batch`: prompts are workflows of DBOS in PostgreSQL, and workers on many machines run them."""

from __future__ import annotations

from dataclasses import dataclass, field

from afkcli.hookspecs import Engine, hookimpl

AFK_HOOKS = 1


@dataclass(kw_only=True)
class Settings:
    """`[engines.dbos]`.

    Args:
        url: a connection string of libpq (`postgresql://...` or `host=... dbname=...`); "" leaves all to libpq's own
            variables, service file and password file. It must reach the server itself, or a pooler in session mode.
        schema: the schema of afk's tables; those of DBOS are in `<schema>_dbos`. Both are created if they are missing.
        wait_timeout: seconds that a call waits for a server that is away, 0 to 3600.
        grace: for so many seconds after the start of the server no worker counts as dead, 0 to 3600.

    Raises:
        ValueError: a value is out of range.
    """

    url: str = field(default="", repr=False, metadata={"secret": True, "env": "AFK_DATABASE_URL"})
    schema: str = "afk_batches"
    wait_timeout: float = 60.0
    grace: float = 15.0

    def __post_init__(self) -> None:
        if not 0 <= self.wait_timeout <= 3600:  # also refuses nan
            raise ValueError(f"wait_timeout must be a number of seconds from 0 to 3600 (got {self.wait_timeout:g})")
        if not 0 <= self.grace <= 3600:
            raise ValueError(f"grace must be a number of seconds from 0 to 3600 (got {self.grace:g})")
        if not 0 < len(self.schema.encode("utf-8", "replace")) <= 55 or not self.schema.isprintable():
            raise ValueError(f"schema must be a name of 1 to 55 bytes (got {self.schema!r})")


@hookimpl
def afk_engine(settings: Settings) -> Engine:
    """Return the engine; it connects when it is first used."""
    from afk_engine_dbos.engine import DbosEngine

    return DbosEngine(settings.url, schema=settings.schema, wait_timeout=settings.wait_timeout, grace=settings.grace)
