"""llama.cpp in this process: loads the weights, counts tokens, generates on a thread and can be stopped."""

from __future__ import annotations

import atexit
import importlib.util
import os
import re
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from afk_provider_local.weights import Weights
from afkcli.plugin import ConfigError, ErrorKind, JsonObject, ProviderError, dumps, loads_object

_BATCH_TOKENS = 64  # a prompt is read in pieces of this size; a stop waits for one: 0.4 s on one slow core
_MOST_THREADS = 8
_EXIT_SECONDS = 5.0
_KEY = secrets.token_urlsafe(32)  # of the loopback ports; it never leaves this process

_servers: dict[tuple[Path, str, int, int], Any] = {}
_loading = threading.Lock()


def check_installed() -> None:
    """Raise `ConfigError` where xllamacpp, the binding to llama.cpp, is not installed. Imports nothing."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise ConfigError(
            "provider local needs xllamacpp, which is not installed here; run: pip install xllamacpp"
            " (it has wheels for Linux, macOS and Windows on x86-64 and arm64)"
        )


def default_threads() -> int:
    """Return half of the processors that this process may use, at most 8.

    Half is the number of physical cores if each has two threads. On other machines it leaves processors free:
    llama.cpp's threads wait for each other by spinning, so one that gets no processor stops all of them (measured: 57
    tokens a second with two threads on two idle cores, 6 when one of the cores was busy, 39 with one thread in both
    cases).
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(_MOST_THREADS, usable // 2))


class Engine:
    """One model. The methods block, so they are called from threads other than the event loop's."""

    def __init__(self, weights: Weights, *, name: str, threads: int, context_tokens: int) -> None:
        self.name = name
        self.context_tokens = context_tokens
        self._weights = weights
        self._threads = threads

    def load(self) -> Any:
        """Load the weights, once in a process, and return the binding's server.

        xllamacpp keeps the interpreter's lock while it loads (0.2 s for the demonstration model).

        Raises:
            ProviderError: llama.cpp cannot run here or cannot load the file.
        """
        loaded = (self._weights.path, self.name, self._threads, self.context_tokens)
        with _loading:
            if loaded not in _servers:
                _servers[loaded] = self._new_server()
                _keep(_servers[loaded])
            return _servers[loaded]

    def _new_server(self) -> Any:
        try:
            import xllamacpp
        except ImportError as error:
            message = f"llama.cpp (xllamacpp) does not run on this platform: {error}"
            raise ProviderError(message, kind=ErrorKind.NOT_FOUND) from None
        try:
            return xllamacpp.Server(self._parameters(xllamacpp.CommonParams()))
        except RuntimeError:
            message = (
                f"llama.cpp cannot load {self._weights.path}: it is damaged, of a kind that this version does not know,"
                " or larger than the memory; AFK_DEBUG=1 shows llama.cpp's own words"
            )
            raise ProviderError(message, kind=ErrorKind.NOT_FOUND) from None

    def _parameters(self, parameters: Any) -> Any:
        parameters.model.path = str(self._weights.path)
        parameters.model_alias = {self.name}
        parameters.n_ctx = self.context_tokens
        parameters.n_parallel = 1
        parameters.n_batch = parameters.n_ubatch = _BATCH_TOKENS
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = self._threads
        # In a process with one short conversation, both cost more than they save: 0.3 s of 0.5 s.
        parameters.warmup = parameters.fit_params = False
        # The binding always listens on a port. Here only on loopback, only with this key, and without a web page.
        parameters.hostnames = ["127.0.0.1"]
        parameters.port = 0
        parameters.api_keys = [_KEY]
        parameters.ui = parameters.endpoint_slots = False
        parameters.endpoint_metrics = True  # `_wait_until_idle` asks them
        parameters.n_threads_http = 2  # with 1 it can hang when it is stopped
        if not os.environ.get("AFK_DEBUG"):
            parameters.verbosity = -1  # no errors either: llama.cpp writes to stderr itself
        return parameters

    def count(self, body: JsonObject) -> int:
        """Return the number of tokens of a Chat Completions request with its template, exactly as the model reads it.

        Raises:
            ProviderError: the model's template refuses these messages.
        """
        from http.client import HTTPConnection
        from urllib.parse import urlsplit

        address = urlsplit(self.load().listening_address)
        connection = HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=60)
        try:
            headers = {"Authorization": f"Bearer {_KEY}", "Content-Type": "application/json"}
            connection.request("POST", "/v1/chat/completions/input_tokens", dumps(body).encode(), headers)
            answer = loads_object(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise error_of(answer["error"])
        return int(answer["input_tokens"])


def _keep(server: Any) -> None:
    """Keep a server until the process ends.

    Freeing one waits for its HTTP thread, which at times never ends (xllamacpp 2026.10), and the interpreter's lock is
    held meanwhile: the process would hang at its exit. The frame of a sleeping thread is never freed.
    """
    threading.Thread(target=_sleep, args=(server,), name="afk-local-keep", daemon=True).start()


def _sleep(_server: Any) -> None:
    threading.Event().wait()


def error_of(error: Any) -> ProviderError:
    """Return the error for llama.cpp's error object."""
    form = error if isinstance(error, dict) else {"message": str(error)}
    message = f"llama.cpp: {form.get('message')}"
    if form.get("type") == "exceed_context_size_error":
        return ProviderError(message, kind=ErrorKind.CONTEXT_LENGTH)
    kind = ErrorKind.BAD_REQUEST if form.get("code") == 400 else ErrorKind.INTERNAL
    return ProviderError(message, kind=kind)


class Job:
    """Work on a daemon thread that hands items to `put`, in order, and can be asked to stop."""

    def __init__(self, work: Callable[[Job], None], put: Callable[[object], object]) -> None:
        self._put = put
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=work, args=(self,), name="afk-local", daemon=True)
        _jobs.add(self)
        self._thread.start()

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def put(self, item: object) -> None:
        try:
            self._put(item)
        except RuntimeError:  # the event loop is closed: nothing listens any more
            self.stop()

    def stop(self) -> None:
        self._stopped.set()

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)


_jobs: weakref.WeakSet[Job] = weakref.WeakSet()


@atexit.register
def _end() -> None:
    """End all work before the interpreter and C++'s statics go: threads still in llama.cpp would crash the process."""
    until = time.monotonic() + _EXIT_SECONDS
    jobs = list(_jobs)
    for job in jobs:
        job.stop()
    for job in jobs:
        job.join(max(0.0, until - time.monotonic()))
    for server in _servers.values():
        _wait_until_idle(server, until)


def _wait_until_idle(server: Any, until: float) -> None:
    """Wait for llama.cpp's own thread, which runs for a moment after an answer has ended or was stopped."""
    busy = re.compile(r"^llamacpp:requests_(processing|deferred) [1-9]", re.MULTILINE)
    while busy.search(server.handle_metrics()) and time.monotonic() < until:
        time.sleep(0.002)
