"""Which engine keeps a batch: the built-in one of this machine, or that of a plugin.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from afkcli.batch.local_engine import LocalEngine
from afkcli.core.contract.engine import Engine
from afkcli.host.invocation import Invocation
from afkcli.host.paths import data_dir
from afkcli.wiring.plugin_objects import make_engine
from afkcli.wiring.setup import Setup

LOCAL = "local"
"""The name of the engine that is built in."""

MakeEngine = Callable[[], Engine]


def batches_folder(invocation: Invocation) -> Path:
    """Return the folder in which the engine of this machine keeps batches."""
    return data_dir(invocation.environment) / "batches"


def engine_maker(setup: Setup, name: str) -> MakeEngine:
    """Return what makes the engine of a name in the process that calls it; it raises as `make_engine`."""
    if name == LOCAL:
        return partial(LocalEngine, batches_folder(setup.invocation))
    return partial(make_engine, setup, name)
