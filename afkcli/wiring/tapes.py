"""What may stand between the runs of a runner and their models and tools, as the options of a run name it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Protocol

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.protocols import Store
from afkcli.core.run.tape import Tape
from afkcli.wiring.setup import Setup


class Tapes(Protocol):
    """Makes a tape for each run of a runner. `is_real` says whether models are asked, so that threads are written.

    `signal` is the stop signal that ended the run, where there was one.
    """

    is_real: bool
    signal: int | None

    def tape(self) -> Tape:
        """Return the tape of the next run; `UsageError` if there is none."""
        ...

    def store(self, opens: Callable[[], Store]) -> Callable[[], Store]:
        """Return what opens the store of the runs; `opens` opens that of the user."""
        ...

    def close(self) -> None: ...


def tapes_of(
    setup: Setup,
    record: str | os.PathLike[str] | None,
    replay: str | os.PathLike[str] | None,
    show: Callable[[str], None] | None = None,
) -> Tapes:
    """Return the tapes that record to a file, or replay one.

    Args:
        setup: the config and the plugins.
        record, replay: the file; one of them is None.
        show: takes a text of several lines for a person; a warning of the logger `afkcli` by default.

    Raises:
        UsageError: both are given, or the file cannot be used.
    """
    if record is not None and replay is not None:
        raise UsageError("record and replay exclude each other; use one of them")
    for path in (record, replay):
        if path is not None and os.fspath(path) in ("", "-"):
            raise UsageError("a recording needs the name of a file; it can be neither stdin nor stdout")
    if record is not None:
        from afkcli.wiring.recording import Recording

        return Recording(record, setup.invocation.secrets)
    from afkcli.wiring.replay import Replay

    assert replay is not None
    made = Replay(replay, setup.invocation.secrets, show or (lambda text: _warn(setup.invocation.secrets.mask(text))))
    setup.model_by_default = made.next_model
    return made


def _warn(text: str) -> None:
    logging.getLogger("afkcli").warning("%s", text)
