"""The connection to a server by way of Anthropic's SDK, which is imported when the first client is made."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING

from afk_provider_anthropic.native import betas
from afk_provider_anthropic.request import api_version
from afk_provider_anthropic.settings import Server
from afkcli.plugin import JsonObject, replace
from afkcli.providers import connection

if TYPE_CHECKING:
    import anthropic


BETA_HEADER = "anthropic-beta"


class Connection(connection.Connection[Server]):
    """The client for one server."""

    def __init__(self, server: Server) -> None:
        super().__init__(server, replace(_SDK, headers=partial(_headers, server.settings.headers)))


def _load() -> ModuleType:
    import anthropic

    return anthropic


def _make_client(server: Server) -> anthropic.AsyncAnthropic:
    import anthropic

    return anthropic.AsyncAnthropic(**connection.client_options(anthropic, server))


def headers_of(server: Server, body: JsonObject) -> dict[str, str]:
    """Return the headers that a body needs at a server."""
    return _headers(server.settings.headers, body)


def _headers(of_settings: Mapping[str, str], body: JsonObject) -> dict[str, str]:
    """Return the headers that a body needs; beta versions of the settings are sent with those of the body."""
    headers = {"anthropic-version": api_version(body)}
    wanted = betas(body)
    if wanted:
        given = [value for name, value in of_settings.items() if name.lower() == BETA_HEADER]
        headers[BETA_HEADER] = ",".join([*given, *wanted])
    return headers


_SDK = connection.Sdk(load=_load, make_client=_make_client, repeats_heads=True)
