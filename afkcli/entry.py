"""The start of the `afk` command: until its modules are imported, Ctrl-C ends it at once and without a traceback."""

from __future__ import annotations

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Import the command line and run it."""
    interrupted = signal.getsignal(signal.SIGINT)
    if interrupted is signal.default_int_handler:  # not where the shell has it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from afkcli.cli import main as run

    signal.signal(signal.SIGINT, interrupted)
    run()
