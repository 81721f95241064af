"""Thread store for afk: SQLite through diskcache, durable and fenced."""

AFK_HOOKS = 1
