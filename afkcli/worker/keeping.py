"""What a worker keeps beside modules: what discovery found, and the context in which certificates are checked."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Sequence

_LIBRARIES = ("httpx", "httpx2")


def keep_discovery() -> list[str]:
    """Keep the entry points of installed distributions; return the files and folders that they were read from."""
    from afkcli.loading import entry_points

    return entry_points.keep_found()


def keep_tls(modules: Sequence[str]) -> list[str]:
    """Keep the TLS contexts of the HTTP libraries that were imported; return the files of certificates in them."""
    from afkcli.providers import certificates

    for name in _LIBRARIES:
        if name in modules and name in sys.modules:
            certificates.keep_tls_context(sys.modules[name])
    found = ssl.get_default_verify_paths()
    paths = [found.cafile, found.capath, found.openssl_cafile, found.openssl_capath]
    certifi = sys.modules.get("certifi")
    if certifi is not None:
        paths.append(certifi.where())
    return [path for path in paths if path]
