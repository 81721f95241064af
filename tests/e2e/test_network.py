"""The way to a server: proxies, certificates and errors that break off, as the command line tells them."""

from __future__ import annotations

import importlib.util
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import Shell
from tests.provider_faults.hosts import self_signed

MODEL = ("-m", "openai/m")
PROVIDERS = ["openai", "anthropic"]
if importlib.util.find_spec("litellm") is not None:  # in an environment of its own: see .ci/litellm
    PROVIDERS.append("litellm")


def configured(shell: Shell, provider: str, url: str) -> str:
    """Write the config for a server at `url`; return the name of a model there."""
    config = shell.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'retry_delay = 0.01\n[providers.{provider}]\nbase_url = "{url}"\napi_key = "k"\n')
    return "litellm/openai/m" if provider == "litellm" else f"{provider}/m"


@contextmanager
def answering(*answers: bytes, reset: bool = False) -> Iterator[tuple[str, list[bytes]]]:
    """A server that says fixed bytes to each request, and then closes or resets the connection."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(65536))
                    connection.sendall(answers[min(len(asked), len(answers)) - 1])
                    if reset:
                        time.sleep(1)  # a reset takes along what the client has not read yet
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}", asked
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("variable", "value", "url"),
    [
        ("HTTP_PROXY", "ftp://127.0.0.1:1", "http://models.invalid/v1"),
        ("ALL_PROXY", "socks4://127.0.0.1:1", "http://models.invalid/v1"),
        ("HTTPS_PROXY", "socks5://127.0.0.1:1", "https://models.invalid/v1"),
        ("SSL_CERT_FILE", "/no/such/file.pem", "https://models.invalid/v1"),
        ("SSL_CERT_DIR", "/no/such/folder", "https://models.invalid/v1"),
    ],
)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_the_environment_names_and_cannot_be_used_ends_afk_before_the_run(
    shell: Shell, variable: str, value: str, url: str, provider: str
) -> None:
    done = shell.afk("run", "-m", configured(shell, provider, url), "q", **{variable: value})
    assert done.code == 2
    assert done.out == ""
    assert variable in done.err
    assert value in done.err
    assert len(done.err.splitlines()) == 1


def test_a_certificate_file_without_a_certificate_is_named(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "empty.pem"
    file.write_text("nothing")
    env = {"SSL_CERT_FILE": str(file), "OPENAI_BASE_URL": "https://models.invalid/v1"}
    done = shell.afk("run", *MODEL, "q", **env)
    assert (done.code, "SSL_CERT_FILE" in done.err) == (2, True)


def test_a_host_that_no_proxy_names_is_asked_directly(shell: Shell, server: ModelServer) -> None:
    env = {"HTTP_PROXY": "ftp://broken", "NO_PROXY": "127.0.0.0/8", "OPENAI_BASE_URL": server.base_url}
    assert shell.afk("run", *MODEL, "q", **env).code == 0


def test_a_proxy_that_wants_a_password_is_asked_once_and_named(shell: Shell) -> None:
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    for url, variable in (("http://models.invalid/v1", "HTTP_PROXY"), ("https://models.invalid/v1", "HTTPS_PROXY")):
        with answering(refusal) as (address, asked):
            done = shell.afk("run", *MODEL, "q", **{variable: f"http://{address}", "OPENAI_BASE_URL": url})
        assert done.code == 4
        assert f"the proxy at {address} ({variable})" in done.err
        assert "407" in done.err
        assert len(asked) == 1


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Service Unavailable"])
def test_a_tunnel_that_fails_for_now_is_tried_again_and_names_the_proxy(shell: Shell, status: str) -> None:
    with answering(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()) as (address, asked):
        env = {"HTTPS_PROXY": f"http://{address}", "OPENAI_BASE_URL": "https://models.invalid/v1"}
        done = shell.afk("run", *MODEL, "q", **env)
    assert done.code == 4
    assert address in done.err.splitlines()[-1]
    assert "models.invalid" in done.err.splitlines()[-1]
    assert len(asked) > 1


@pytest.mark.parametrize(("status", "kind", "more"), [(503, "failed to answer", True), (401, "refused the key", False)])
def test_an_error_whose_body_breaks_off_counts_by_its_status(shell: Shell, status: int, kind: str, more: bool) -> None:
    head = f'HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{{"error": '
    with answering(head.encode(), reset=True) as (address, asked):
        env = {"OPENAI_BASE_URL": f"http://{address}/v1"}
        done = shell.afk("run", *MODEL, "q", **env)
    assert done.code == 4
    assert kind in done.err.splitlines()[-1]
    assert str(status) in done.err
    assert (len(asked) > 1) is more


def test_a_body_in_an_unrequested_encoding_is_an_error_that_says_so(shell: Shell) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: br\r\nContent-Length: 4\r\n\r\n"
    with answering(head + b"\x8b\x01\x80\x03") as (address, asked):
        done = shell.afk("run", *MODEL, "q", OPENAI_BASE_URL=f"http://{address}/v1")
    assert done.code == 4
    assert "'br'" in done.err
    assert len(asked) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_key_log_that_cannot_be_written_ends_afk_with_its_variable(shell: Shell, provider: str) -> None:
    model = configured(shell, provider, "https://127.0.0.1:1/v1")
    done = shell.afk("run", "-m", model, "q", SSLKEYLOGFILE="/no/such/folder/keys")
    assert (done.code, done.out) == (2, "")
    assert "SSLKEYLOGFILE is '/no/such/folder/keys'" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_key_log_that_cannot_be_written_is_not_blamed_on_the_certificates(shell: Shell) -> None:
    import certifi

    env = {"SSL_CERT_FILE": certifi.where(), "SSLKEYLOGFILE": "/no/such/folder/keys"}
    done = shell.afk("run", *MODEL, "q", OPENAI_BASE_URL="https://127.0.0.1:1/v1", **env)
    assert (done.code, "SSLKEYLOGFILE is" in done.err, "SSL_CERT_FILE is" in done.err) == (2, True, False)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_refused_certificate_says_that_other_variables_are_not_read(shell: Shell, provider: str) -> None:
    with ModelServer(tls=self_signed()) as server:
        url = server.base_url.removesuffix("/v1") if provider == "anthropic" else server.base_url
        model = configured(shell, provider, url)
        refused = shell.afk("run", "-n", "-m", model, "q", REQUESTS_CA_BUNDLE="/etc/own.pem")
        without = shell.afk("run", "-n", "-m", model, "q")
    assert (refused.code, without.code) == (4, 4)
    assert "REQUESTS_CA_BUNDLE is not read: set SSL_CERT_FILE" in refused.err.splitlines()[-1]
    assert "not read" not in without.err


SQUID = b"HTTP/1.1 %s\r\nX-Squid-Error: %s\r\nVia: 1.1 cache.example (squid/6.6)\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("status", "reason", "more"),
    [
        (b"403 Forbidden", b"ERR_ACCESS_DENIED 0", False),
        (b"400 Bad Request", b"ERR_INVALID_URL 0", False),
        (b"503 Service Unavailable", b"ERR_CONNECT_FAIL 111", True),
        (b"504 Gateway Timeout", b"ERR_READ_TIMEOUT 0", True),
    ],
)
def test_an_error_of_a_proxy_itself_is_said_of_the_proxy(
    shell: Shell, provider: str, status: bytes, reason: bytes, more: bool
) -> None:
    with answering(SQUID % (status, reason)) as (address, asked):
        model = configured(shell, provider, "http://models.invalid/v1")
        done = shell.afk("run", "-m", model, "q", HTTP_PROXY=f"http://{address}")
    last = done.err.splitlines()[-1]
    assert done.code == 4
    assert f"the proxy at {address} (HTTP_PROXY)" in last
    assert reason.split()[0].decode() in last
    assert (len(asked) > 1) is more


def test_a_proxy_that_no_variable_names_is_called_by_its_own_name(shell: Shell) -> None:
    with answering(SQUID % (b"403 Forbidden", b"ERR_ACCESS_DENIED 0")) as (address, asked):
        done = shell.afk("run", *MODEL, "q", OPENAI_BASE_URL=f"http://{address}/v1")
    assert done.code == 4
    assert "a proxy on the way (cache.example) refused the request (403)" in done.err
    assert len(asked) == 1


def test_an_error_of_the_server_that_came_through_a_proxy_is_the_server_s(shell: Shell) -> None:
    body = b'{"error": {"message": "mark"}}'
    answer = b"HTTP/1.1 401 X\r\nVia: 1.1 cache.example\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with answering(answer) as (address, _):
        env = {"HTTP_PROXY": f"http://{address}", "OPENAI_BASE_URL": "http://models.invalid/v1"}
        done = shell.afk("run", *MODEL, "q", **env)
    assert done.code == 4
    assert "the server at models.invalid through the proxy at" in done.err
    assert "refused the key" in done.err
