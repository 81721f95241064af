"""Pytest fixtures for plugin authors: `pytest_plugins = ["afkcli.testing.fixtures"]`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from afkcli.testing.model_server import ModelServer


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    """A running scripted model server that echoes; give it other steps with `model_server.script(...)`."""
    with ModelServer() as server:
        yield server
