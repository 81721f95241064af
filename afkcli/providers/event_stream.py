"""The body of one answer as the data of its events, within its times."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from afkcli.core.contract.errors import ProviderError
from afkcli.providers.answer_events import AnswerEvents
from afkcli.providers.bodies import BodyTooLongError
from afkcli.providers.deadline import Deadline
from afkcli.providers.progress import Progress
from afkcli.providers.provider_errors import ProviderErrors
from afkcli.providers.sse import EventTooLongError

DRAIN_SECONDS = 0.2


class EventStream:
    """The body of one answer as the data of its events.

    The reader tells `progress` what it makes of them. Until the answer begins, a stream that stalls or breaks has cost
    nothing, so that it is reported as `timeout` or `network`. An answer that is one JSON object instead of a stream is
    its only event. `failure` is the error that the server reported in the stream.
    """

    def __init__(
        self, errors: ProviderErrors, model: str, response: Any, http_error: type[Exception], progress: Progress
    ) -> None:
        self._errors = errors
        self._model = model
        self._response = response
        # Not `aiter_bytes`: nothing is left to be decoded, and it passes each chunk through two more generators.
        self._chunks: AsyncIterator[bytes] = aiter(response.stream)
        self._events = AnswerEvents()
        self._deadline = Deadline()
        self._http_error = http_error
        self.progress = progress
        self.failure: ProviderError | None = None

    async def read(self, seconds: float | None = None) -> list[str] | None:
        """Return the data of the events that came in next (maybe none), or None at the end.

        Args:
            seconds: how long to wait; by default what is left of the time without progress.

        Raises:
            ProviderError: an error that the server reported; `truncated` or `network` (see `ProviderErrors.broken`),
                or `timeout` before the answer began.
        """
        if self.failure is not None:
            raise self.failure
        try:
            limit = self.progress.remaining if seconds is None else seconds
            chunk = await self._deadline.wait(anext(self._chunks, None), limit)
            events = self._events.rest() if chunk is None else self._taken(chunk)
        except TimeoutError:
            raise self._stalled() from None
        except (EventTooLongError, BodyTooLongError) as error:
            raise self.broken(f"is not usable: {error}") from None
        except (self._http_error, OSError) as error:
            damaged = type(error).__name__ == "DecodingError"
            raise self.broken("cannot be decoded" if damaged else "broke off: the connection was lost") from None
        self._check_page()
        if self._events.error is not None:
            self.failure = self._errors.event(self._model, self._events.error)
            if not events:
                raise self.failure
        return events if chunk is not None or events else None

    def close(self) -> None:
        """Cancel what still watches the stream; the response is closed by its connection."""
        self._deadline.close()

    async def drain(self) -> None:
        """Read what is left after the end marker, for a moment, so that the connection can be used again."""
        loop = asyncio.get_running_loop()
        until = loop.time() + DRAIN_SECONDS
        with contextlib.suppress(ProviderError):
            while (left := until - loop.time()) > 0 and await self.read(left) is not None:
                pass

    def _taken(self, chunk: bytes) -> list[str]:
        self.progress.received(len(chunk))
        return self._events.take(chunk)

    def _stalled(self) -> ProviderError:
        """Return the error for a server that made no progress in time, and what came of it meanwhile."""
        what = self.progress.stall(unfinished=self._events.is_unfinished)
        if self.progress.answered:
            return self.broken(what)
        return self._told() or self._errors.timeout(what)

    def broken(self, what: str) -> ProviderError:
        """Return the error for a stream that broke; what the server said instead of an answer counts more."""
        return self._told() or self._errors.broken(what, answered=self.progress.answered)

    def _told(self) -> ProviderError | None:
        error = self._events.stray_error()
        return None if error is None else self._errors.event(self._model, error)

    def _check_page(self) -> None:
        if self._events.is_page:
            kind = self._response.headers.get("content-type", "").partition(";")[0].strip().lower()
            raise self._errors.no_answer(f"answered with {kind or 'a page'}, not with a stream of events")
