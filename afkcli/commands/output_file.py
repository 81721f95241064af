"""`--output FILE`: a whole file or none, readable only by the user."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from afkcli.core.contract.errors import UsageError
from afkcli.host.files import replace_file


def write_file(path: str, pieces: Iterable[str]) -> None:
    """Write `pieces` in one step to a file that only the user can read.

    A pipe or a device (`/dev/null`) is written to directly.

    Raises:
        UsageError: it cannot be written.
    """
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target):  # noqa: PTH110, PTH113
        _write_to(target, path, pieces)
        return
    try:
        replace_file(Path(target), pieces)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None


def _write_to(target: str, path: str, pieces: Iterable[str]) -> None:
    try:
        with open(target, "w", encoding="utf-8", newline="\n") as file:  # noqa: PTH123
            file.writelines(pieces)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
