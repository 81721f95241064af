"""The client of a provider on real sockets: what one read brings, addresses of a host, TLS, proxies, flow control."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from afkcli.providers.connection import http_library
from afkcli.providers.failures import connection_failure
from afkcli.providers.http_client import make_http_client
from afkcli.providers.network_connection import MAX_UNREAD_BYTES
from afkcli.providers.proxies import Proxy
from tests.provider_faults.hosts import self_signed

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = [b"data: event %d\n\n" % number for number in range(300)]

T = TypeVar("T")
Talk = Callable[[socket.socket], None]


@contextmanager
def serving(talk: Talk, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Give the port of a server that talks so on each connection, once it has read a request."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listening:

        def serve(plain: socket.socket) -> None:
            with contextlib.suppress(OSError):
                connection = tls.wrap_socket(plain, server_side=True) if tls is not None else plain
                with connection:
                    talk(connection)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def read_head(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            raise OSError("the client has gone")
        data += piece
    return data


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def each_event_alone(sent: threading.Event) -> Talk:
    """Answer with one write, and so one TLS record, for each event."""

    def talk(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                read_head(connection)
                connection.sendall(HEAD)
                for event in EVENTS:
                    connection.sendall(chunk(event))
                connection.sendall(b"0\r\n\r\n")
                sent.set()

    return talk


def use(
    url: str,
    task: Callable[[Any, Any], Awaitable[T]],
    *,
    proxy: str | None = None,
    trusts: bool = False,
) -> T:
    """Return what `task` does with a client and its library."""
    import openai

    library = http_library(openai)

    async def run() -> T:
        named = Proxy(variable="HTTPS_PROXY", url=proxy) if proxy else None
        async with make_http_client(library, url, library.Timeout(None, connect=5.0), named) as client:
            return await task(client, library)

    with pytest.MonkeyPatch.context() as patch:
        if trusts:
            patch.setattr(library, "create_ssl_context", _trusting)
        return asyncio.run(run())


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_what_has_arrived_is_read_at_once_however_many_writes_it_was(scheme: str) -> None:
    sent = threading.Event()

    async def task(client: Any, library: Any) -> list[bytes]:
        async with client.stream("GET", "/", timeout=None) as response:
            await asyncio.to_thread(sent.wait, 30)
            pieces = [piece async for piece in response.aiter_bytes()]
        assert b"".join(pieces) == b"".join(EVENTS)
        return pieces

    async def twice(client: Any, library: Any) -> int:
        client.base_url = url
        pieces = await task(client, library)
        sent.clear()
        return max(len(pieces), len(await task(client, library)))

    with serving(each_event_alone(sent), tls=self_signed() if scheme == "https" else None) as port:
        url = f"{scheme}://127.0.0.1:{port}"
        assert use(url, twice, trusts=True) <= 4  # what came with the head, and the rest


def test_an_event_is_read_before_the_next_one_is_sent() -> None:
    taken = threading.Semaphore(0)

    def talk(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(HEAD)
        for event in EVENTS[:20]:
            connection.sendall(chunk(event))
            assert taken.acquire(timeout=30)
        connection.sendall(b"0\r\n\r\n")

    async def task(client: Any, library: Any) -> list[bytes]:
        pieces = []
        async with client.stream("GET", url) as response:
            async for piece in response.aiter_bytes():
                pieces.append(piece)
                taken.release()
        return pieces

    with serving(talk) as port:
        url = f"http://127.0.0.1:{port}/"
        assert use(url, task) == EVENTS[:20]


def test_a_reader_that_does_not_read_makes_the_server_wait() -> None:
    sent = 0
    size = 64 * 1024

    def talk(connection: socket.socket) -> None:
        nonlocal sent
        read_head(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        connection.sendall(HEAD)
        connection.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            while sent < 64 * MAX_UNREAD_BYTES:
                connection.sendall(chunk(b"x" * size))
                sent += size
        waits.set()

    async def task(client: Any, library: Any) -> None:
        async with client.stream("GET", url):
            await asyncio.to_thread(waits.wait, 60)

    waits = threading.Event()
    with serving(talk) as port:
        url = f"http://127.0.0.1:{port}/"
        use(url, task)
    assert 0 < sent < 64 * MAX_UNREAD_BYTES


@pytest.mark.parametrize("end", ["reset", "closed"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_that_ends_in_the_middle_gives_what_came_and_an_error(scheme: str, end: str) -> None:
    taken = threading.Event()

    def talk(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(HEAD + chunk(b"data: 1\n\n") + b"ff\r\ndata")
        assert taken.wait(30)
        if end == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        plain = connection.detach()  # without the end of TLS
        socket.close(plain)

    async def task(client: Any, library: Any) -> bytes:
        body = b""
        async with client.stream("GET", url) as response:
            with pytest.raises(library.HTTPError):
                async for piece in response.aiter_bytes():
                    body += piece
                    taken.set()
        return body

    with serving(talk, tls=self_signed() if scheme == "https" else None) as port:
        url = f"{scheme}://127.0.0.1:{port}/"
        assert use(url, task, trusts=True) == b"data: 1\n\ndata"


def test_an_answer_to_a_request_that_was_not_read_to_its_end_is_read() -> None:
    answer = b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig"

    def talk(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while connection.recv(1 << 20):
                pass

    async def task(client: Any, library: Any) -> tuple[int, bytes]:
        response = await client.post(url, content=b"x" * (16 << 20))
        return response.status_code, response.content

    with serving(talk) as port:
        url = f"http://127.0.0.1:{port}/"
        assert use(url, task) == (413, b"big")


class TestAddresses:
    def addresses(self, monkeypatch: pytest.MonkeyPatch, *found: tuple[socket.AddressFamily, Any]) -> None:
        real = socket.getaddrinfo

        def names(host: Any, *rest: Any, **more: Any) -> Any:
            if host in ("models.test", b"models.test"):
                return [(family, socket.SOCK_STREAM, 6, "", address) for family, address in found]
            return real(host, *rest, **more)

        monkeypatch.setattr(socket, "getaddrinfo", names)

    def test_the_second_address_is_asked_where_the_first_one_refuses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with serving(each_event_alone(threading.Event())) as port:
            self.addresses(
                monkeypatch,
                (socket.AF_INET6, ("::1", port, 0, 0)),
                (socket.AF_INET, ("127.0.0.1", port)),
            )
            url = f"http://models.test:{port}/"
            assert use(url, lambda client, library: client.get(url)).status_code == 200

    def test_the_second_address_is_asked_where_the_first_one_is_silent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as silent, serving(each_event_alone(threading.Event())) as port:
            silent.bind(("127.0.0.2", port))
            silent.listen(0)
            full = [socket.socket() for _ in range(4)]
            for one in full:  # a full backlog leaves an attempt without an answer
                one.setblocking(False)
                one.connect_ex(("127.0.0.2", port))
            self.addresses(monkeypatch, (socket.AF_INET, ("127.0.0.2", port)), (socket.AF_INET, ("127.0.0.1", port)))
            url = f"http://models.test:{port}/"
            assert use(url, lambda client, library: client.get(url)).status_code == 200
            for one in full:
                one.close()

    @pytest.mark.parametrize("both", [False, True])
    def test_a_host_whose_addresses_all_refuse_refused_the_connection(
        self, monkeypatch: pytest.MonkeyPatch, both: bool
    ) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            found = [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET, ("127.0.0.2", port))]
            self.addresses(monkeypatch, *found[: 1 + both])

            async def task(client: Any, library: Any) -> str:
                with pytest.raises(library.ConnectError) as caught:
                    await client.get(f"http://models.test:{port}/")
                return connection_failure("it", caught.value)[0]

            assert use(f"http://models.test:{port}", task) == "it refused the connection"

    def test_a_name_that_is_none_is_an_error_of_the_name(self) -> None:
        async def task(client: Any, library: Any) -> str:
            with pytest.raises(library.ConnectError) as caught:
                await client.get(url)
            return connection_failure("it", caught.value)[0]

        for url in ("http://models.invalid/", f"http://{'x' * 70}.invalid/"):
            assert use(url, task) == "cannot find the host of it"

    def test_an_address_of_the_sixth_version_is_asked(self) -> None:
        try:
            with serving(each_event_alone(threading.Event()), host="::1") as port:
                url = f"http://[::1]:{port}/"
                assert use(url, lambda client, library: client.get(url)).status_code == 200
        except OSError:
            pytest.skip("this machine has no IPv6")


class TestProxies:
    """Tunnels; the certificate of the server is looked at behind them."""

    @staticmethod
    def tunnel(connection: socket.socket) -> None:
        target = read_head(connection).split()[1].decode().rpartition(":")
        with socket.create_connection((target[0], int(target[2]))) as server:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")

            def forward(source: socket.socket, sink: socket.socket) -> None:
                with contextlib.suppress(OSError):
                    while data := source.recv(65536):
                        sink.sendall(data)
                    sink.shutdown(socket.SHUT_WR)

            back = threading.Thread(target=forward, args=(server, connection), daemon=True)
            back.start()
            forward(connection, server)
            back.join()

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_a_server_behind_a_proxy_is_asked_by_tls(self, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
        import openai

        library = http_library(openai)
        core = __import__(library.__name__.replace("httpx", "httpcore"))
        # The proxy's own certificate is checked by the library's context.
        for module in ("connection", "http_proxy"):
            monkeypatch.setattr(f"{core.__name__}._async.{module}.default_ssl_context", _trusting)
        sent = threading.Event()
        proxy_tls = self_signed() if scheme == "https" else None
        with (
            serving(each_event_alone(sent), tls=self_signed()) as port,
            serving(self.tunnel, tls=proxy_tls) as proxy,
        ):
            url = f"https://127.0.0.1:{port}/"

            async def task(client: Any, library: Any) -> Any:
                return await client.get(url)

            answered = use(url, task, proxy=f"{scheme}://127.0.0.1:{proxy}", trusts=True)
        assert answered.content == b"".join(EVENTS)

    def test_a_certificate_that_is_not_trusted_is_refused_behind_a_proxy_too(self) -> None:
        async def task(client: Any, library: Any) -> str:
            with pytest.raises(library.ConnectError) as caught:
                await client.get(url)
            return connection_failure("it", caught.value)[0]

        with serving(lambda connection: None, tls=self_signed()) as port, serving(self.tunnel) as proxy:
            url = f"https://127.0.0.1:{port}/"
            assert use(url, task) == "the certificate of it is not valid"
            assert use(url, task, proxy=f"http://127.0.0.1:{proxy}") == "the certificate of it is not valid"
