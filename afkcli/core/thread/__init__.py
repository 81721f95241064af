"""What is remembered: names, records, turns, history, and the worker that calls the store."""

from typing import TYPE_CHECKING

if not TYPE_CHECKING:

    def __getattr__(name):
        """Look up a name of the module `afkcli.core.thread` of version 0.1."""
        from afkcli.core.contract.aliases import old_name

        return old_name(__name__, name)
