"""The connection to a server by way of Anthropic's SDK, which is imported when the first client is made."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from afk_provider_anthropic.request import api_version
from afk_provider_anthropic.settings import Server
from afkcli.plugin import JsonObject
from afkcli.providers import connection

if TYPE_CHECKING:
    import anthropic


class Connection(connection.Connection[Server]):
    """The client for one server."""

    def __init__(self, server: Server) -> None:
        super().__init__(server, _SDK)


def _load() -> ModuleType:
    import anthropic

    return anthropic


def _make_client(server: Server) -> anthropic.AsyncAnthropic:
    import anthropic

    return anthropic.AsyncAnthropic(**connection.client_options(anthropic, server))


def _headers(body: JsonObject) -> dict[str, str]:
    return {"anthropic-version": api_version(body)}


_SDK = connection.Sdk(load=_load, make_client=_make_client, headers=_headers)
