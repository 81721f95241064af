"""One model call through LiteLLM, read chunk by chunk, and what its failures are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from afk_provider_litellm import errors
from afk_provider_litellm.exchange import Exchange
from afk_provider_litellm.route import Route
from afkcli.plugin import Json, JsonObject, ProviderError

AFTER_FINISH_SECONDS = 5.0
"""How long a server may take from the finish reason to the usage and the end of the stream."""


class Call:
    """A call while it lasts. Whoever reads it sets `answered` with the beginning of the answer.

    Until then a stream that stalls or breaks has cost nothing, so that it is told as `timeout` or `network`.
    """

    def __init__(self, litellm: Any, exchange: Exchange, route: Route) -> None:
        self.answered = False
        self._litellm = litellm
        self._exchange = exchange
        self._route = route
        self._stream: Any = None

    async def open(self, arguments: Mapping[str, Json]) -> None:
        """Send the request.

        Raises:
            ProviderError: the request got no response, or one that is no stream.
        """
        seconds = self._route.settings.first_byte_timeout
        try:
            with self._exchange.current():
                async with asyncio.timeout(seconds):
                    self._stream = await self._litellm.acompletion(**arguments)
        except TimeoutError:
            raise errors.timeout_error(self._route, f"did not answer within {seconds:g} s") from None
        except Exception as error:
            raise self._failed(error) from None

    async def read(self) -> JsonObject | None:
        """Return the next chunk in the form of Chat Completions, or None at the end.

        Raises:
            ProviderError: the stream broke, stalled or told of an error.
        """
        settings = self._route.settings
        finished = self.finished
        limit = (
            AFTER_FINISH_SECONDS
            if finished
            else settings.idle_timeout
            if self.answered
            else settings.first_byte_timeout
        )
        try:
            with self._exchange.current():
                async with asyncio.timeout(limit):
                    chunk = await anext(self._stream, None)
        except TimeoutError:
            if finished:
                return None
            raise errors.silence(self._route, limit, answered=self.answered) from None
        except Exception as error:
            if finished:
                return None  # the answer is whole; what is missing is its usage at most
            raise self._failed(error) from None
        return None if chunk is None else self._as_sent(chunk.model_dump())

    @property
    def finished(self) -> bool:
        """Whether the model's own finish reason came; LiteLLM ends every stream with one."""
        names = ("received_finish_reason", "intermittent_finish_reason")
        return any(getattr(self._stream, name, None) for name in names)

    def truncated(self) -> ProviderError:
        """Return the error for a stream that ended without a finish reason."""
        if self._exchange.failure is not None or self._exchange.error_event is not None:
            return self._failed(None)
        return errors.broken_stream(self._route, "ended without its end marker", answered=self.answered)

    async def aclose(self) -> None:
        if self._stream is not None:
            with contextlib.suppress(Exception):
                await self._stream.aclose()
        await self._exchange.aclose()

    def _as_sent(self, chunk: JsonObject) -> JsonObject:
        """Return a chunk without what LiteLLM makes up: a finish reason, and a usage that it counts itself."""
        for choice in chunk.get("choices") or ():
            if not self.finished:
                choice["finish_reason"] = None
        if chunk.get("usage") and not any(getattr(sent, "usage", None) for sent in self._stream.chunks):
            chunk["usage"] = None
        return chunk

    def _failed(self, error: Exception | None) -> ProviderError:
        """Return the error of a call: what came over the wire tells more than what LiteLLM makes of it."""
        exchange, route = self._exchange, self._route
        told = getattr(error, "original_exception", None) or error
        if exchange.left_out is not None:
            return errors.left_out(route, exchange.left_out)
        if exchange.is_page:
            return errors.page_error(route)
        if exchange.status is not None:
            return errors.status_error(route, exchange, told)
        if exchange.error_event is not None:
            return errors.event_error(route, exchange, told)
        if exchange.failure is not None and self._stream is None:
            return errors.connection_error(route, exchange.failure)
        if exchange.failure is not None:
            return errors.broken_stream(route, errors.how_it_broke(exchange.failure), answered=self.answered)
        return errors.library_error(route, exchange, told, answered=self.answered)
