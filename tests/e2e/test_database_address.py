"""A message about the database names the server as the user wrote it, without the password."""

from __future__ import annotations

import pytest

from tests.e2e.shell import Shell

STORE = ("threads",)
ENGINE = ("batch", "list", "--engine", "dbos")


@pytest.mark.parametrize("command", [STORE, ENGINE], ids=["store", "engine"])
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql:///?host=/nowhere/socket-2026", "PostgreSQL at /nowhere/socket-2026 cannot be reached"),
        ("postgresql://postgres:geheim77@/batches-1?host=/nowhere/postgres-1", "PostgreSQL at /nowhere/postgres-1, "),
        ("host=/nowhere/socket-2026", "PostgreSQL at /nowhere/socket-2026 cannot be reached"),
        ("host=/nowhere/db1 dbname=batches-2026", "PostgreSQL at /nowhere/db1, database batches-2026 cannot be"),
        ("user=me password='geheim77 x' host=/nowhere/db1 port=54321", "PostgreSQL at /nowhere/db1:54321 cannot"),
        ("postgresql://me:geheim77@127.0.0.1:9/?sslmode=require1", 'invalid sslmode value: "require1"'),
        ("postgresql://me:geheim77@127.0.0.1:port-2026/", 'invalid integer value "port-2026" for connection option'),
        ("postgresql://127.0.0.1:9/?options=-csearch_path%3Done1&password=geheim77", "PostgreSQL at 127.0.0.1:9 "),
    ],
)
def test_it_names_the_server_and_not_the_password(
    shell: Shell, command: tuple[str, ...], address: str, said: str
) -> None:
    config = shell.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("[stores.postgres]\nwait_timeout = 0\n[engines.dbos]\nwait_timeout = 0\n")
    done = shell.in_process(*command, AFK_STORE="postgres", AFK_DATABASE_URL=address)
    assert done.code != 0
    assert said in done.err
    assert "***" not in done.err
    assert "geheim77" not in done.err
