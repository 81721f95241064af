"""Which proxy a URL is asked through: read from the environment once, and checked before a client is made.

The HTTP libraries make a client for every proxy that a variable names, so a broken one that is never used stops them,
and they know fewer forms of `NO_PROXY` than other programs.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import re
import sys
from collections.abc import Mapping
from urllib.parse import urlsplit

from afkcli.core.contract.credentials import user_info
from afkcli.core.contract.errors import ConfigError
from afkcli.core.contract.structs import FrozenStruct

SCHEMES = ("http", "https", "socks5", "socks5h")


class Proxy(FrozenStruct, kw_only=True):
    """A proxy and the variable that names it; prints as messages call it.

    Since: 0.2.
    """

    variable: str
    url: str

    def __repr__(self) -> str:
        return f"Proxy(variable={self.variable!r})"  # its URL may hold a password

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc.rpartition("@")[2]

    def __str__(self) -> str:
        return f"the proxy at {self.host} ({self.variable})"


def proxy_for(url: str, environment: Mapping[str, str] | None = None) -> Proxy | None:
    """Return the proxy through which `url` is asked, None where it is asked directly.

    Args:
        url: the base URL of a server.
        environment: by default that of this process.

    Raises:
        ConfigError: the proxy's address is not usable.

    Since: 0.2.
    """
    named = _variables(os.environ if environment is None else environment)
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if _is_excepted(host, port, named.pop("no", ("", ""))[1]):
        return None
    variable, value = named.get(parts.scheme) or named.get("all") or ("", "")
    if not value:
        return None
    proxy = Proxy(variable=variable, url=value if "://" in value else f"http://{value}")
    _check(proxy, value)
    return proxy


def _variables(environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return scheme -> (variable, value); names in lower case count before those in capitals, as in other programs."""
    found: dict[str, tuple[str, str]] = {}
    if sys.platform in ("darwin", "win32"):
        from urllib.request import getproxies  # the system's own settings

        found = {scheme: ("the system's settings", value) for scheme, value in getproxies().items()}
    for scheme in ("http", "https", "all", "no"):
        for variable in (f"{scheme.upper()}_PROXY", f"{scheme}_proxy"):
            # In a CGI program HTTP_PROXY is a header of the request (CVE-2016-5385).
            if variable in environment and not (variable == "HTTP_PROXY" and "REQUEST_METHOD" in environment):
                found[scheme] = (variable, environment[variable].strip())
    return found


def _is_excepted(host: str, port: int, exceptions: str) -> bool:
    return any(_fits(host.lower(), port, entry) for entry in re.split(r"[,\s]+", exceptions.lower()) if entry)


def _fits(host: str, port: int, entry: str) -> bool:
    """Return whether an entry of NO_PROXY names the host: `*`, a domain, a host and port, an address or a network."""
    if entry == "*":
        return True
    entry = entry.rpartition("://")[2]
    if "/" in entry:
        return _is_in_network(host, entry)
    name, bracket, rest = entry.partition("]")
    if bracket or entry.count(":") == 1:
        name, _, wanted = (name.removeprefix("["), "", rest.removeprefix(":")) if bracket else entry.partition(":")
        if wanted and wanted != str(port):
            return False
    name = name.removeprefix("*").strip(".")
    return bool(name) and (_same_address(host, name) or host == name or host.endswith(f".{name}"))


def _same_address(host: str, name: str) -> bool:
    try:
        return ipaddress.ip_address(host) == ipaddress.ip_address(name)
    except ValueError:
        return False


def _is_in_network(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network.strip("[]"), strict=False)
    except ValueError:
        return False


def _check(proxy: Proxy, value: str) -> None:
    shown = value.replace(user_info(value), "***") if user_info(value) else value
    what = f"{proxy.variable} is {shown!r}"
    try:
        parts = urlsplit(proxy.url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in SCHEMES:
        raise ConfigError(
            f"{what}; a proxy is a URL such as http://127.0.0.1:3128 (http, https, socks5 or socks5h): correct it, or"
            " name the server's host in NO_PROXY"
        )
    if parts.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise ConfigError(
            f"{what}; SOCKS needs the package socksio: pip install socksio, or name the server's host in NO_PROXY"
        )
