"""How the server is reached: TLS, and passwords, by libpq's own rules."""

from __future__ import annotations

from pathlib import Path

import pytest
from afk_store_postgres.store import PostgresStore

from afkcli.plugin import StoreError
from afkcli.testing.store_steps import acquired, save_turn
from tests.postgres_server import PostgresServer
from tests.postgres_tls import Certificate, TlsServer, certificate

PASSWORD = "kept in a file"


@pytest.fixture
def shown(tmp_path: Path) -> Certificate:
    """The certificate of the server."""
    return certificate(tmp_path, "database")


def socket_of(server: PostgresServer) -> str:
    return f"{server.socket_folder}/.s.PGSQL.5432"


def url(tls: TlsServer, host: str = "localhost", **parameters: object) -> str:
    given = {"hostaddr": "127.0.0.1", "sslmode": "verify-full", **parameters}
    return f"postgresql://postgres@{host}:{tls.port}/postgres?" + "&".join(f"{n}={v}" for n, v in given.items())


def test_a_thread_is_kept_over_tls_where_the_certificate_is_the_right_one(
    server: PostgresServer, schema: str, shown: Certificate
) -> None:
    with TlsServer(socket_of(server), shown) as tls:
        store = PostgresStore(url(tls, sslrootcert=shown.certificate), schema=schema)
        lease = save_turn(store, acquired(store), "question", "answer " * 100_000)
        assert store.find("t-42") == lease.thread
        assert len(store.load(lease.thread.key)[0].body) > 700_000
        store.close()
        assert tls.ciphers


def test_a_server_with_another_certificate_is_refused_with_what_to_do(
    server: PostgresServer, schema: str, shown: Certificate, tmp_path: Path
) -> None:
    other = certificate(tmp_path, "impostor")
    with TlsServer(socket_of(server), other) as tls, pytest.raises(StoreError) as error:
        PostgresStore(url(tls, sslrootcert=shown.certificate), schema=schema, wait_timeout=3600)
    line = str(error.value)
    assert line.startswith("PostgreSQL at localhost:")
    assert "is not trusted" in line
    assert "certificate verify failed" in line
    assert "sslrootcert" in line
    assert "\n" not in line


def test_a_server_of_another_name_is_refused(server: PostgresServer, schema: str, shown: Certificate) -> None:
    with (
        TlsServer(socket_of(server), shown) as tls,
        pytest.raises(StoreError, match=r"is not trusted .*does not match"),
    ):
        PostgresStore(url(tls, "db.example.com", sslrootcert=shown.certificate), schema=schema)


def test_an_authority_that_is_not_there_is_named(server: PostgresServer, schema: str, shown: Certificate) -> None:
    with TlsServer(socket_of(server), shown) as tls, pytest.raises(StoreError, match=r"is not trusted .*missing\.crt"):
        PostgresStore(url(tls, sslrootcert="/missing.crt"), schema=schema)


def test_a_server_without_tls_is_refused_where_it_is_required(server: PostgresServer, schema: str) -> None:
    from tests.faults.proxy import CuttableProxy

    with CuttableProxy(socket_of(server)) as plain:
        address = f"postgresql://postgres@127.0.0.1:{plain.port}/postgres?sslmode=require"
        with pytest.raises(StoreError, match=r"does not support SSL.*sslmode"):
            PostgresStore(address, schema=schema)


def test_tls_is_set_by_the_variables_and_the_service_file_of_libpq(
    server: PostgresServer, schema: str, shown: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TlsServer(socket_of(server), shown) as tls:
        monkeypatch.setenv("PGSSLMODE", "verify-full")
        monkeypatch.setenv("PGSSLROOTCERT", str(shown.certificate))
        PostgresStore(f"postgresql://postgres@localhost:{tls.port}/postgres", schema=schema).close()
        monkeypatch.setenv("PGSSLROOTCERT", str(shown.key))
        services = tmp_path / "services"
        services.write_text(
            f"[threads]\nhost=localhost\nport={tls.port}\nuser=postgres\ndbname=postgres\nsslmode=verify-full\n"
            f"sslrootcert={shown.certificate}\n"
        )
        monkeypatch.setenv("PGSERVICEFILE", str(services))
        PostgresStore("service=threads", schema=schema).close()
        assert len(tls.ciphers) == 2


@pytest.mark.parametrize("place", ["passfile", "PGPASSFILE", "service"])
def test_a_password_comes_from_the_files_of_libpq(
    server: PostgresServer, schema: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server asks for it: by a rule of its own for one role, which is taken out again."""
    role = f"role_{schema}"
    rules = server.folder / "data" / "pg_hba.conf"
    before = rules.read_text()
    server.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}' SUPERUSER")
    rules.write_text(f"local all {role} scram-sha-256\n{before}")
    server.execute("SELECT pg_reload_conf()")
    address = f"host={server.socket_folder} user={role} dbname=postgres"
    try:
        with pytest.raises(StoreError, match="password"):
            while True:  # until the server has read the rule
                PostgresStore(address, schema=schema).close()
        file = tmp_path / "file"
        file.write_text(f"*:*:*:{role}:{PASSWORD}\n")
        if place == "service":
            file.write_text(
                f"[threads]\nhost={server.socket_folder}\nuser={role}\ndbname=postgres\npassword={PASSWORD}\n"
            )
            monkeypatch.setenv("PGSERVICEFILE", str(file))
            address = "service=threads"
        elif place == "passfile":
            address += f" passfile={file}"
        else:
            monkeypatch.setenv("PGPASSFILE", str(file))
        file.chmod(0o600)
        store = PostgresStore(address, schema=schema)
        assert store.add("turns", 1) == 1
        store.close()
    finally:
        rules.write_text(before)
        server.execute("SELECT pg_reload_conf()")
        server.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        server.execute(f"DROP ROLE {role}")
