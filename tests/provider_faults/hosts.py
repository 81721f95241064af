"""The servers that requests go to: the scripted one, and those that no request ever reaches."""

from __future__ import annotations

import functools
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from afkcli.testing.model_server import ModelServer
from tests.provider_faults.faults import Host
from tests.provider_faults.raw import Talk, raw_server


@contextmanager
def base_url(host: Host, server: ModelServer, talk: Talk | None = None) -> Iterator[str]:
    """Give the base URL of a host; `server` is the scripted one, `talk` what a server of bytes does."""
    if talk is not None:
        with raw_server(talk) as raw:
            yield raw.base_url
    elif host is Host.NAMELESS:
        yield "http://models.invalid/v1"  # RFC 6761: no such name ever exists
    elif host is Host.UNTRUSTED:
        with ModelServer(tls=self_signed()) as untrusted:
            yield untrusted.base_url
            assert untrusted.requests == [], "a request was sent to a server whose certificate is not valid"
    elif host in (Host.REFUSING, Host.SILENT):
        with socket.create_server(("127.0.0.1", 0)) if host is Host.SILENT else _bound() as taken:
            scheme = "https" if host is Host.SILENT else "http"
            yield f"{scheme}://127.0.0.1:{taken.getsockname()[1]}/v1"
    else:
        yield server.base_url


def _bound() -> socket.socket:
    """Return a socket that keeps its port from others and does not listen."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    return taken


@functools.lru_cache(maxsize=1)
def self_signed() -> ssl.SSLContext:
    """Return a server's context with a self-signed certificate, made by `openssl` for this test."""
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = Path(folder, "key.pem"), Path(folder, "certificate.pem")
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        command = ["openssl", "req", "-x509", *kind, *name, "-keyout", key, "-out", certificate]
        subprocess.run(command, check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context
