"""`--output FILE`: a file that is whole or not there, readable by the user alone."""

from __future__ import annotations

import os
from collections.abc import Iterable

from afkcli.core.contract.errors import UsageError


def write_file(path: str, pieces: Iterable[str]) -> None:
    """Write `pieces` to a file that only the user can read, in one step: it is never half there.

    What is no file (a pipe, `/dev/null`) is written to as it is.

    Raises:
        UsageError: it cannot be written.
    """
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target):  # noqa: PTH110, PTH113
        _write_to(target, path, pieces)
        return
    new, created = f"{target}.{os.getpid()}.new", False
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        created = True
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(descriptor)
        os.replace(new, target)  # noqa: PTH105
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        if created and os.path.lexists(new):
            os.unlink(new)  # noqa: PTH108


def _write_to(target: str, path: str, pieces: Iterable[str]) -> None:
    try:
        with open(target, "w", encoding="utf-8", newline="\n") as file:  # noqa: PTH123
            file.writelines(pieces)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
