"""What a worker keeps beside modules: what discovery found, and the context in which certificates are checked."""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Mapping, Sequence

_LIBRARIES = ("httpx", "httpx2")
_ZONES = "/usr/share/zoneinfo"


def keep_discovery() -> list[str]:
    """Keep the entry points of installed distributions; return the files and folders that they were read from."""
    from afkcli.loading import entry_points

    return entry_points.keep_found()


def plugin_packages() -> set[str]:
    """Return the names of the packages of installed plugins."""
    from afkcli.loading import entry_points

    found = entry_points.claims(("afk",)).values()
    return {point.value.partition(":")[0].partition(".")[0].strip() for points in found for point in points}


def keep_tls(modules: Sequence[str]) -> list[str]:
    """Keep the TLS contexts of the HTTP libraries that were imported.

    Returns:
        The files of certificates in them, and the config of OpenSSL (config(5ssl)).
    """
    from afkcli.providers import certificates

    for name in _LIBRARIES:
        if name in modules and name in sys.modules:
            certificates.keep_tls_context(sys.modules[name])
    found = ssl.get_default_verify_paths()
    config = os.environ.get("OPENSSL_CONF") or f"{os.path.dirname(found.openssl_cafile)}/openssl.cnf"  # noqa: PTH120
    paths = [found.cafile, found.capath, found.openssl_cafile, found.openssl_capath, config]
    certifi = sys.modules.get("certifi")
    if certifi is not None:
        paths.append(certifi.where())
    return [path for path in paths if path]


def time_zone_files(environment: Mapping[str, str]) -> list[str]:
    """Return the files and the folder from which the C library and Python read the time zone (tzset(3)).

    Args:
        environment: of the worker. A command with another `TZ` reads the file of that one itself.
    """
    folder = environment.get("TZDIR") or _ZONES
    zone = environment.get("TZ", "").removeprefix(":")
    own = [zone if zone.startswith("/") else f"{folder}/{zone}"] if zone else []
    return ["/etc/localtime", "/etc/timezone", folder, *own]
