"""Connections are used again, and a request that is lost because the server closed one is sent anew, once."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.provider_faults.hosts import self_signed
from tests.providers.test_network_backend import HEAD, chunk, read_head, serving, use

ANSWER = HEAD + chunk(b"data: 1\n\n") + b"0\r\n\r\n"
SCHEMES = pytest.mark.parametrize("scheme", ["http", "https"])

Talk = Callable[[socket.socket], None]


class Counted:
    """A server whose connections talk in turn as told, the last way again and again.

    It counts connections and requests.
    """

    def __init__(self, *ways: Callable[[Counted, socket.socket], None]) -> None:
        self.connections = self.requests = 0
        self.closed = threading.Event()
        self._ways = ways
        self._lock = threading.Lock()

    def talk(self, connection: socket.socket) -> None:
        with self._lock:
            way = self._ways[min(self.connections, len(self._ways) - 1)]
            self.connections += 1
        way(self, connection)

    def read(self, connection: socket.socket) -> None:
        read_head(connection)
        with self._lock:
            self.requests += 1


def answers_all(server: Counted, connection: socket.socket) -> None:
    while True:
        server.read(connection)
        connection.sendall(ANSWER)


def answers_one_and_closes(server: Counted, connection: socket.socket) -> None:
    """As llama.cpp's server does: without a word."""
    server.read(connection)
    connection.sendall(ANSWER)
    connection.close()
    server.closed.set()


def answers_one_and_closes_at_the_next(server: Counted, connection: socket.socket) -> None:
    server.read(connection)
    connection.sendall(ANSWER)
    server.read(connection)


def answers_one_and_resets_at_the_next(server: Counted, connection: socket.socket) -> None:
    server.read(connection)
    connection.sendall(ANSWER)
    server.read(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    socket.close(connection.detach())


def closes_at_once(server: Counted, connection: socket.socket) -> None:
    server.read(connection)


def answers_a_part_of_the_second(server: Counted, connection: socket.socket) -> None:
    server.read(connection)
    connection.sendall(ANSWER)
    server.read(connection)
    connection.sendall(HEAD[:20])


def ask(server: Counted, scheme: str, times: int, *, between: Callable[[], None] = lambda: None) -> list[Any]:
    """Return the bodies of so many answers, one after the other, an error in place of one that fails."""

    async def task(client: Any, library: Any) -> list[Any]:
        found: list[Any] = []
        for number in range(times):
            if number:
                await asyncio.to_thread(between)
            try:
                found.append((await client.post(url, content=b"a body")).content)
            except library.HTTPError as error:
                found.append(type(error).__name__)
        return found

    with serving(server.talk, tls=self_signed() if scheme == "https" else None) as port:
        url = f"{scheme}://127.0.0.1:{port}/"
        return use(url, task, trusts=True)


@SCHEMES
def test_requests_one_after_the_other_use_one_connection(scheme: str) -> None:
    server = Counted(answers_all)
    assert ask(server, scheme, 5) == [b"data: 1\n\n"] * 5
    assert server.connections == 1


@SCHEMES
@pytest.mark.parametrize(
    "way",
    [answers_one_and_closes, answers_one_and_closes_at_the_next, answers_one_and_resets_at_the_next],
    ids=["after an answer", "at the next request", "by a reset"],
)
def test_no_request_is_lost_to_a_server_that_closes_connections_unsaid(scheme: str, way: Any) -> None:
    server = Counted(way)
    assert ask(server, scheme, 20) == [b"data: 1\n\n"] * 20


def test_nothing_is_sent_on_a_connection_that_is_closed() -> None:
    server = Counted(answers_one_and_closes)
    assert ask(server, "http", 5, between=lambda: server.closed.wait(30)) == [b"data: 1\n\n"] * 5
    assert (server.connections, server.requests) == (5, 5)


@SCHEMES
def test_a_request_that_a_new_connection_loses_is_not_sent_again(scheme: str) -> None:
    server = Counted(closes_at_once)
    [error] = ask(server, scheme, 1)
    assert error in ("RemoteProtocolError", "ReadError")
    assert server.requests == 1


@SCHEMES
def test_a_request_whose_answer_has_begun_is_not_sent_again(scheme: str) -> None:
    server = Counted(answers_a_part_of_the_second)
    first, second = ask(server, scheme, 2)
    assert first == b"data: 1\n\n"
    assert second in ("RemoteProtocolError", "ReadError")
    assert server.requests == 2


def test_a_server_that_loses_every_request_is_not_asked_for_ever() -> None:
    server = Counted(answers_one_and_closes_at_the_next, closes_at_once)
    first, second = ask(server, "http", 2)
    assert first == b"data: 1\n\n"
    assert second in ("RemoteProtocolError", "ReadError")
    assert server.requests == 3


@SCHEMES
@pytest.mark.parametrize("way", ["end", "reset"])
@pytest.mark.parametrize(("seconds", "sent"), [(1.0, 3), (3.0, 2), (60.0, 2)])
def test_a_request_that_a_server_had_time_to_work_on_is_not_sent_again(
    monkeypatch: pytest.MonkeyPatch, scheme: str, way: str, seconds: float, sent: int
) -> None:
    now = [0.0]
    monkeypatch.setattr("afkcli.providers.network_connection.monotonic", lambda: now[0])

    def closes_later(server: Counted, connection: socket.socket) -> None:
        server.read(connection)
        connection.sendall(ANSWER)
        server.read(connection)
        now[0] += seconds
        if way == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            socket.close(connection.detach())

    server = Counted(closes_later, answers_all)
    first, second = ask(server, scheme, 2)
    assert first == b"data: 1\n\n"
    assert server.requests == sent
    assert second in ([b"data: 1\n\n"] if sent == 3 else ["RemoteProtocolError", "ReadError"])


def test_a_connection_is_not_kept_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("afkcli.providers.direct_transport.IDLE_SECONDS", -1.0)
    server = Counted(answers_all)
    assert ask(server, "http", 3) == [b"data: 1\n\n"] * 3
    assert server.connections == 3


def test_a_client_that_is_closed_closes_all_of_its_connections() -> None:
    left = threading.Event()

    def answers_and_waits(server: Counted, connection: socket.socket) -> None:
        server.read(connection)
        connection.sendall(HEAD + chunk(b"data: 1\n\n"))
        connection.recv(1)
        left.set()

    server = Counted(answers_all, answers_and_waits)

    async def task(client: Any, library: Any) -> None:
        await client.get(url)
        streams = [client.stream("GET", url), client.stream("GET", url)]
        for stream in streams:
            await stream.__aenter__()
        await client.aclose()
        assert await asyncio.to_thread(left.wait, 30)
        for stream in streams:
            await stream.__aexit__(None, None, None)

    with serving(server.talk) as port:
        url = f"http://127.0.0.1:{port}/"
        use(url, task)
    assert server.connections == 2


def test_requests_at_once_have_connections_of_their_own_and_share_them_later() -> None:
    server = Counted(answers_all)

    async def task(client: Any, library: Any) -> None:
        for _ in range(3):
            found = await asyncio.gather(*(client.get(url) for _ in range(5)))
            assert [one.content for one in found] == [b"data: 1\n\n"] * 5

    with serving(server.talk) as port:
        url = f"http://127.0.0.1:{port}/"
        use(url, task)
    assert server.connections == 5
    assert server.requests == 15
