"""The environment variables about the way to a server, checked before a run begins."""

from __future__ import annotations

from afkcli.providers.certificates import check_certificates
from afkcli.providers.proxies import Proxy, proxy_for


def check_network(url: str) -> Proxy | None:
    """Return the proxy through which a server is asked.

    Raises:
        ConfigError: the environment names a proxy or certificates that are not usable for this server.

    Since: 0.2.
    """
    proxy = proxy_for(url)
    if needs_certificates(url, proxy):
        check_certificates()
    return proxy


def needs_certificates(url: str, proxy: Proxy | None) -> bool:
    """Return whether the server's certificate, or the proxy's, is checked. Since: 0.2."""
    return url.startswith("https:") or (proxy is not None and proxy.url.startswith("https:"))
