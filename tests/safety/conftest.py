"""The fixtures of the end-to-end tests: the installed `afk` in a clean home, and a scripted server."""

from tests.e2e.conftest import keyed, server, shell

__all__ = ["keyed", "server", "shell"]
