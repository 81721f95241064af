"""The compiled client, made once, and an environment for each test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.worker.scripted_worker import Client, compile_client, make_client


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, compiled with every warning an error. It is for Linux, where these tests need a C compiler."""
    if sys.platform != "linux":
        pytest.skip("the compiled client is for Linux")
    return compile_client(tmp_path_factory.mktemp("compiled"))


@pytest.fixture
def client(compiled: Path, tmp_path: Path) -> Client:
    return make_client(tmp_path / "env", compiled)
