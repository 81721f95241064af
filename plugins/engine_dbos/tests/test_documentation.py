"""The page about batches on many machines works as printed, with a real server in place of its address."""

from __future__ import annotations

import configparser
import json
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import yaml

from afkcli.commands.batch_worker import worker
from afkcli.testing.model_server import ModelServer
from tests.docs.pages import REPOSITORY, blocks
from tests.docs.terminal import Terminal
from tests.postgres_server import postgres_server, schema_of

PAGE = REPOSITORY / "docs" / "how-to" / "many-machines.md"
ADDRESS = "postgresql://afk@db.example.com/batches"


def test_the_commands_and_the_grants_of_the_page_work(tmp_path: Path) -> None:
    server, name = postgres_server(), schema_of(tmp_path)
    server.execute(f"CREATE DATABASE {name}")
    server.execute(f"CREATE ROLE worker_{name} LOGIN")
    url = f"postgresql://postgres@/{name}?host={server.socket_folder}"
    try:
        with ModelServer() as model:
            terminal = Terminal(home=tmp_path / "home", folder=tmp_path / "work", server=model)
            terminal.prepare()
            for block in blocks(PAGE):
                if block.language == "sh":
                    begin = f"export AFK_DATABASE_URL='{url}'\n"
                    terminal.run(replace(block, text=begin + block.text.replace(ADDRESS, f"'{url}'"), marks=()))
                elif "GRANT" in block.text:
                    with psycopg.connect(url, autocommit=True) as connection:
                        connection.execute(block.text.replace("TO worker", f"TO worker_{name}").encode())
            assert len(model.requests) == 2
            as_worker = f"export AFK_DATABASE_URL='postgresql://worker_{name}@/{name}?host={server.socket_folder}'\n"
            first = next(block for block in blocks(PAGE) if block.language == "sh")
            again = "echo 'What is a boson?' > more.txt\nafk batch run more.txt -o more.jsonl --engine dbos --workers 1"
            terminal.run(replace(first, text=as_worker + again, marks=()))
        rows = [json.loads(line) for line in (tmp_path / "work" / "more.jsonl").read_text().splitlines()]
        assert [row["state"] for row in rows] == ["done"]
    finally:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        server.execute(f"DROP ROLE worker_{name}")


def _block(language: str) -> str:
    (found,) = [block.text for block in blocks(PAGE) if block.language == language]
    return found


@pytest.fixture
def options() -> set[str]:
    return {name for option in worker.params for name in option.opts}


def test_the_compose_file_starts_workers_with_options_that_there_are(options: set[str]) -> None:
    services = yaml.safe_load(_block("yaml"))["services"]
    command = services["worker"]["command"]
    assert command[:3] == ["afk", "batch", "worker"]
    assert {word for word in command if word.startswith("--")} <= options
    assert services["worker"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    secrets = yaml.safe_load(_block("yaml"))["secrets"]
    assert set(secrets) == {"database_password", "pgpass"}


def test_the_systemd_unit_starts_a_worker_and_lets_it_finish(options: set[str]) -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(_block("ini"))
    words = unit["Service"]["ExecStart"].split()
    assert words[1:3] == ["batch", "worker"]
    assert {word for word in words if word.startswith("--")} <= options
    assert unit["Service"]["KillSignal"] == "SIGTERM"
    assert unit["Service"]["KillMode"] == "mixed"
