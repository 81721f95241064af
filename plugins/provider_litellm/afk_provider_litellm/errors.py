"""What LiteLLM makes of a failure, where the wire itself does not tell it."""

from __future__ import annotations

import re

import httpx

from afkcli.plugin import ErrorKind, ProviderError
from afkcli.providers.bodies import BodyTooLongError
from afkcli.providers.sse import EventTooLongError

# The names of LiteLLM's exceptions, which it makes of each provider's own words.
_KIND_BY_EXCEPTION = {
    "ContextWindowExceededError": ErrorKind.CONTEXT_LENGTH,
    "ContentPolicyViolationError": ErrorKind.CONTENT_FILTER,
    "AuthenticationError": ErrorKind.AUTH,
    "PermissionDeniedError": ErrorKind.AUTH,
    "NotFoundError": ErrorKind.NOT_FOUND,
    "RateLimitError": ErrorKind.RATE_LIMIT,
    "Timeout": ErrorKind.TIMEOUT,
    "APIConnectionError": ErrorKind.NETWORK,
    "ServiceUnavailableError": ErrorKind.OVERLOADED,
    "InternalServerError": ErrorKind.OVERLOADED,
    "BadGatewayError": ErrorKind.OVERLOADED,
}
_TELLING = frozenset({ErrorKind.CONTEXT_LENGTH, ErrorKind.CONTENT_FILTER})
_LIBRARY_WORDS = re.compile(r"^(?:litellm\.)?\w+(?:Error|Exception|Timeout): |^\w*Exception - ")


def left_out(server: str, name: str) -> ProviderError:
    """Return the error for something attached that LiteLLM drops for a provider without a word."""
    line = f"{name} cannot be sent: LiteLLM leaves such attachments out for {server}; use another model, or no file"
    return ProviderError(line, kind=ErrorKind.BAD_REQUEST)


def kind_told(error: Exception | None) -> ErrorKind | None:
    """Return the kind that LiteLLM reads in a provider's words, where it knows more of them than afk."""
    kind = _KIND_BY_EXCEPTION.get(type(error).__name__)
    return kind if kind in _TELLING else None


def library_kind(error: Exception | None, *, was_sent: bool, answered: bool) -> ErrorKind:
    """Return the kind of a call that LiteLLM itself gave up: before a request, or for reasons of its own."""
    kind = _KIND_BY_EXCEPTION.get(type(error).__name__, ErrorKind.BAD_REQUEST)
    if was_sent and kind is ErrorKind.BAD_REQUEST:  # a response was there, and was not what it seemed
        return ErrorKind.TRUNCATED if answered else ErrorKind.OVERLOADED
    if not was_sent and kind is ErrorKind.OVERLOADED:  # nothing was sent: a key is missing, for instance
        return ErrorKind.AUTH if "key" in str(error).lower() else ErrorKind.BAD_REQUEST
    return kind


def library_words(error: Exception | None) -> str:
    """Return an exception of LiteLLM without the names that it puts before what happened."""
    text = str(error or "").partition("\n")[0]
    while match := _LIBRARY_WORDS.match(text):
        text = text[match.end() :]
    return text


def how_it_broke(error: Exception) -> str:
    """Return what happened to a stream."""
    if isinstance(error, httpx.DecodingError):
        return "cannot be decoded"
    if isinstance(error, (httpx.HTTPError, OSError)):
        return "broke off: the connection was lost"
    if isinstance(error, (BodyTooLongError, EventTooLongError)):
        return f"is not usable: {error}"
    return f"is malformed ({error})"
