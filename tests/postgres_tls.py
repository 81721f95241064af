"""TLS in front of a PostgreSQL server: the one of the wheel is built without it."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

_SSL_REQUEST, _GSS_REQUEST = 80877103, 80877104


class Certificate(NamedTuple):
    """A self-signed certificate, which is its own authority, with its key; files in PEM."""

    certificate: Path
    key: Path


def certificate(folder: Path, name: str, subject: str = "DNS:localhost") -> Certificate:
    """Make a certificate for a server of this name, by `openssl`; its files go into a folder."""
    made = Certificate(folder / f"{name}.crt", folder / f"{name}.key")
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={subject}"]
    files = ["-keyout", made.key, "-out", made.certificate]
    subprocess.run(["openssl", "req", "-x509", *kind, *names, *files], check=True, capture_output=True)
    return made


class TlsServer:
    """Ends TLS for the socket file of a server, as the server itself does that has `ssl = on`; `port` is on localhost.

    `ciphers` are those of the connections that were made.
    """

    def __init__(self, path: str, shown: Certificate) -> None:
        self._path = path
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*shown)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.ciphers: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):  # a client that does not trust the certificate leaves
            while (wanted := struct.unpack("!II", client.recv(8, socket.MSG_WAITALL))[1]) != _SSL_REQUEST:
                if wanted != _GSS_REQUEST:
                    return
                client.sendall(b"N")
            client.sendall(b"S")
            with (
                self._context.wrap_socket(client, server_side=True) as encrypted,
                socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server,
            ):
                self.ciphers.append((encrypted.cipher() or ("",))[0])
                server.connect(self._path)
                _forward(encrypted, server)


def _forward(client: ssl.SSLSocket, server: socket.socket) -> None:
    while True:
        ready = select.select([client, server], [], [], 0 if client.pending() else None)[0]
        if client.pending() or client in ready:
            data = client.recv(65536)
            if not data:
                return
            server.sendall(data)
        if server in ready:
            data = server.recv(65536)
            if not data:
                return
            client.sendall(data)
