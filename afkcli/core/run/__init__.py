"""What happens: the loop, and the parts of one run."""

from typing import TYPE_CHECKING

if not TYPE_CHECKING:

    def __getattr__(name):
        """Look up a name of the module `afkcli.core.run` of version 0.1."""
        from afkcli.core.contract.aliases import old_name

        return old_name(__name__, name)
