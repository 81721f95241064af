"""One model call through LiteLLM, read chunk by chunk, and what its failures are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from afk_provider_litellm import errors
from afk_provider_litellm.exchange import Exchange
from afk_provider_litellm.route import Route
from afkcli.plugin import AfkError, Json, JsonObject, ProviderError
from afkcli.providers.answer_stream import AfterFinish
from afkcli.providers.progress import Progress
from afkcli.providers.provider_errors import ProviderErrors


class Call:
    """A call while it lasts. Whoever reads it tells `progress` what came of the answer.

    Until it begins a stream that stalls or breaks has cost nothing, so that it is reported as `timeout` or `network`.

    Args:
        is_finished: whether the finish reason came, of an answer whose chunks are read as the server sent them.
    """

    def __init__(self, litellm: Any, exchange: Exchange, route: Route, is_finished: Callable[[], bool]) -> None:
        settings = route.settings
        self.progress = exchange.progress = Progress(settings.first_byte_timeout, settings.idle_timeout)
        self._after_finish = AfterFinish()
        self._litellm = litellm
        self._exchange = exchange
        self._route = route
        self._is_finished = is_finished
        self._stream: Any = None
        self._error: Exception | None = None

    async def open(self, arguments: Mapping[str, Json]) -> None:
        """Send the request.

        Raises:
            ProviderError: the request got no response, or one that is no stream.
        """
        try:
            with self._exchange.current():
                async with asyncio.timeout(self.progress.remaining):
                    self._stream = await self._litellm.acompletion(**arguments)
        except TimeoutError:
            raise self._errors.timeout(f"did not answer within {self.progress.limit:g} s") from None
        except Exception as error:
            raise self._failed(error) from None

    async def read(self) -> list[JsonObject] | None:
        """Return the chunks that came next, in the form of Chat Completions, or None at the end.

        Raises:
            ProviderError: the stream broke, stalled or told of an error.
        """
        exchange = self._exchange
        while True:
            if exchange.chunks:
                chunks = list(exchange.chunks)
                exchange.chunks.clear()
                return chunks
            if self._error is not None:
                raise self._failed(self._error)
            try:
                chunk = await self._next()
            except AfkError:
                raise
            except Exception as error:
                if self.finished and exchange.error is None:
                    return None  # the answer is whole; what is missing is its usage at most
                self._error = error
                continue
            if exchange.chunks or (chunk is not None and exchange.is_chat):
                continue
            return None if chunk is None else [self._as_sent(chunk.model_dump())]

    async def _next(self) -> Any:
        """Return LiteLLM's next chunk, None at the end, or where nothing more comes behind a whole answer."""
        finished, progress = self.finished, self.progress
        left = self._after_finish.seconds(finished)
        try:
            with self._exchange.current():
                async with asyncio.timeout(progress.remaining if left is None else left):
                    return await anext(self._stream, None)
        except TimeoutError:
            if finished:
                return None
            what = progress.stall(unfinished=self._exchange.is_unfinished)
            if not progress.answered:
                raise self._errors.timeout(what) from None
            raise self._errors.broken(what, answered=True) from None

    @property
    def finished(self) -> bool:
        """Whether the model's own finish reason came; LiteLLM ends every stream with one."""
        if self._exchange.is_chat:
            return self._is_finished()
        names = ("received_finish_reason", "intermittent_finish_reason")
        return any(getattr(self._stream, name, None) for name in names)

    def truncated(self) -> AfkError:
        """Return the error for a stream that ended without a finish reason."""
        if self._exchange.failure is not None or self._exchange.error is not None:
            return self._failed(None)
        return self._errors.broken("ended without its end marker", answered=self.progress.answered)

    def reported(self, error: Json) -> ProviderError:
        """Return the error that the server reported in a chunk."""
        return self._errors.event(self._route.model, error)

    async def aclose(self) -> None:
        if self._stream is not None:
            with contextlib.suppress(Exception):
                await self._stream.aclose()
        await self._exchange.aclose()

    @property
    def _errors(self) -> ProviderErrors:
        return self._route.errors(tuple(self._exchange.secrets), self._exchange.proxy)

    def _as_sent(self, chunk: JsonObject) -> JsonObject:
        """Return a chunk without what LiteLLM makes up: a finish reason, and a usage that it counts itself."""
        for choice in chunk.get("choices") or ():
            if not self.finished:
                choice["finish_reason"] = None
        if chunk.get("usage") and not any(getattr(sent, "usage", None) for sent in self._stream.chunks):
            chunk["usage"] = None
        return chunk

    def _failed(self, error: Exception | None) -> AfkError:
        """Return the error of a call: what came over the wire tells more than what LiteLLM makes of it."""
        exchange, route = self._exchange, self._route
        told = getattr(error, "original_exception", None) or error
        if exchange.unusable is not None:
            return exchange.unusable
        if exchange.left_out is not None:
            return errors.left_out(route.name, exchange.left_out)
        if exchange.is_page:
            return self._errors.no_answer("answered with text/html, not with a stream of events")
        if exchange.encoding:
            return self._errors.no_answer(f"answered in the encoding {exchange.encoding!r}, which afk did not ask for")
        if exchange.status is not None:
            headers: Mapping[str, str] = exchange.headers or {}
            kind = errors.kind_told(told)
            return self._errors.response(route.model, exchange.status, headers, exchange.body, reads=kind)
        if exchange.error is not None:
            return self._errors.event(route.model, exchange.error, reads=errors.kind_told(told))
        if exchange.failure is not None:
            return self._broken(exchange.failure)
        kind = errors.library_kind(told, was_sent=exchange.url is not None, answered=self.progress.answered)
        return self._errors.of_kind(route.model, kind, errors.library_words(told))

    def _broken(self, failure: Exception) -> ProviderError:
        if self._stream is not None:
            return self._errors.broken(errors.how_it_broke(failure), answered=self.progress.answered)
        if isinstance(failure, httpx.ConnectTimeout):
            return self._errors.timeout(f"could not be reached within {self._route.settings.connect_timeout:g} s")
        return self._errors.no_connection(failure)
