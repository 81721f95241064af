"""The connection to a server by way of OpenAI's SDK, which is imported when the first client is made."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from afk_provider_openai.settings import Server
from afkcli.providers import connection

if TYPE_CHECKING:
    import openai


class Connection(connection.Connection[Server]):
    """The client for one server."""

    def __init__(self, server: Server) -> None:
        super().__init__(server, _SDK)


def _load() -> ModuleType:
    import openai

    return openai


def _make_client(server: Server) -> openai.AsyncOpenAI:
    import openai

    settings = server.settings
    options = connection.client_options(openai, server)
    if server.is_azure:  # its deployments take a key in a header of their own
        options["default_headers"] = {"api-key": server.key, **settings.headers}
    return openai.AsyncOpenAI(organization=settings.organization or None, project=settings.project or None, **options)


_SDK = connection.Sdk(load=_load, make_client=_make_client, repeats_heads=True)
