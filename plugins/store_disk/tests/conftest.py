"""What the tests of the disk store share: a folder, a store in it, and Python processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from afk_store_disk.store import DiskStore

_PRELUDE = """
import os, signal, sys, time
from dataclasses import replace
from pathlib import Path
import afk_store_disk.leases as lease_module
from afk_store_disk.store import DiskStore
from afkcli.core.contract.errors import *
from afkcli.host.owner import current_owner
from afkcli.testing.store_steps import *
folder = Path(sys.argv[1])
"""

StartPython = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a store that does not exist yet."""
    return tmp_path / "data"


@pytest.fixture
def store(folder: Path) -> Iterator[DiskStore]:
    """A new store in `folder`."""
    store = DiskStore(folder)
    yield store
    store.close()


@pytest.fixture
def start_python(folder: Path) -> Iterator[StartPython]:
    """Start Python code in a process of its own; `folder` is the store's folder there too. Killed after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str, prefix: tuple[str, ...] = (), **options: object) -> subprocess.Popen[str]:
        command = [*prefix, sys.executable, "-c", _PRELUDE + code, str(folder), *arguments]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,  # type: ignore[call-overload]
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
