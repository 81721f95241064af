"""A server that redirects gets the key, the headers and the conversation sent nowhere but to its own origin."""

from __future__ import annotations

import json

import pytest

from tests.e2e.shell import Finished, Shell
from tests.provider_faults.apis import KEY, Api, installed
from tests.provider_faults.endless import chunk, event, first_piece, head
from tests.provider_faults.raw import Peer, RawServer, Talk, raw_server
from tests.safety.canary import assert_nowhere, write_config

GATE = "gate-canary-0815"
APIS = {api.name: api for api in installed()}
CHAT = APIS.get("chat") or next(iter(APIS.values()))


def redirecting(status: int, location: str) -> Talk:
    """Return a server that redirects each request."""

    def talk(peer: Peer) -> None:
        peer.send(head(status, "text/plain", f"Location: {location}", "Content-Length: 0"))

    return talk


def nothing(peer: Peer) -> None:
    """Take the request, which is one too many."""


def answer(api: Api) -> bytes:
    """Return a whole answer of one piece of text."""
    if api.speaks_messages:
        end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}
        return head() + first_piece(api) + event(end) + event({"type": "message_stop"})
    if api.name == "responses":
        done = {"type": "response.completed", "response": {"status": "completed", "output": []}}
        return head() + first_piece(api) + event(done)
    done = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return head() + chunk(content="one") + event(done) + b"data: [DONE]\n\n"


def run(shell: Shell, api: Api, url: str, *more: str) -> Finished:
    settings = {"base_url": url, "api_key": KEY, **api.settings}
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    headers = [f"[providers.{api.provider}.headers]", f'X-Gate = "{GATE}"']
    write_config(shell, "\n".join(["retry_delay = 0.05", f"[providers.{api.provider}]", *lines, *headers, ""]))
    return shell.afk("run", "-t", "t", "-m", api.full_model, *more, "the question")


def assert_refused(done: Finished, server: RawServer, *said: str) -> None:
    assert (done.code, done.out) == (4, ""), done.err
    assert len(done.err.splitlines()) == 1
    assert len(server.peers) == 1, "it was tried again"
    for words in said:
        assert words in done.err


@pytest.mark.parametrize("name", APIS)
@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_to_another_origin_is_not_followed(name: str, status: int, shell: Shell) -> None:
    with raw_server(nothing) as other, raw_server(redirecting(status, f"{other.base_url}/chat/completions")) as server:
        done = run(shell, APIS[name], server.base_url)

        table = APIS[name].provider
        step = f'set base_url = "{other.base_url}" under [providers.{table}]'
        assert_refused(done, server, f"redirects from {server.origin} to {other.origin} ({status})", step)
        assert other.peers == []
        assert GATE.encode() in server.peers[0].head
    assert_nowhere(shell, (KEY, GATE), [done])


@pytest.mark.parametrize("status", [301, 303, 308])
def test_other_redirects_to_another_origin_are_not_followed(status: int, shell: Shell) -> None:
    with raw_server(nothing) as other, raw_server(redirecting(status, f"//127.0.0.1:{other.port}/x")) as server:
        done = run(shell, CHAT, server.base_url)

        assert_refused(done, server, server.origin, other.origin)
        assert other.peers == []


def test_https_on_the_same_host_is_another_origin(shell: Shell) -> None:
    with (
        raw_server(nothing) as other,
        raw_server(redirecting(308, f"https://127.0.0.1:{other.port}/v1/models")) as server,
    ):
        done = run(shell, CHAT, server.base_url)

        assert_refused(done, server, f'set base_url = "https://127.0.0.1:{other.port}/v1"')
        assert other.peers == []


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("http://127.0.0.1:no/", "redirects to an address that is not valid (307)"),
        ("ftp://127.0.0.1/v1", "which is not an address of HTTP"),
        ("file:///etc/passwd", "which is not an address of HTTP"),
        ("http://user:pass@127.0.0.1:PORT/v1", "redirects to an address with a user or a password"),
    ],
)
def test_a_redirect_to_nowhere_is_one_line(location: str, said: str, shell: Shell) -> None:
    def talk(peer: Peer) -> None:
        redirecting(307, location.replace("PORT", peer.host.rpartition(":")[2]))(peer)

    with raw_server(talk) as server:
        assert_refused(run(shell, CHAT, server.base_url), server, said)


def test_a_redirect_that_makes_a_get_of_the_request_is_not_followed(shell: Shell) -> None:
    with raw_server(redirecting(302, "/v1/login")) as server:
        done = run(shell, CHAT, server.base_url)

        assert_refused(done, server, "to /v1/login with the status 302", "a GET without its body")


@pytest.mark.parametrize("name", APIS)
@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_within_the_origin_takes_the_request_along(name: str, status: int, shell: Shell) -> None:
    api = APIS[name]

    def talk(peer: Peer) -> None:
        if b"/moved " in peer.head.splitlines()[0]:
            peer.send(answer(api))
        else:
            redirecting(status, "/v2/moved")(peer)

    with raw_server(talk) as server:
        done = run(shell, api, server.base_url)

        assert (done.code, done.out) == (0, "one\n"), done.err
        first, second = server.peers
        assert second.head.startswith(b"POST /v2/moved ")
        assert second.body == first.body
        assert GATE.encode() in second.head


def test_redirects_in_a_circle_end(shell: Shell) -> None:
    with raw_server(redirecting(307, "/v1/again")) as server:
        done = run(shell, CHAT, server.base_url)

        assert done.code == 4
        assert "redirects more than 5 times" in done.err
        assert len(server.peers) == 6


def test_a_key_in_a_redirect_is_masked(shell: Shell) -> None:
    with raw_server(nothing) as other, raw_server(redirecting(307, f"{other.origin}/{KEY}/{GATE}?k={KEY}")) as server:
        done = run(shell, CHAT, server.base_url, "--debug")

        assert done.code == 4
        assert "***" in done.err
    assert_nowhere(shell, (KEY, GATE), [done])


def test_a_redirect_without_an_address_keeps_the_question(shell: Shell) -> None:
    with raw_server(lambda peer: peer.send(head(302, "text/plain"))) as server:
        done = run(shell, CHAT, server.base_url)

        assert_refused(done, server, "(302)")
    log = shell.log()
    assert log[-1]["result"]["error_kind"] == "not_found"
