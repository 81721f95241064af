"""Asks a server to shorten conversations by itself, and does without where it refuses to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection

from afkcli.core.contract.errors import ErrorKind, ProviderError
from afkcli.core.contract.messages import ModelEvent, ModelRequest, ModelWarning
from afkcli.core.contract.structs import replace

_STATUSES = (400, 422, None)
"""Without a status it is an error that came as an event of a stream."""
_SAYS_NOTHING = frozenset({"", "bad request", "invalid request", "invalid_request_error", "unprocessable entity"})


class NativeContext:
    """Whether one server shortens conversations by itself.

    A server that refuses the request for it is asked once more without it, with the warning `native_refused`. Its model
    is not asked for it again by this object.

    Args:
        server: how messages call the server.
        words: how its fields, headers and beta versions for this are called, in lower case; a refusal that is about
            them names one, or says nothing.

    Since: 0.2.
    """

    def __init__(self, server: str, words: Collection[str]) -> None:
        self._server = server
        self._words = words
        self._refused: set[str] = set()

    async def events(
        self, request: ModelRequest, call: Callable[[ModelRequest], AsyncIterator[ModelEvent]]
    ) -> AsyncGenerator[ModelEvent, None]:
        """Yield the events of a call, which is made once more if the server refuses what is asked of it.

        Args:
            request: the request, with `native_context_from`.
            call: makes a model call.

        Raises:
            ProviderError: the call failed for another reason, or failed again.
        """
        if request.model not in self._refused:
            has_begun = False
            try:
                async for event in call(request):
                    has_begun = True
                    yield event
                return
            except ProviderError as error:
                if has_begun or not self._is_about_this(error):
                    raise
                line = f"{self._server} refused to shorten the conversation by itself: {error.said or error}"
            self._refused.add(request.model)
            yield ModelWarning("native_refused", f"{line}; sent again without it, and afk trims the conversation")
        async for event in call(replace(request, native_context_from=None)):
            yield event

    def _is_about_this(self, error: ProviderError) -> bool:
        if error.kind is not ErrorKind.BAD_REQUEST or error.status not in _STATUSES:
            return False
        text = f"{error.said} {error}".lower()
        says_nothing = (
            error.status is not None and error.said.strip(" .").lower() in _SAYS_NOTHING and error.message_index is None
        )
        return says_nothing or any(word in text for word in self._words)
