"""A plugin file: the sink that BENCH_SINK names, `raises` or `blocks`."""

from __future__ import annotations

import os
import time

from afkcli.core.contract.events import Event
from afkcli.hookspecs import hookimpl

AFK_HOOKS = 1


class BadSink:
    """Raises at the first event, or takes none ever again."""

    name = "bad_sinks"

    def emit(self, event: Event) -> None:
        if os.environ["BENCH_SINK"] == "raises":
            raise OSError("nobody listens")
        while True:
            time.sleep(1)

    def close(self) -> None:
        """Nothing to close."""


@hookimpl
def afk_sink() -> BadSink:
    return BadSink()
