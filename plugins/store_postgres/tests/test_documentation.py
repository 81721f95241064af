"""The page about this store works as printed: docs/how-to/postgres.md, with a real server in place of its address."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from afkcli.testing.model_server import ModelServer
from tests.docs.pages import REPOSITORY, blocks
from tests.docs.terminal import Terminal
from tests.postgres_server import PostgresServer

PAGE = REPOSITORY / "docs" / "how-to" / "postgres.md"
ADDRESS = "postgresql://afk@db.example.com/threads"


def test_the_commands_of_the_page_work(
    server: PostgresServer, schema: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.execute(f"CREATE DATABASE {schema}")
    server.execute(f"CREATE ROLE member_{schema}")
    services = tmp_path / "services"
    services.write_text(f"[threads]\nhost={server.socket_folder}\nuser=postgres\ndbname={schema}\n")
    begin = f"export PATH='{server.programs}':\"$PATH\" PGSERVICEFILE='{services}'\n"
    url = f"postgresql://postgres@/{schema}?host={server.socket_folder}"
    begin += f"export AFK_DATABASE_URL='{url}'\n"
    try:
        with ModelServer() as model:
            terminal = Terminal(home=tmp_path / "home", folder=tmp_path / "work", server=model)
            terminal.prepare()
            for block in blocks(PAGE):
                if block.language == "sh":
                    text = block.text.replace(ADDRESS, f"'{url}'")
                    terminal.run(replace(block, text=begin + text, marks=()))
                elif "GRANT" in block.text:
                    with psycopg.connect(url, autocommit=True) as connection:
                        connection.execute(block.text.replace("TO member", f"TO member_{schema}").encode())
        with psycopg.connect(url) as connection:
            kept = connection.execute("SELECT name FROM afk.thread").fetchall()
        assert kept == [("trip",)]
    finally:
        server.execute(f"DROP DATABASE {schema} WITH (FORCE)")
        server.execute(f"DROP ROLE member_{schema}")
