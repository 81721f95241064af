"""What the tests of the engine on DBOS share: a server with a database for each test, and processes that use it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from afkcli.testing.model_script import Step
from afkcli.testing.model_server import ModelServer, RecordedRequest
from tests.e2e.shell import LIMIT, Shell
from tests.many_machines import KEY, Process, Serve
from tests.postgres_server import HAS_SERVER, PostgresServer, postgres_server, schema_of

collect_ignore_glob = [] if HAS_SERVER else ["test_*.py"]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[PostgresServer]:
    """A server with a database of its own for the test."""
    server, name = postgres_server(), schema_of(tmp_path)
    server.execute(f"CREATE DATABASE {name}")
    yield server
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def url(database: PostgresServer, tmp_path: Path) -> str:
    return f"postgresql://postgres@/{schema_of(tmp_path)}?host={database.socket_folder}"


@pytest.fixture
def shell(tmp_path: Path, url: str) -> Shell:
    home, folder = tmp_path / "user", tmp_path / "work"
    folder.mkdir()
    config = home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[engines.dbos]\ngrace = 2\n")
    return Shell(home=home, folder=folder, env={"AFK_DATABASE_URL": url})


@pytest.fixture
def serve(shell: Shell) -> Iterator[Serve]:
    """Start the model server with what it answers."""
    servers: list[ModelServer] = []

    def begin(answer: Callable[[RecordedRequest], Step]) -> ModelServer:
        server = ModelServer(answer=answer)
        servers.append(server)
        server.__enter__()
        shell.env.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY=KEY, AFK_MODEL="openai/gpt-5.2-mini")
        return server

    yield begin
    for server in servers:
        server.__exit__(None, None, None)


@pytest.fixture
def start(shell: Shell, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start a command whose output goes to a file; what still runs at the end is killed."""
    started: list[Process] = []

    def begin(*arguments: str) -> Process:
        with (tmp_path / f"said-{len(started)}").open("wb") as said_to:
            started.append(shell.start(*arguments, stdout=subprocess.DEVNULL, stderr=said_to))
        return started[-1]

    yield begin
    for process in started:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait(LIMIT)
