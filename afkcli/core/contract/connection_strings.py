"""What is secret in a connection string of PostgreSQL: a URL, or `keyword=value` pairs.

A store and an engine take one as a secret setting. Messages about the server name its host, user and database, so only
the passwords and keys in it are masked, not the string as one secret.

Since: 0.2.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

_URL: Final = re.compile(r"\s*postgres(?:ql)?(?:\+\w+)?://")
_PAIR: Final = re.compile(r"\s*(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s\\]|\\.)*)(?=\s|$)", re.DOTALL)
_LIBPQ: Final = """
application_name channel_binding client_encoding connect_timeout dbname fallback_application_name gssdelegation
gssencmode gsslib host hostaddr keepalives keepalives_count keepalives_idle keepalives_interval krbsrvname
load_balance_hosts max_protocol_version min_protocol_version oauth_client_id oauth_client_secret oauth_issuer
oauth_scope options passfile password port replication require_auth requirepeer requiressl scram_client_key
scram_server_key service servicefile ssl_max_protocol_version ssl_min_protocol_version sslcert sslcertmode
sslcompression sslcrl sslcrldir sslkey sslkeylogfile sslmode sslnegotiation sslpassword sslrootcert sslsni
target_session_attrs tcp_user_timeout user
"""
_KEYWORDS: Final = frozenset(_LIBPQ.split())
"""Those of libpq 18; a text with any other keyword may be a secret of another kind."""
_SECRET: Final = frozenset(("password", "sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret"))
_MAY_BE_SECRET: Final = re.compile(r"pass|secret|key|token")
"""Names in a URL that libpq does not know."""


def connection_secrets(text: str) -> list[str] | None:
    """Return the secrets in a connection string, as they stand there and decoded; None if `text` is not one."""
    found = _URL.match(text)
    if found:
        return _url_secrets(text[found.end() :])
    pairs = _pairs(text)
    if pairs is None:
        return None
    secrets = [form for name, value in pairs if name in _SECRET for form in (value, _unquoted(value)) if form]
    # A short password is masked in the whole string only: alone, it may be an ordinary word.
    return [*secrets, text] if secrets and len(pairs) > 1 else secrets


def _url_secrets(rest: str) -> list[str]:
    head, _, query = rest.partition("?")
    if "@" in query and "@" not in head and ":" in head and "/" not in head:  # a password with a `?` in it
        head, _, query = rest.partition("@")[0] + "@", "", rest.rpartition("@")[2].partition("?")[2]
    info = head.rpartition("@")[0]
    password = info.partition(":")[2]
    # Where the password is not encoded, the server's name has a part of it in the messages of libpq.
    secrets = [password, *re.split(r"[/@?#]", password), f"//{info}@" if password else ""]
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        name = unquote(name)
        if name in _SECRET or (name not in _KEYWORDS and _MAY_BE_SECRET.search(name)):
            secrets.append(value)
    return [form for secret in secrets if secret for form in (secret, unquote(secret))]


def _pairs(text: str) -> list[tuple[str, str]] | None:
    """Return the keywords and values of a text; None if it is anything else."""
    pairs, at, end = [], 0, len(text.rstrip())
    while at < end:
        found = _PAIR.match(text, at)
        if found is None or found[1] not in _KEYWORDS:
            return None
        pairs.append((found[1], found[2]))
        at = found.end()
    return pairs or None


def _unquoted(value: str) -> str:
    inner = value[1:-1] if value.startswith("'") else value
    return re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL)
