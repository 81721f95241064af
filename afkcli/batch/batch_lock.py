"""One process a batch: a lock that its process holds, and the workers below it, until the last of them has ended."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from afkcli.core.contract.errors import ThreadBusyError
from afkcli.host.files import make_private_folder

_LOOK_S: Final = 0.1
_SAY_AFTER_S: Final = 1.0


class BatchBusyError(ThreadBusyError):
    """Another process runs the batch."""


def lock_batch(
    file: Path, name: str, *, wait_s: float, say: Callable[[str], None], sleep: Callable[[float], None] = time.sleep
) -> int:
    """Take the lock of a batch, and return its descriptor, which holds it as long as a process has it open.

    Args:
        file: the file that is locked; it is made.
        name: the name of the batch, for messages.
        wait_s: how many seconds to wait for another process; 0 not to wait.
        say: takes the line that it waits.
        sleep: waits for so many seconds.

    Raises:
        BatchBusyError: another process holds it.
        OSError: the file cannot be made.
    """
    import fcntl

    make_private_folder(file.parent)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    began, said = time.monotonic(), False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - began
            if waited >= wait_s:
                os.close(descriptor)
                raise BatchBusyError(
                    f"another process runs the batch {name}; wait for it, or stop it with Ctrl-C"
                ) from None
            if waited >= _SAY_AFTER_S and not said:
                said = True
                say(f"waiting for another process that runs the batch {name}")
            sleep(_LOOK_S)
        else:
            return descriptor
