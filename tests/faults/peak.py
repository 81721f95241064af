"""Runs a command and writes the most memory it had resident, in KB, to a file: `python -S peak.py FILE COMMAND`.

The kernel counts what a process had before it started a program, too; started from here, that is little.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    ended = subprocess.run(sys.argv[2:], check=False)
    Path(sys.argv[1]).write_text(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
    sys.exit(ended.returncode)
