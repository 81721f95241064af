"""The fixtures of the end-to-end tests: the installed `afk` in a clean home, and a scripted server on a real socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from afkcli.testing.model_server import ModelServer
from tests.e2e import workers
from tests.e2e.shell import Finished, Shell
from tests.event_checks import EVENTS


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    home, folder = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    folder.mkdir()
    yield Shell(home=home, folder=folder)
    workers.stop(tmp_path)
    EVENTS.check_logs((home / "afk" / "state" / "events").glob("*.jsonl"))


@pytest.fixture
def in_process(shell: Shell) -> Callable[..., Finished]:
    """What runs the command line in this process: `in_process("run", "hi", stdin=b"...", AFK_MODEL="...")`."""
    return shell.in_process


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as model_server:
        yield model_server


@pytest.fixture
def keyed(shell: Shell, server: ModelServer) -> Shell:
    """A shell whose default model is the scripted server's."""
    shell.env.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-canary-0123456789", AFK_MODEL="gpt-5.2-mini")
    return shell
