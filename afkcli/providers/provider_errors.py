"""From what a server, a proxy or the connection did to one `ProviderError`: its kind, its one line, no secret in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from afkcli.core.contract.credentials import address_secrets
from afkcli.core.contract.errors import ErrorKind, ProviderError
from afkcli.core.contract.jsonform import Json
from afkcli.core.contract.lazy_pattern import LazyPattern
from afkcli.core.contract.setting_sources import SettingSource
from afkcli.core.contract.structs import FrozenStruct
from afkcli.providers.certificates import unread_variables
from afkcli.providers.error_signs import RETRIED_STATUSES
from afkcli.providers.failures import (
    RedirectRefusedError,
    causes,
    connection_failure,
    http_error_kind,
    is_untrusted,
    masked,
)
from afkcli.providers.named_message import NamedMessage
from afkcli.providers.proxies import Proxy

if TYPE_CHECKING:
    from afkcli.providers.error_bodies import ServerError

PROXY_REFUSED = 407
PROXY_ERROR = "x-squid-error"
"""The header by which Squid says that the answer is its own, and why: `ERR_ACCESS_DENIED 0`."""
_OPEN_STATUSES = frozenset({None, 400, 413, 422, 500})
"""The statuses that leave open whether the length or the content was refused."""

_STATUS_IN_WORDS = LazyPattern(r"\s*([45]\d\d)\b")


class ServerToldError(ProviderError):
    """An error that a server told; `named` is the message that it named, as the wire has it. Since: 0.2."""

    def __init__(
        self,
        message: str,
        *,
        kind: ErrorKind,
        retry_after: float | None,
        status: int | None,
        said: str,
        named: NamedMessage | None,
    ) -> None:
        super().__init__(message, kind=kind, retry_after=retry_after, status=status, said=said)
        self.named = named

    def locate(self, message_at: Callable[[NamedMessage], int | None]) -> None:
        """Set `message_index` to what `message_at` returns for the message that the server named."""
        self.message_index = None if self.named is None else message_at(self.named)


class ProviderErrors(FrozenStruct, kw_only=True):
    """Makes the errors of one server.

    Attributes:
        server: how messages call the server.
        table: the provider's table in the config, such as `[providers.openai]`.
        key: the next step where the key is refused.
        secrets: texts that no message may show.
        proxy: through which the server is asked.
        base_url: where the server's URL came from; `base_url` of `table` by default.

    Since: 0.2.
    """

    server: str
    table: str
    key: str
    secrets: tuple[str, ...] = ()
    proxy: Proxy | None = None
    base_url: SettingSource | None = None

    def __repr__(self) -> str:
        return f"ProviderErrors(server={self.server!r}, table={self.table!r}, proxy={self.proxy!r})"  # without secrets

    @property
    def _server_setting(self) -> str:
        return self.base_url.to_change if self.base_url is not None else f"base_url under {self.table}"

    @property
    def place(self) -> str:
        """The server, and the proxy on the way to it."""
        return self.server if self.proxy is None else f"{self.server} through {self.proxy}"

    def line(self, what: str, kind: ErrorKind, detail: str = "", next_step: str | None = None) -> str:
        """Return the line for a person: what happened, what was said of it, the next step."""
        said = self.masked(detail).removesuffix(".")
        step = self._next_step(kind) if next_step is None else next_step
        parts = [f"{what}: {said}" if said else what, step]
        return "; ".join(part for part in parts if part)

    def masked(self, text: str) -> str:
        """Return `text` on one line, without secrets."""
        hidden = (*self.secrets, *(address_secrets(self.proxy.url) if self.proxy is not None else ()))
        return masked(text, hidden)

    def response(
        self,
        model: str,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        *,
        reads: ErrorKind | None = None,
    ) -> ProviderError:
        """Return the error for an HTTP status that is not a success.

        Args:
            model: the model that was asked.
            status: the status.
            headers: those of the response.
            body: as much of it as came.
            reads: the kind that a library reads in the words, where they leave it open.
        """
        from afkcli.providers.error_bodies import read_error  # not at the top: few runs have an error

        error = read_error(status, headers, body)
        if PROXY_ERROR in headers or (self.proxy is not None and status == PROXY_REFUSED):
            return self._told_by_proxy(error, status, headers)
        return self._told(model, error, status, reads)

    def event(self, model: str, error: Json, *, reads: ErrorKind | None = None) -> ProviderError:
        """Return the error that a server reports within a stream, or as an answer whose status is 200."""
        from afkcli.providers.error_bodies import read_error

        return self._told(model, read_error(None, {}, error), None, reads)

    def of_kind(self, model: str, kind: ErrorKind, detail: str) -> ProviderError:
        """Return the error for a call that a library gave up."""
        return ProviderError(self.line(self._subject(kind, model), kind, detail), kind=kind)

    def no_connection(self, error: BaseException) -> ProviderError:
        """Return the error for a request that got no response."""
        refusal = self._refused_redirect(error) or self._refusal_to_connect(error)
        if refusal is not None:
            return refusal
        what, detail = connection_failure(self.server, error)
        step = None
        if is_untrusted(error):
            step = unread_variables() or None
        elif self.proxy is not None:  # the connection is the one to the proxy
            failed, detail = connection_failure(str(self.proxy), error)
            way = f" through {self.proxy}" if failed.startswith("cannot reach") else f": {failed}"
            what = f"cannot reach {self.server}{way}"
            step = f"check {self.proxy.variable}, the network and {self._server_setting}"
        return ProviderError(self.line(what, ErrorKind.NETWORK, detail, step), kind=ErrorKind.NETWORK)

    def _refused_redirect(self, error: BaseException) -> ProviderError | None:
        """Return the error for a redirect that is not followed: another try would be redirected again."""
        for cause in causes(error):
            if isinstance(cause, RedirectRefusedError):
                step = self._step_to(self.masked(cause.base_url))
                what = f"{self.server} {self.masked(cause.what)}"
                line = self.line(what, ErrorKind.NOT_FOUND, next_step=step if cause.base_url else None)
                return ProviderError(line, kind=ErrorKind.NOT_FOUND)
        return None

    def _step_to(self, url: str) -> str:
        """Return the next step where another server may be meant."""
        if self.base_url is not None and self.base_url.variable is not None:
            return f'set {self.base_url.variable} to "{url}" if you mean that server'
        return f'set base_url = "{url}" under {self.table} if you mean that server'

    def _refusal_to_connect(self, error: BaseException) -> ProviderError | None:
        """Return the error of a proxy that refuses the tunnel to the server for good."""
        for cause in causes(error) if self.proxy is not None else ():
            found = _STATUS_IN_WORDS.compiled.match(str(cause)) if type(cause).__name__ == "ProxyError" else None
            status = int(found[1]) if found is not None else None
            if status is not None and status < 500 and status not in RETRIED_STATUSES:
                assert self.proxy is not None
                return self._refused_by_proxy(self.proxy, status, str(cause))
        return None

    def timeout(self, what: str) -> ProviderError:
        """Return the error for a server that does not answer; `what` says what did not come in time."""
        return ProviderError(self.line(f"{self.place} {what}", ErrorKind.TIMEOUT), kind=ErrorKind.TIMEOUT)

    def broken(self, what: str, *, answered: bool) -> ProviderError:
        """Return the error for a stream that broke: `truncated` once the answer had begun, else `network`."""
        kind = ErrorKind.TRUNCATED if answered else ErrorKind.NETWORK
        return ProviderError(self.line(f"the answer of {self.place} {what}", kind), kind=kind)

    def no_answer(self, what: str) -> ProviderError:
        """Return the error for a server that answers with something else: the URL is that of another one."""
        return ProviderError(self.line(f"{self.place} {what}", ErrorKind.NOT_FOUND), kind=ErrorKind.NOT_FOUND)

    def _told(self, model: str, error: ServerError, status: int | None, reads: ErrorKind | None) -> ProviderError:
        is_open = error.kind in (ErrorKind.BAD_REQUEST, ErrorKind.OVERLOADED) and status in _OPEN_STATUSES
        kind = reads if reads is not None and is_open else error.kind
        what = self._subject(kind, model)
        if status is not None:
            what = f"{what} ({status})"
        return ServerToldError(
            self.line(what, kind, error.message),
            kind=kind,
            retry_after=error.retry_after,
            status=status or error.status,
            said=self.masked(error.message).removesuffix("."),
            named=error.named,
        )

    def _told_by_proxy(self, error: ServerError, status: int, headers: Mapping[str, str]) -> ProviderError:
        """Return the error of a proxy that answered itself: it refused the request, or could not reach the server."""
        own = " ".join(headers.get(PROXY_ERROR, "").split()[:1])
        detail = "; ".join(text for text in (own, error.message) if text)
        if status < 500 and status not in RETRIED_STATUSES:
            return self._refused_by_proxy(self.proxy, status, detail, headers)
        what = f"{_proxy_name(self.proxy, headers)} could not get an answer of {self.server} ({status})"
        kind = http_error_kind(status)
        return ProviderError(self.line(what, kind, detail), kind=kind, status=status, retry_after=error.retry_after)

    def _refused_by_proxy(
        self, proxy: Proxy | None, status: int, detail: str, headers: Mapping[str, str] | None = None
    ) -> ProviderError:
        """Return the error of a proxy that lets nothing pass: `auth` keeps the question, and is not retried."""
        wants = "asks for a user and a password" if status == PROXY_REFUSED else "refused the request"
        step = "ask who runs it"
        if proxy is not None:
            step = f"check {proxy.variable}, or name the server's host in NO_PROXY"
        line = self.line(f"{_proxy_name(proxy, headers or {})} {wants} ({status})", ErrorKind.AUTH, detail, step)
        return ProviderError(line, kind=ErrorKind.AUTH, status=status)

    def _next_step(self, kind: ErrorKind) -> str:
        return {
            ErrorKind.AUTH: self.key,
            ErrorKind.NOT_FOUND: f"check the model's name and {self._server_setting}",
            ErrorKind.RATE_LIMIT: "wait, or use another model",
            ErrorKind.OVERLOADED: "try again later",
            ErrorKind.TIMEOUT: f"try again, or raise the timeouts under {self.table}",
            ErrorKind.NETWORK: f"check the network and {self._server_setting}",
            ErrorKind.BAD_REQUEST: "change the request",
            ErrorKind.CONTEXT_LENGTH: "start a new thread, or use a model with a longer context",
            ErrorKind.CONTENT_FILTER: "rephrase the question",
            ErrorKind.TRUNCATED: "ask it to go on",
        }.get(kind, "")

    def _subject(self, kind: ErrorKind, model: str) -> str:
        place = self.place
        if not model:  # it was asked for no model: a list, a file, a batch
            return {
                ErrorKind.AUTH: f"{place} refused the key or the account",
                ErrorKind.NOT_FOUND: f"{place} has nothing at this URL",
                ErrorKind.RATE_LIMIT: f"{place} limits the rate of requests",
                ErrorKind.OVERLOADED: f"{place} failed to answer",
                ErrorKind.TIMEOUT: f"{place} failed to answer",
                ErrorKind.NETWORK: f"cannot reach {place}",
            }.get(kind, f"{place} refused the request")
        return {
            ErrorKind.AUTH: f"{place} refused the key or the account",
            ErrorKind.NOT_FOUND: f"{place} has no model {model!r} at this URL",
            ErrorKind.RATE_LIMIT: f"{place} limits the rate of {model!r}",
            ErrorKind.OVERLOADED: f"{place} failed to answer with {model!r}",
            ErrorKind.TIMEOUT: f"{place} failed to answer with {model!r}",
            ErrorKind.CONTEXT_LENGTH: f"the conversation is too long for {model!r}",
            ErrorKind.CONTENT_FILTER: f"{place} refused the content",
            ErrorKind.NETWORK: f"cannot reach {place}",
            ErrorKind.TRUNCATED: f"the answer of {place} is not usable",
        }.get(kind, f"{place} refused the request to {model!r}")


def _proxy_name(proxy: Proxy | None, headers: Mapping[str, str]) -> str:
    """Return how messages call a proxy; one that no variable names gives its name in `Via`: `1.1 cache (squid/6)`."""
    if proxy is not None:
        return str(proxy)
    via = headers.get("via", "").split(",")[-1].split()
    return f"a proxy on the way ({via[1]})" if len(via) > 1 else "a proxy on the way"
