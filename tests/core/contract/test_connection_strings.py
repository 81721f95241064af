"""Of a connection string of PostgreSQL only the passwords and keys are masked, wherever it comes from."""

from __future__ import annotations

import pytest

from afkcli.core.contract.credentials import MASK
from afkcli.host.secrets import Secrets

PASSWORD = "geheim/77 und mehr"
FILE = "/run/secrets/pass-2026"


def masked(given: str, text: str) -> str:
    secrets = Secrets()
    secrets.add(given)
    return secrets.mask(text)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("postgresql:///db?host=/tmp/socket-2026", 'connection to server on socket "/tmp/socket-2026"'),
        ("postgresql://db.example.com/?port=5433&hostaddr=127.0.0.101", "server at db.example.com (127.0.0.101)"),
        ("postgres://afk-workers-1@db1.example.com/batches-2026", 'role "afk-workers-1", database batches-2026'),
        ("postgresql:///db?user=me@db.example.com", "user me@db.example.com of db"),
        ("postgresql://[::1]:54321/batches1?sslmode=verify-full1", 'invalid sslmode value: "verify-full1"'),
        (f"postgresql://me@/db?passfile={FILE}", f'password file "{FILE}" is not a plain file'),
        ("postgresql:///db?options=-csearch_path%3Dschema_1", 'schema_1: "-csearch_path=schema_1"'),
        ("postgresql:///db?require_auth=scram-sha-256", 'authentication method requirement "scram-sha-256" failed'),
        ("postgresql+psycopg://me1234567@db/batches1", "me1234567 at db, database batches1"),
        ("host=/tmp/socket-2026", 'connection to server on socket "/tmp/socket-2026"'),
        ("host=/tmp/socket-2026 dbname=batches-2026", "PostgreSQL at /tmp/socket-2026, database batches-2026"),
        ("user=afk-workers-1 sslmode=verify-full1", "afk-workers-1: verify-full1"),
        ("service=batches-2026", 'definition of service "batches-2026" not found'),
        (f"passfile = '{FILE}'  options='-c search_path=schema_1'", f"{FILE}: -c search_path=schema_1"),
        ("sslkey=/run/keys/client1.key require_auth=scram-sha-256", "/run/keys/client1.key, scram-sha-256"),
    ],
)
def test_what_is_not_secret_in_a_connection_string_is_shown(given: str, said: str) -> None:
    assert masked(given, said) == said


@pytest.mark.parametrize(
    ("given", "said", "expected"),
    [
        (
            "postgresql://postgres:geheim77@/db?host=/tmp/db1",
            "postgres at /tmp/db1: geheim77",
            f"postgres at /tmp/db1: {MASK}",
        ),
        ("postgresql://me:geheim%2F77%20und%20mehr@db/x", f"me, {PASSWORD}", f"me, {MASK}"),
        ("postgresql://me:geheim%2F77%20und%20mehr@db/x", "geheim%2F77%20und%20mehr at db", f"{MASK} at db"),
        ("postgresql://me:geheim/77geheim@db/x", 'port "geheim", 77geheim', f'port "{MASK}", {MASK}'),
        ("postgresql://me:ge?heim77@db/x", "ge?heim77 at db", f"{MASK} at db"),
        ("postgresql://me:ge@heim77x@db/x", "translate host name heim77x@db", f"translate host name {MASK}db"),
        ("postgresql:///db?user=me&password=geheim77&host=db1", "me at db1 with geheim77", f"me at db1 with {MASK}"),
        ("postgresql:///db?sslpassword=geheim77", "geheim77", MASK),
        ("postgresql:///db?p%61ssword=geheim77", "geheim77", MASK),
        ("postgresql:///db?oauth_client_secret=geheim77", "geheim77", MASK),
        ("postgresql://me:pw@db/x", "use postgresql://me:pw@db/x", f"use postgresql:{MASK}db/x"),
        ("host=db1 password=geheim77", "db1 refused geheim77", f"db1 refused {MASK}"),
        ("password = 'geheim/77 und mehr' host=db1", f"db1, {PASSWORD}", f"db1, {MASK}"),
        (r"host=db1 password=geheim/77\ und\ mehr", f"db1, {PASSWORD}", f"db1, {MASK}"),
        (r"host=db1 password='gehe\'im77'", "gehe'im77 at db1", f"{MASK} at db1"),
        ("sslpassword=geheim77 user=me", "geheim77 of me", f"{MASK} of me"),
        ("host=db password=pw", "use host=db password=pw", f"use {MASK}"),
    ],
)
def test_a_password_in_a_connection_string_is_masked(given: str, said: str, expected: str) -> None:
    assert masked(given, said) == expected


@pytest.mark.parametrize(
    "given",
    [
        "sk=proj-0123456789abcdef",
        "code=0123456789abcdef",
        "c2VjcmV0IHRva2VuIDEyMw==",
        "password:geheim77-und-mehr",
        "https://hooks.example.com/services/T0123456/B0123456?host=db1",
        "tgram://0123456789/abcdefgh",
        "host=db1; session=0123456789abcdef",
        "host 0123456789abcdef",
    ],
)
def test_a_secret_that_is_no_connection_string_is_masked_whole(given: str) -> None:
    assert masked(given, f"refused: {given}.") == f"refused: {MASK}."
