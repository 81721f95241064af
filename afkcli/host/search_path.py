"""Takes the working folder off the places where Python looks for modules.

`PYTHONPATH` and `PYTHONPYCACHEPREFIX` may be relative, or have an empty entry, as `PYTHONPATH=$PYTHONPATH:/mine` has
where nothing was set. Then Python looks for modules, or for the bytecode of installed ones, in the folder that afk is
started in, which others may have written. What Python itself loaded before is not undone (SECURITY.md).

Nothing is imported here that Python has not imported at its start.
"""

import os
import sys


def leave_working_folder() -> None:
    """Remove from this process's module path what a relative PYTHONPATH added, and a relative folder for bytecode.

    Since: 0.2.
    """
    path, isabs, abspath = os.environ.get("PYTHONPATH", ""), os.path.isabs, os.path.abspath  # pathlib is slow to import
    relative = {abspath(entry) for entry in path.split(os.pathsep) if path and not isabs(entry)}
    if relative and not sys.flags.ignore_environment:
        sys.path[:] = [entry for entry in sys.path if entry and entry not in relative]
    if sys.pycache_prefix is not None and not isabs(sys.pycache_prefix):
        sys.pycache_prefix = None
