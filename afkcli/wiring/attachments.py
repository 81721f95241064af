"""Attachments from where a user has them: a file, or a URL."""

from __future__ import annotations

import os
import queue
import stat
import string
import threading
import time
from pathlib import Path
from typing import Any, Self
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from afkcli.core.contract.errors import UsageError
from afkcli.core.thread.attachments import MAX_BYTES, check_size, shown_name
from afkcli.core.thread.attachments import Attachment as CheckedAttachment

FETCH_SECONDS = 60.0
"""For all of a download: its name looked up, the connection, redirects and the content."""
MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_SAFE = string.punctuation
_CHUNK = 1 << 16
_MARGIN_SECONDS = 1.0
"""How much longer the connection may take than the wait for it, so that the wait reports the time limit."""


class Attachment(CheckedAttachment):
    """Something that goes with a message: an image, a PDF or a text; see `afkcli.core.thread.attachments`."""

    @classmethod
    def from_path(cls, path: str | os.PathLike[str]) -> Self:
        """Return the file at `path`, which has to be a regular one.

        Raises:
            UsageError: it cannot be read, or it is not to be attached.
        """
        return cls(data=_read_file(os.fspath(path)), name=Path(path).name)

    @classmethod
    def from_url(cls, url: str, *, seconds: float = FETCH_SECONDS) -> Self:
        """Return the content of an `http` or `https` URL, with at most `MAX_REDIRECTS` redirects.

        Any address is fetched, one of this machine or of its network as well: it is the caller who names it.

        Args:
            url: the URL; a user name and a password in it are sent to its host alone, and shown nowhere.
            seconds: how long all of it may take.

        Raises:
            UsageError: it cannot be fetched, or it is not to be attached.
        """
        return cls(data=_fetch(url, seconds), name=_name_in(url))


def shown_url(url: str) -> str:
    """Return a URL as it may be shown: without the name, password, query and fragment, where secrets are."""
    try:
        parts = urlsplit(url)
        shown = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        _ = parts.port
    except ValueError:  # what looks like a port may be a password
        shown = f"{url.partition('://')[0]}://..."
    return shown_name(shown)


def _name_in(url: str) -> str:
    parts = urlsplit(url)
    return unquote(parts.path.rstrip("/").rpartition("/")[2]) or parts.hostname or "page"


def _read_file(path: str) -> bytes:
    shown = shown_name(path)
    try:
        _check_regular(shown, Path(path).stat().st_mode)  # before it is opened: opening a device may do something
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            _check_regular(shown, found.st_mode)
            check_size(shown, found.st_size or 1)  # files of /proc say 0
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{shown} cannot be attached: {error.strerror or error}") from None
    except ValueError as error:  # a NUL byte in the path
        raise UsageError(f"{shown} cannot be attached: {error}") from None


def _check_regular(shown: str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise UsageError(f"{shown} cannot be attached: it is a folder; name its files")
    if not stat.S_ISREG(mode):
        raise UsageError(f"{shown} cannot be attached: it is not a regular file; pipe it in with --attach -")


def _fetch(url: str, seconds: float) -> bytes:
    """Return the content of `url`, fetched by a worker thread, because a name lookup has no time limit."""
    fetched: queue.SimpleQueue[bytes | UsageError] = queue.SimpleQueue()
    deadline = time.monotonic() + seconds

    def work() -> None:
        try:
            fetched.put(_download(url, deadline))
        except UsageError as error:
            fetched.put(error)
        except Exception as error:  # whatever a server makes of the protocol
            fetched.put(_cannot_fetch(url, _reason(error)))

    threading.Thread(target=work, name="afk-fetch", daemon=True).start()
    try:
        outcome = fetched.get(timeout=seconds)
    except queue.Empty:
        outcome = b""
    if isinstance(outcome, UsageError):
        raise outcome
    if time.monotonic() > deadline:  # what arrived by then may be a part only
        raise _cannot_fetch(url, f"it took longer than {seconds:g} s")
    return outcome


def _download(url: str, deadline: float) -> bytes:
    from urllib.parse import urljoin

    first = _parts(url, url)
    here = first
    for _ in range(MAX_REDIRECTS + 1):
        same_host = (here.scheme, _host(here)) == (first.scheme, _host(first))
        with _open(url, here, first.netloc.rpartition("@")[0] if same_host else "", deadline) as response:
            target = response.headers.get("Location") if response.status in _REDIRECTS else None
            if target is None:
                return _body(url, response, deadline)
        following = _parts(url, urljoin(urlunsplit(here), target))
        if (here.scheme, following.scheme) == ("https", "http"):
            raise _cannot_fetch(url, "it redirects from https to http")
        here = following
    raise _cannot_fetch(url, f"it redirects more than {MAX_REDIRECTS} times")


def _parts(url: str, here: str) -> SplitResult:
    """Return the parts of the URL `here`, that of a redirect maybe, as it goes over the wire."""
    try:
        parts = urlsplit(here)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.scheme not in ("http", "https"):
        what = "it is" if here is url else "it redirects to something that is"
        raise _cannot_fetch(url, f"{what} not an http or https URL")
    return parts._replace(path=quote(parts.path, safe=_SAFE) or "/", query=quote(parts.query, safe=_SAFE), fragment="")


def _open(url: str, here: SplitResult, credentials: str, deadline: float) -> Any:
    """Return the response of the server; a redirect is one too.

    Raises:
        UsageError: it says that something is wrong.
    """
    from urllib.error import HTTPError
    from urllib.request import Request

    from afkcli.version import __version__

    plain = urlunsplit(here._replace(netloc=_host(here)))
    request = Request(plain, headers={"User-Agent": f"afk/{__version__}", "Accept": "*/*"})  # noqa: S310  (checked)
    if credentials:
        request.add_header("Authorization", f"Basic {_basic(credentials)}")
    try:
        return _opener().open(request, timeout=max(0.0, deadline - time.monotonic()) + _MARGIN_SECONDS)
    except HTTPError as error:
        if error.code in _REDIRECTS and error.headers.get("Location"):
            return error
        with error:
            raise _cannot_fetch(url, f"the server answered {error.code} {shown_name(str(error.reason))}") from None


def _opener() -> Any:
    """Return an opener of `http` and `https` URLs only, which follows no redirect."""
    from urllib import request

    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def _body(url: str, response: Any, deadline: float) -> bytes:
    shown = shown_url(url)
    check_size(shown, response.length or 1)
    data = bytearray()
    while chunk := response.read1(_CHUNK):
        data += chunk
        check_size(shown, len(data))
        if time.monotonic() > deadline:
            break  # the wait is over
    if response.length:  # what was announced and did not come
        raise _cannot_fetch(url, "the connection broke off")
    return bytes(data)


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2].lower()


def _basic(credentials: str) -> str:
    import base64

    user, _, password = credentials.partition(":")
    return base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()


def _reason(error: BaseException) -> str:
    """Return why a connection failed, in one line."""
    cause = getattr(error, "reason", error)
    text = getattr(cause, "verify_message", None) or getattr(cause, "strerror", None) or str(cause)
    return shown_name(text or type(error).__name__)


def _cannot_fetch(url: str, why: str) -> UsageError:
    return UsageError(f"{shown_url(url)} cannot be attached: {why}")
