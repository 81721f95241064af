"""From what a server, the connection or LiteLLM did to one `ProviderError`: its kind, its one line, no secret in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx

from afkcli.plugin import ErrorKind, ProviderError, address_secrets
from afkcli.providers.failures import connection_failure, masked, retry_after

if TYPE_CHECKING:
    from afk_provider_litellm.exchange import Exchange
    from afk_provider_litellm.route import Route

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
_TELLING_EXCEPTIONS = ("ContextWindowExceededError", "ContentPolicyViolationError")

_KIND_BY_STATUS = {
    401: ErrorKind.AUTH,
    402: ErrorKind.AUTH,
    403: ErrorKind.AUTH,
    404: ErrorKind.NOT_FOUND,
    408: ErrorKind.TIMEOUT,
    409: ErrorKind.OVERLOADED,
    413: ErrorKind.CONTEXT_LENGTH,
    429: ErrorKind.RATE_LIMIT,
}

# A used-up quota comes with status 429, but waiting does not help: the account has to be paid.
_ACCOUNT_WORDS = re.compile(
    r"insufficient_quota|billing_|credit balance is too low|insufficient[ _](?:balance|credits)", re.IGNORECASE
)
_CONTEXT_WORDS = re.compile(
    r"context[ _](?:length|size|window)|prompt is too long|exceed(?:s|ed)? (?:the )?(?:model's )?context", re.IGNORECASE
)
_CONTENT_WORDS = re.compile(r"content_(?:filter|policy)", re.IGNORECASE)
_BAD_REQUEST_WORDS = re.compile(r"\binvalid_", re.IGNORECASE)
_RATE_WORDS = re.compile(r"rate_limit|resource_exhausted", re.IGNORECASE)
_AUTH_WORDS = re.compile(r"invalid_api_key|authentication_error|permission_error|unauthenticated", re.IGNORECASE)

_LIBRARY_WORDS = re.compile(r"^(?:litellm\.)?\w+(?:Error|Exception|Timeout): |^\w*Exception - ")

_NEXT_STEP = {
    ErrorKind.AUTH: "check its key in the environment, or api_key under [providers.litellm], and the account",
    ErrorKind.NOT_FOUND: "check the model's name and base_url under [providers.litellm]",
    ErrorKind.RATE_LIMIT: "wait, or use another model",
    ErrorKind.OVERLOADED: "try again later",
    ErrorKind.TIMEOUT: "try again, or raise the timeouts under [providers.litellm]",
    ErrorKind.NETWORK: "check the network and base_url under [providers.litellm]",
    ErrorKind.BAD_REQUEST: "change the request",
    ErrorKind.CONTEXT_LENGTH: "start a new thread, or use a model with a longer context",
    ErrorKind.CONTENT_FILTER: "rephrase the question",
    ErrorKind.TRUNCATED: "ask it to go on",
}


def left_out(route: Route, name: str) -> ProviderError:
    """Return the error for something attached that LiteLLM drops for a provider, saying nothing."""
    line = f"{name} cannot be sent: LiteLLM leaves such attachments out for {route.name}; use another model, or no file"
    return ProviderError(line, kind=ErrorKind.BAD_REQUEST)


def error_line(route: Route, what: str, kind: ErrorKind, detail: str = "", secrets: list[str] | None = None) -> str:
    """Return the line for a person: what happened, what was said of it, the next step."""
    settings = route.settings
    hidden = [settings.api_key, *settings.headers.values(), *address_secrets(settings.base_url), *(secrets or ())]
    said = masked(detail, hidden)
    next_step = _NEXT_STEP.get(kind, "")
    if kind is ErrorKind.AUTH and route.missing_keys:
        next_step = f"set {' and '.join(route.missing_keys)}, or api_key under [providers.litellm]"
    parts = [f"{what}: {said}" if said else what, next_step]
    return "; ".join(part for part in parts if part)


def status_error(route: Route, exchange: Exchange, told: Exception | None) -> ProviderError:
    """Return the error for an HTTP status that is an error; `told` is what LiteLLM made of it."""
    assert exchange.status is not None
    assert exchange.headers is not None
    detail, codes = _read_body(exchange.body)
    kind = _kind(exchange.status, f"{codes} {detail}", told)
    if not detail and "html" in exchange.headers.get("content-type", ""):
        detail = "an HTML page"
    what = f"{_subject(route, kind)} ({exchange.status})"
    return ProviderError(
        error_line(route, what, kind, detail, exchange.secrets),
        kind=kind,
        retry_after=retry_after(exchange.headers),
        status=exchange.status,
    )


def event_error(route: Route, exchange: Exchange, told: Exception | None) -> ProviderError:
    """Return the error that a server reported within a stream."""
    detail, codes = _read_value(exchange.error_event)
    kind = _kind(None, f"{codes} {detail}", told)
    return ProviderError(error_line(route, _subject(route, kind), kind, detail, exchange.secrets), kind=kind)


def library_error(route: Route, exchange: Exchange, told: Exception | None, *, answered: bool) -> ProviderError:
    """Return the error for a call that LiteLLM itself gave up: before a request, or for reasons of its own."""
    kind = _KIND_BY_EXCEPTION.get(type(told).__name__, ErrorKind.BAD_REQUEST)
    if exchange.url is not None and kind is ErrorKind.BAD_REQUEST:  # a response was there, and was not what it seemed
        kind = ErrorKind.TRUNCATED if answered else ErrorKind.OVERLOADED
    elif exchange.url is None and kind is ErrorKind.OVERLOADED:  # nothing was sent: a key is missing, for instance
        kind = ErrorKind.AUTH if "key" in str(told).lower() else ErrorKind.BAD_REQUEST
    return ProviderError(error_line(route, _subject(route, kind), kind, _said(told), exchange.secrets), kind=kind)


def connection_error(route: Route, error: Exception) -> ProviderError:
    """Return the error for a request that got no response."""
    if isinstance(error, httpx.ConnectTimeout):
        return timeout_error(route, f"could not be reached within {route.settings.connect_timeout:g} s")
    what, detail = connection_failure(route.name, error)
    return ProviderError(error_line(route, what, ErrorKind.NETWORK, detail), kind=ErrorKind.NETWORK)


def page_error(route: Route) -> ProviderError:
    """Return the error for a server that answered with a page for people."""
    line = error_line(route, f"{route.name} answered with text/html, not with a stream of events", ErrorKind.NOT_FOUND)
    return ProviderError(line, kind=ErrorKind.NOT_FOUND)


def timeout_error(route: Route, what: str) -> ProviderError:
    """Return the error for a server that does not answer; `what` says what did not come in time."""
    return ProviderError(error_line(route, f"{route.name} {what}", ErrorKind.TIMEOUT), kind=ErrorKind.TIMEOUT)


def silence(route: Route, seconds: float, *, answered: bool) -> ProviderError:
    """Return the error for a stream that stalls."""
    if not answered:
        return timeout_error(route, f"sent nothing for {seconds:g} s")
    return broken_stream(route, f"stalled for {seconds:g} s", answered=True)


def broken_stream(route: Route, what: str, *, answered: bool) -> ProviderError:
    """Return the error for a stream that broke: `truncated` once the answer had begun, else `network`."""
    kind = ErrorKind.TRUNCATED if answered else ErrorKind.NETWORK
    return ProviderError(error_line(route, f"the answer of {route.name} {what}", kind), kind=kind)


def how_it_broke(error: Exception) -> str:
    """Return what happened to a stream."""
    if isinstance(error, (httpx.HTTPError, OSError)):
        return "broke off: the connection was lost"
    return f"is malformed ({error})"


def _kind(status: int | None, said: str, told: Exception | None) -> ErrorKind:
    if _ACCOUNT_WORDS.search(said):
        return ErrorKind.AUTH
    if status in (None, 400, 413, 422, 500):
        if type(told).__name__ in _TELLING_EXCEPTIONS:
            return _KIND_BY_EXCEPTION[type(told).__name__]
        if _CONTEXT_WORDS.search(said):
            return ErrorKind.CONTEXT_LENGTH
        if _CONTENT_WORDS.search(said):
            return ErrorKind.CONTENT_FILTER
    if status is None:
        return _kind_of_event(said)
    if status >= 500:
        return ErrorKind.OVERLOADED
    return _KIND_BY_STATUS.get(status, ErrorKind.BAD_REQUEST)


def _kind_of_event(said: str) -> ErrorKind:
    """Return the kind of an error in a stream, which has no status."""
    if _AUTH_WORDS.search(said):
        return ErrorKind.AUTH
    if _RATE_WORDS.search(said):
        return ErrorKind.RATE_LIMIT
    return ErrorKind.BAD_REQUEST if _BAD_REQUEST_WORDS.search(said) else ErrorKind.OVERLOADED


def _subject(route: Route, kind: ErrorKind) -> str:
    name, model = route.name, route.model
    return {
        ErrorKind.AUTH: f"{name} refused the key or the account",
        ErrorKind.NOT_FOUND: f"{name} has no model {model!r} at this URL",
        ErrorKind.RATE_LIMIT: f"{name} limits the rate of {model!r}",
        ErrorKind.OVERLOADED: f"{name} failed to answer with {model!r}",
        ErrorKind.TIMEOUT: f"{name} failed to answer with {model!r} in time",
        ErrorKind.NETWORK: f"cannot reach {name}",
        ErrorKind.CONTEXT_LENGTH: f"the conversation is too long for {model!r}",
        ErrorKind.CONTENT_FILTER: f"{name} refused the content",
        ErrorKind.TRUNCATED: f"the answer of {name} is not usable",
    }.get(kind, f"{name} refused the request to {model!r}")


def _read_body(body: bytes) -> tuple[str, str]:
    """Return what an error body says, and its codes."""
    text = body.decode("utf-8", "replace")
    try:
        return _read_value(json.loads(text))
    except (ValueError, RecursionError):
        return ("" if text.lstrip().startswith("<") else text), ""


def _read_value(value: Any) -> tuple[str, str]:
    if isinstance(value, list) and value:  # Google's errors come in a list
        return _read_value(value[0])
    if not isinstance(value, Mapping):
        return (value if isinstance(value, str) else ""), ""
    inner = value.get("error")
    if isinstance(inner, (Mapping, str)):
        return _read_value(inner)
    detail = value.get("message") or value.get("detail") or ""
    codes = (value.get("code"), value.get("type"), value.get("status"))
    return str(detail), " ".join(str(code) for code in codes if code is not None)


def _said(error: Exception | None) -> str:
    """Return an exception of LiteLLM without the names that it puts before what happened."""
    text = str(error or "").partition("\n")[0]
    while match := _LIBRARY_WORDS.match(text):
        text = text[match.end() :]
    return text
