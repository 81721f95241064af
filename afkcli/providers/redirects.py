"""Redirects of a model request: followed within the server's origin, where the request stays what it is.

A request carries the key, the configured headers and the conversation. They were meant for one origin (scheme, host and
port); a redirect to another one is an error that names both.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from afkcli.providers.base_url import split_base_url
from afkcli.providers.bodies import bound
from afkcli.providers.failures import RedirectRefusedError

MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_KEEPING = (307, 308)
"""The redirects that keep method and body (RFC 9110, section 15.4); clients make a GET of a POST for the others."""

_LISTS = ("/models", "/v1/models", "/v1/messages/count_tokens")


def guarded_transport(library: ModuleType, inner: Any) -> Any:
    """Return a transport that sends by `inner`, keeps redirects within the origin, and bounds bodies.

    Its requests raise `RedirectRefusedError` for a redirect that is not followed.
    """
    base: Any = library.AsyncBaseTransport

    class Guarded(base):  # type: ignore[misc]  # a class that is known when it is made
        async def handle_async_request(self, request: Any) -> Any:
            for _ in range(MAX_REDIRECTS + 1):
                response = await inner.handle_async_request(request)
                location = response.headers.get("location")
                if response.status_code not in _REDIRECTS or location is None:
                    return bound(library, response, request.headers.get("accept", ""))
                await response.aclose()  # its body is not read
                request = next_request(library, request, response.status_code, location)
            raise RedirectRefusedError(f"redirects more than {MAX_REDIRECTS} times")

        async def aclose(self) -> None:
            await inner.aclose()

    return Guarded()


def next_request(library: ModuleType, request: Any, status: int, location: str) -> Any:
    """Return the request that follows a redirect; `RedirectRefusedError` for one that is not followed. Since: 0.2."""
    here = request.url
    try:
        there = here.join(location)
    except (library.InvalidURL, ValueError):
        raise RedirectRefusedError(f"redirects to an address that is not valid ({status})") from None
    if there.scheme not in ("http", "https") or not there.host:
        raise RedirectRefusedError(f"redirects to {_shown(there)}, which is not an address of HTTP ({status})")
    if _origin(here) != _origin(there):
        raise RedirectRefusedError(
            f"redirects from {_shown(here)} to {_shown(there)} ({status}); "
            "afk sends keys and conversations to no other origin",
            *_addresses(there),
        )
    if there.userinfo and there.userinfo != here.userinfo:
        raise RedirectRefusedError(f"redirects to an address with a user or a password ({status})", *_addresses(there))
    if request.method not in ("GET", "HEAD") and status not in _KEEPING:
        raise RedirectRefusedError(
            f"redirects from {here.path} to {there.path} with the status {status}, "
            "which would turn the request into a GET without its body",
            *_addresses(there),
        )
    return library.Request(
        request.method, there, headers=request.headers, stream=request.stream, extensions=request.extensions
    )


def _origin(url: Any) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


def _shown(url: Any) -> str:
    """Return the origin of an address, as it is written in a config."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}" + (f":{url.port}" if url.port else "")


def _addresses(url: Any) -> tuple[str, str]:
    """Return an address without user, password and query, and the base URL that it lies below as an endpoint."""
    plain = target = _shown(url) + url.path
    for ending in _LISTS:
        plain = plain.removesuffix(ending)
    return target, split_base_url(plain)[0]
