"""The compiled client, made once, and an environment for each test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.worker.scripted_worker import LIMIT, Client, compile_client, make_client


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, which waits for an answer for as long as a test may take: a busy machine may keep it waiting.

    It is compiled with every warning an error. It is for Linux, where these tests need a C compiler.
    """
    if sys.platform != "linux":
        pytest.skip("the compiled client is for Linux")
    return compile_client(tmp_path_factory.mktemp("compiled"), f"-DANSWER_MS={LIMIT * 1000}")


@pytest.fixture(scope="session")
def compiled_as_installed(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client as it is installed."""
    return compile_client(tmp_path_factory.mktemp("compiled"))


@pytest.fixture
def client(compiled: Path, tmp_path: Path) -> Client:
    return make_client(tmp_path / "env", compiled)


@pytest.fixture
def installed(compiled_as_installed: Path, tmp_path: Path) -> Client:
    """The client as it is installed, which does not wait long for a worker that hangs."""
    return make_client(tmp_path / "env", compiled_as_installed)
