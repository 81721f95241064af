"""Finds model servers that run on this machine, at the ports that they use by default.

Since: 0.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from afkcli.core.contract.jsonform import loads
from afkcli.core.contract.structs import FrozenStruct
from afkcli.providers.model_list import listed_models

HOST = "127.0.0.1"
PROBE_SECONDS = 1.0
"""How long a server has for its answer: it is on this machine, and lists what it has."""

_MAX_BYTES = 4 * 1024 * 1024


class LocalServer(FrozenStruct, kw_only=True):
    """A program that serves models, and the port that it uses by default."""

    name: str
    port: int


LOCAL_SERVERS: tuple[LocalServer, ...] = (
    LocalServer(name="Ollama", port=11434),  # https://docs.ollama.com/faq
    LocalServer(name="llama.cpp", port=8080),  # https://github.com/ggml-org/llama.cpp/tree/master/tools/server
    LocalServer(name="LM Studio", port=1234),  # https://lmstudio.ai/docs/developer/core/server
)


class FoundServer(FrozenStruct, kw_only=True):
    """A server that runs: its URL, `/v1` included, and the names of its models."""

    name: str
    url: str
    models: tuple[str, ...]

    @property
    def model(self) -> str | None:
        """A model that can answer, or None: one that only makes embeddings cannot."""
        return next((name for name in self.models if "embed" not in name.lower()), None)


async def find_servers(servers: Sequence[LocalServer] | None = None) -> list[FoundServer]:
    """Return the servers that answer with a list of models, all asked at once. Another service is left out.

    Args:
        servers: where they are looked for; the default ports of `LOCAL_SERVERS` without it.
    """
    asked = LOCAL_SERVERS if servers is None else servers
    found = await asyncio.gather(*(_found(server) for server in asked))
    return [server for server in found if server is not None]


async def _found(server: LocalServer) -> FoundServer | None:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            body = await _body(server.port)
        models = listed_models(loads(body.decode()))
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        return None
    url = f"http://{HOST}:{server.port}/v1"
    return FoundServer(name=server.name, url=url, models=tuple(model.id for model in models))


async def _body(port: int) -> bytes:
    """Return the body of the answer to `GET /v1/models`; in HTTP/1.0 it ends with the connection, in one piece."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(f"GET /v1/models HTTP/1.0\r\nHost: {HOST}:{port}\r\nAccept: application/json\r\n\r\n".encode())
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        status = head.split(b" ", 2)
        if not head.startswith(b"HTTP/1.") or len(status) < 2 or status[1] != b"200":
            raise ValueError("no list")
        return await _until_end(reader, _length(head))
    except asyncio.LimitOverrunError:
        raise ValueError("no answer in HTTP") from None
    finally:
        writer.transport.abort()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length" and value.strip().isdigit():
            return min(int(value), _MAX_BYTES)
    return _MAX_BYTES


async def _until_end(reader: asyncio.StreamReader, length: int) -> bytes:
    data = bytearray()
    while len(data) < length and (piece := await reader.read(65536)):
        data += piece
    return bytes(data[:length])
