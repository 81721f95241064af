"""Which workers are alive: each holds a lock on a file of its own, which the system lets go when its process ends."""

from __future__ import annotations

import os
import re
from pathlib import Path

from afkcli.host.files import make_private_folder

_WORKER = re.compile(r"[\w.-]{1,100}")


class WorkerLocks:
    """The locks of the workers of this machine, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}

    def hold(self, worker: str) -> None:
        """Take the lock of a worker of this process, until `release` or the end of the process."""
        import fcntl

        if worker in self._held:
            return
        make_private_folder(self._folder)
        descriptor = os.open(self._file(worker), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._held[worker] = descriptor

    def is_alive(self, worker: str) -> bool:
        import fcntl

        if worker in self._held:
            return True
        try:
            descriptor = os.open(self._file(worker), os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            self._file(worker).unlink(missing_ok=True)  # it is dead, and its name is never used again
            return False
        finally:
            os.close(descriptor)

    def release(self) -> None:
        for worker, descriptor in self._held.items():
            self._file(worker).unlink(missing_ok=True)
            os.close(descriptor)
        self._held.clear()

    def _file(self, worker: str) -> Path:
        if not _WORKER.fullmatch(worker):
            raise ValueError(f"the name of a worker has letters, digits, dots and hyphens (got {worker!r})")
        return self._folder / f"{worker}.lock"
