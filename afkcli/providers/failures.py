"""Failed calls to a server: the kind of error, how long to wait, why there was no connection, text without secrets."""

from __future__ import annotations

import math
import re
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping

from afkcli.core.contract.credentials import MASK, mask, secret_forms
from afkcli.core.contract.errors import ErrorKind
from afkcli.core.contract.lazy_pattern import LazyPattern

MAX_DETAIL = 300
MIN_SECRET = 5
"""Shorter texts are not treated as secrets: replacing them would only garble a message."""

_KIND_BY_STATUS = {
    401: ErrorKind.AUTH,
    402: ErrorKind.AUTH,
    403: ErrorKind.AUTH,
    404: ErrorKind.NOT_FOUND,
    405: ErrorKind.NOT_FOUND,  # another server than the one that was meant
    407: ErrorKind.AUTH,
    408: ErrorKind.TIMEOUT,
    409: ErrorKind.OVERLOADED,
    410: ErrorKind.NOT_FOUND,
    413: ErrorKind.CONTEXT_LENGTH,
    425: ErrorKind.OVERLOADED,
    429: ErrorKind.RATE_LIMIT,
}
# Servers report an input that is too long with any of these, and say so only in words.
_CONTEXT_STATUSES = frozenset({None, 400, 413, 422, 500})
_CONTEXT_WORDS = LazyPattern(
    r"context[ _](?:length|size|window)|prompt is too long|exceed(?:s|ed)? (?:the )?(?:model's )?context", re.IGNORECASE
)

_KEY_LIKE = LazyPattern(r"\bsk-[\w*.-]{4,}|\b(?:bearer|basic)\s+[\w*.~+/=-]{6,}", re.IGNORECASE)
_UNPRINTABLE = LazyPattern(r"[\x00-\x20\x7f-\x9f]+")


class RedirectRefusedError(Exception):
    """A server redirects a request to where it is not sent.

    Attributes:
        what: what the server does, to be put behind its name.
        target: the address that the server points to, without user, password and query; "" where there is none.
        base_url: the setting that would send the request there.

    Since: 0.2.
    """

    def __init__(self, what: str, target: str = "", base_url: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.target = target
        self.base_url = base_url


def http_error_kind(status: int | None, detail: str = "") -> ErrorKind:
    """Return the kind of error that a model server reports by an HTTP status.

    It decides whether the call is retried and what the next turn sends. An API may have error codes that are more
    precise than its statuses (a used-up quota often comes with 429, but waiting does not help): look at those first.

    Args:
        status: the HTTP status of the response; None for an error that was reported within a stream.
        detail: the server's own message. A message about the model's context makes the kind `context_length` where
            the status allows it.

    Since: 0.2.
    """
    if status in _CONTEXT_STATUSES and _CONTEXT_WORDS.compiled.search(detail):
        return ErrorKind.CONTEXT_LENGTH
    if status is None or status >= 500:
        return ErrorKind.OVERLOADED
    if 300 <= status < 400:  # a redirect that leads nowhere: it is another server than the one that was meant
        return ErrorKind.NOT_FOUND
    return _KIND_BY_STATUS.get(status, ErrorKind.BAD_REQUEST)


def masked(text: str, secrets: Iterable[str]) -> str:
    """Return `text` on one line, shortened, with everything that is or looks like a key replaced by `***`."""
    forms = {form for secret in secrets for form in secret_forms(secret) if len(form) >= MIN_SECRET}
    text = _UNPRINTABLE.compiled.sub(" ", _KEY_LIKE.compiled.sub(MASK, mask(text, forms))).strip()
    return text if len(text) <= MAX_DETAIL else text[: MAX_DETAIL - 1] + "…"


def connection_failure(server: str, error: BaseException) -> tuple[str, str]:
    """Return why a request to `server` got no response, for a person, and what the innermost error says."""
    chain = list(causes(error))
    what = f"cannot reach {server}"
    if is_untrusted(error):
        what = f"the certificate of {server} is not valid"
    elif any(isinstance(cause, socket.gaierror) for cause in chain):
        what = f"cannot find the host of {server}"
    elif any(isinstance(cause, ConnectionRefusedError) for cause in chain):
        what = f"{server} refused the connection"
    return what, str(chain[-1])


def is_untrusted(error: BaseException) -> bool:
    """Return whether a certificate was refused. Since: 0.2."""
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes(error))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait.

    `Retry-After` is a number of seconds or a date (RFC 9110, section 10.2.3); `retry-after-ms` is OpenAI's own.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it, the members of groups included."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        if isinstance(seen, BaseExceptionGroup):
            for member in seen.exceptions:
                yield from causes(member)
        seen = seen.__cause__ or seen.__context__
