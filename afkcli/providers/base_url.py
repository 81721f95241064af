"""A base URL as people write it: a path, maybe with a query that goes with every request, or one endpoint too many."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit, urlunsplit

from afkcli.core.contract.errors import ConfigError

ENDPOINTS = ("/chat/completions", "/responses", "/v1/messages")


def split_base_url(url: str) -> tuple[str, dict[str, str]]:
    """Return a base URL without its query, and the query.

    An endpoint at its end, which is added again with every request, is left out, as is a fragment.

    Since: 0.2.
    """
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    for endpoint in ENDPOINTS:
        path = path.removesuffix(endpoint)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return urlunsplit((parts.scheme, parts.netloc, path, "", "")), query


def checked_host(url: str, setting: str, example: str) -> str:
    """Return the host of a base URL.

    Args:
        url: the base URL.
        setting: what messages call it.
        example: a URL that would do.

    Raises:
        ConfigError: it is not a URL of HTTP.

    Since: 0.2.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or not url.isprintable() or " " in url:
        raise ConfigError(f"{setting} is {url!r}; it is a URL such as {example}")
    return host
