"""From an entry point to a checked object: discovery, settings, and the check of what a hook returns."""
