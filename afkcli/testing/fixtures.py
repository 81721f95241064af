"""Pytest fixtures for plugin authors; in a `conftest.py`: `from afkcli.testing.fixtures import model_server`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from afkcli.testing.model_server import ModelServer


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    """A running scripted model server that echoes; give it other steps with `model_server.script(...)`."""
    with ModelServer() as server:
        yield server
