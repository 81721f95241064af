"""From an entry point to a checked object: discovery, code of others, settings."""
