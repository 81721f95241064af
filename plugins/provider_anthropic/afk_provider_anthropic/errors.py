"""From what a server or the connection did to one `ProviderError`: its kind, its one line, no secret in it.

The types are those of https://platform.claude.com/docs/en/api/errors, and of llama.cpp's server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from afk_provider_anthropic.settings import Server
from afkcli.plugin import ErrorKind, Json, ProviderError, address_secrets
from afkcli.providers.failures import connection_failure, masked, retry_after

if TYPE_CHECKING:
    import anthropic

_KIND_BY_TYPE = {
    "authentication_error": ErrorKind.AUTH,
    "permission_error": ErrorKind.AUTH,
    "billing_error": ErrorKind.AUTH,
    "not_found_error": ErrorKind.NOT_FOUND,
    "request_too_large": ErrorKind.CONTEXT_LENGTH,
    "exceed_context_size_error": ErrorKind.CONTEXT_LENGTH,
    "rate_limit_error": ErrorKind.RATE_LIMIT,
    "timeout_error": ErrorKind.TIMEOUT,
    "overloaded_error": ErrorKind.OVERLOADED,
    "api_error": ErrorKind.OVERLOADED,
    "conflict_error": ErrorKind.OVERLOADED,
    "invalid_request_error": ErrorKind.BAD_REQUEST,
}

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

# `error.details.error_code` of a used-up budget or a closed account: it comes with 429, but waiting does not help. It
# counts as `auth`, so that it is not retried and the question is kept for the next turn.
_ACCOUNT_CODE = re.compile(r"spend_limit_reached|billing_unavailable|organization_on_hold|organization_type")
# The same as `invalid_request_error` with status 400, told by its words alone.
_ACCOUNT_WORDS = re.compile(r"credit balance is too low|specified API usage limits", re.IGNORECASE)
_CONTEXT_WORDS = re.compile(
    r"prompt is too long|exceed(?:s|ed)? (?:the )?(?:model's )?context|maximum context length|context (?:size|window)",
    re.IGNORECASE,
)

_NEXT_STEP = {
    ErrorKind.AUTH: "check ANTHROPIC_API_KEY, or api_key under [providers.anthropic], and the account",
    ErrorKind.NOT_FOUND: "check the model's name and base_url under [providers.anthropic]",
    ErrorKind.RATE_LIMIT: "wait, or use another model",
    ErrorKind.OVERLOADED: "try again later",
    ErrorKind.TIMEOUT: "try again, or raise the timeouts under [providers.anthropic]",
    ErrorKind.NETWORK: "check the network and base_url under [providers.anthropic]",
    ErrorKind.BAD_REQUEST: "change the request",
    ErrorKind.CONTEXT_LENGTH: "start a new thread, or use a model with a longer context",
    ErrorKind.TRUNCATED: "ask it to go on",
}


def error_line(server: Server, what: str, kind: ErrorKind, detail: str = "") -> str:
    """Return the line for a person: what happened, what the server said of it, the next step."""
    secrets = (server.key, *server.settings.headers.values(), *address_secrets(server.url))
    said = masked(detail, secrets).removesuffix(".")
    parts = [f"{what}: {said}" if said else what, _NEXT_STEP.get(kind, "")]
    return "; ".join(part for part in parts if part)


def status_error(server: Server, model: str, error: anthropic.APIStatusError) -> ProviderError:
    """Return the error for an HTTP status other than 200."""
    status = error.status_code
    detail, codes = _read_body(error.body)
    kind = _kind(status, codes, detail)
    if not detail and "html" in error.response.headers.get("content-type", ""):
        detail = "an HTML page"
    return ProviderError(
        error_line(server, f"{_subject(server, kind, model)} ({status})", kind, detail),
        kind=kind,
        retry_after=retry_after(error.response.headers),
        status=status,
    )


def event_error(server: Server, model: str, error: Json) -> ProviderError:
    """Return the error that a server reports within a stream."""
    detail, codes = _read_body(error)
    kind = _kind(None, codes, detail)
    return ProviderError(error_line(server, _subject(server, kind, model), kind, detail), kind=kind)


def connection_error(server: Server, error: BaseException) -> ProviderError:
    """Return the error for a request that got no response."""
    what, detail = connection_failure(server.name, error)
    return ProviderError(error_line(server, what, ErrorKind.NETWORK, detail), kind=ErrorKind.NETWORK)


def timeout_error(server: Server, what: str) -> ProviderError:
    """Return the error for a server that does not answer; `what` says what did not come in time."""
    return ProviderError(error_line(server, f"{server.name} {what}", ErrorKind.TIMEOUT), kind=ErrorKind.TIMEOUT)


def broken_stream(server: Server, what: str, *, answered: bool) -> ProviderError:
    """Return the error for a stream that broke: `truncated` once the answer had begun, else `network`."""
    kind = ErrorKind.TRUNCATED if answered else ErrorKind.NETWORK
    return ProviderError(error_line(server, f"the answer of {server.name} {what}", kind), kind=kind)


def _kind(status: int | None, codes: tuple[str, ...], detail: str) -> ErrorKind:
    if any(_ACCOUNT_CODE.search(code) for code in codes) or _ACCOUNT_WORDS.search(detail):
        return ErrorKind.AUTH
    if status in (None, 400, 413, 422, 500) and _CONTEXT_WORDS.search(detail):
        return ErrorKind.CONTEXT_LENGTH
    if status in _KIND_BY_STATUS:
        return _KIND_BY_STATUS[status]
    for code in codes:
        if code in _KIND_BY_TYPE:
            return _KIND_BY_TYPE[code]
    return ErrorKind.OVERLOADED if status is None or status >= 500 else ErrorKind.BAD_REQUEST


def _subject(server: Server, kind: ErrorKind, model: str) -> str:
    if kind is ErrorKind.AUTH:
        return f"{server.name} refused the key or the account"
    if kind is ErrorKind.NOT_FOUND:
        return f"{server.name} has no model {model!r} at this URL"
    if kind is ErrorKind.RATE_LIMIT:
        return f"{server.name} limits the rate of {model!r}"
    if kind in (ErrorKind.OVERLOADED, ErrorKind.TIMEOUT):
        return f"{server.name} failed to answer with {model!r}"
    if kind is ErrorKind.CONTEXT_LENGTH:
        return f"the conversation is too long for {model!r}"
    return f"{server.name} refused the request to {model!r}"


def _read_body(body: object) -> tuple[str, tuple[str, ...]]:
    """Return what an error body says, and its codes, the most telling first."""
    if isinstance(body, Mapping):
        inner = body.get("error")
        if isinstance(inner, (Mapping, str)):
            return _read_body(inner)
        details = body.get("details")
        code = details.get("error_code") if isinstance(details, Mapping) else None
        codes = (code, body.get("type"))
        return str(body.get("message") or ""), tuple(str(code) for code in codes if code is not None)
    text = body if isinstance(body, str) else ""
    return ("" if text.lstrip().startswith("<") else text), ()
