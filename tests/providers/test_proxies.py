"""Proxies of the environment: which one a URL is asked through, and what of it is not usable."""

from __future__ import annotations

import pytest

from afkcli.plugin import ConfigError
from afkcli.providers.proxies import proxy_for

P = "http://p:3128"


@pytest.mark.parametrize(
    ("url", "environment", "wanted"),
    [
        ("http://h/v1", {}, None),
        ("http://h/v1", {"HTTP_PROXY": P}, ("HTTP_PROXY", P)),
        ("https://h/v1", {"HTTP_PROXY": P}, None),
        ("https://h/v1", {"HTTPS_PROXY": P, "ALL_PROXY": "http://other"}, ("HTTPS_PROXY", P)),
        ("https://h/v1", {"all_proxy": P}, ("all_proxy", P)),
        ("http://h/v1", {"HTTP_PROXY": "http://other", "http_proxy": P}, ("http_proxy", P)),
        ("http://h/v1", {"HTTP_PROXY": P, "http_proxy": ""}, None),
        ("http://h/v1", {"HTTP_PROXY": "p:3128"}, ("HTTP_PROXY", P)),
        ("http://h/v1", {"HTTP_PROXY": P, "REQUEST_METHOD": "GET"}, None),
    ],
)
def test_the_variable_that_counts(url: str, environment: dict[str, str], wanted: tuple[str, str] | None) -> None:
    proxy = proxy_for(url, environment)
    assert (proxy and (proxy.variable, proxy.url)) == wanted


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize(
    ("url", "exceptions"),
    [
        ("http://models.example/v1", "*"),
        ("http://models.example/v1", "models.example"),
        ("http://models.example/v1", "other, models.example"),
        ("http://models.example/v1", "other models.example"),
        ("http://models.example/v1", "MODELS.example"),
        ("http://models.example/v1", "example"),
        ("http://models.example/v1", ".example"),
        ("http://models.example/v1", "*.example"),
        ("http://models.example/v1", "http://models.example"),
        ("http://models.example/v1", "models.example:80"),
        ("http://models.example:8080/v1", "models.example:8080"),
        ("http://127.0.0.1:8080/v1", "127.0.0.1"),
        ("http://127.0.0.1:8080/v1", "127.0.0.1:8080"),
        ("http://127.0.0.1:8080/v1", "127.0.0.0/8"),
        ("http://10.1.2.3/v1", "192.168.0.0/16,10.0.0.0/8"),
        ("http://[::1]:8080/v1", "::1"),
        ("http://[::1]:8080/v1", "[::1]"),
        ("http://[::1]:8080/v1", "[::1]:8080"),
        ("http://[fd00::5]/v1", "fd00::/8"),
        ("http://localhost/v1", "localhost"),
    ],
)
def test_a_host_that_no_proxy_names_is_asked_directly_whatever_the_proxy_is(
    url: str, exceptions: str, variable: str
) -> None:
    for proxy in (P, "ftp://broken", "socks5://p", "http://"):
        assert proxy_for(url, {"HTTP_PROXY": proxy, variable: exceptions}) is None


@pytest.mark.parametrize(
    ("url", "exceptions"),
    [
        ("http://models.example/v1", ""),
        ("http://models.example/v1", ","),
        ("http://models.example/v1", "odels.example"),
        ("http://models.example/v1", "models"),
        ("http://models.example/v1", "models.example:8080"),
        ("http://127.0.0.1/v1", "127.0.0.2"),
        ("http://127.0.0.1/v1", "10.0.0.0/8"),
        ("http://127.0.0.1/v1", "not/a/network"),
        ("http://localhost/v1", "127.0.0.1"),
    ],
)
def test_another_host_is_asked_through_the_proxy(url: str, exceptions: str) -> None:
    assert proxy_for(url, {"HTTP_PROXY": P, "NO_PROXY": exceptions}) is not None


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("ftp://p:1", "ftp://p:1"),
        ("socks4://p:1", "socks4://p:1"),
        ("http://", "http://"),
        ("http://p:port", "http://p:port"),
        ("socks5://p:1080", "pip install socksio"),
        ("socks5h://p:1080", "pip install socksio"),
    ],
)
def test_a_proxy_that_is_not_usable_is_named_with_its_variable(value: str, says: str) -> None:
    with pytest.raises(ConfigError, match="HTTP_PROXY is") as caught:
        proxy_for("http://h/v1", {"HTTP_PROXY": value})
    assert says in str(caught.value)
    assert "NO_PROXY" in str(caught.value)


def test_the_password_of_a_proxy_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        proxy_for("http://h/v1", {"HTTP_PROXY": "ftp://user:canary@p:1"})
    assert "canary" not in str(caught.value)
    assert "canary" not in str(proxy_for("http://h/v1", {"HTTP_PROXY": "http://user:canary@p:1"}))
