"""Event sink for afk: every event as one line of JSON in a file a day."""

AFK_HOOKS = 1
