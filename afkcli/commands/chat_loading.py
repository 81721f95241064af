"""What the chat loads while the person types: the config, the plugins and what the first turn imports.

Since: 0.2.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

from afkcli.commands.turn_request import TurnRequest
from afkcli.core.contract.errors import AfkError
from afkcli.host.invocation import Invocation

if TYPE_CHECKING:
    from afkcli.chat.slash import Completes
    from afkcli.core.contract.protocols import ThreadInfo
    from afkcli.wiring.setup import Setup


class Loaded(NamedTuple):
    """The setup, and what is known of the conversation before its first turn."""

    setup: Setup
    thread: ThreadInfo | None
    model: str | None


class Loading:
    """Loads what a session needs.

    Args:
        invocation: what the process was started with.
        request: the thread, the model and the plugin files.
        notify: takes one line for a person, on any thread.
    """

    def __init__(self, invocation: Invocation, request: TurnRequest, notify: Callable[[str], None]) -> None:
        self._invocation = invocation
        self._request = request
        self._notify = notify
        self._future: Future[Loaded] = Future()
        self._thread_of_it: threading.Thread | None = None

    def start(self, then: Callable[[], None]) -> None:
        """Load in a thread of its own, and call `then` in it."""

        def load() -> None:
            self.now()
            then()
            self._import_more()

        self._thread_of_it = threading.Thread(target=load, name="afk-chat-loading", daemon=True)
        self._thread_of_it.start()

    @property
    def is_busy(self) -> bool:
        """Whether it still loads or imports, which the end of the process need not wait for."""
        return self._thread_of_it is not None and self._thread_of_it.is_alive()

    def now(self) -> None:
        """Load at once; an error is for those who ask for what was loaded."""
        try:
            self._future.set_result(self._load())
        except BaseException as error:
            self._future.set_exception(error)

    @property
    def error(self) -> BaseException | None:
        """Why it could not be loaded, None if it was or is not yet."""
        return self._future.exception() if self._future.done() else None

    def at_once(self) -> Loaded | None:
        """Return what was loaded, None if it is not there."""
        return self._future.result() if self._future.done() and self._future.exception() is None else None

    async def loaded(self) -> Loaded:
        """Wait for what is loaded, and return it.

        Raises:
            AfkError: the config or a plugin cannot be used.
        """
        return await asyncio.wrap_future(self._future)

    def _load(self) -> Loaded:
        from afkcli.wiring.assembly import load_setup

        setup = load_setup(self._invocation, project=True, plugin_files=self._request.plugins, notify=self._notify)
        thread = self._thread(setup) if self._request.thread is not None else None
        return Loaded(setup, thread, self._model(setup, thread))

    def _thread(self, setup: Setup) -> ThreadInfo | None:
        from afkcli.wiring.plugin_objects import open_store

        with contextlib.suppress(AfkError):  # the turn says it
            store = open_store(setup)
            try:
                return store.find(self._request.thread or "")
            finally:
                store.close()
        return None

    def _model(self, setup: Setup, thread: ThreadInfo | None) -> str | None:
        """Return the model of the next turn as far as it is known; the turn reports what is wrong with it."""
        from afkcli.commands.turn import flags_of
        from afkcli.core.contract.structs import replace
        from afkcli.wiring.agents import agent_and_model

        quiet = replace(setup, notify=lambda line: None)
        with contextlib.suppress(AfkError):
            return agent_and_model(quiet, flags_of(self._request), thread)[1].value
        return None

    def _import_more(self) -> None:
        """Import what a turn needs, so that the first one need not; what fails here fails in the turn, and says so."""
        loaded = self.at_once()
        if loaded is None:
            return
        with contextlib.suppress(Exception):
            import afkcli.commands.turn
            import afkcli.wiring.runner  # noqa: F401

            if loaded.model is not None:
                loaded.setup.plugins.load("provider", loaded.model.partition("/")[0])


class KnownNames:
    """The names that the chat completes; see `Names`."""

    def __init__(self, loading: Loading) -> None:
        self._loading = loading

    def names(self, kind: Completes, beginning: str) -> Sequence[str]:
        """Return the names of a kind that `beginning` may mean; none while the setup is loaded, or after an error."""
        loaded = self._loading.at_once()
        find: dict[str, Callable[[Setup, str], Sequence[str]]] = {
            "thread": _threads,
            "model": _models,
            "agent": _agents,
            "tool": _tools,
        }
        if loaded is None or kind not in find:
            return ()
        try:
            return find[kind](loaded.setup, beginning)
        except Exception:  # of a plugin too: completing is not worth an error
            return ()


def _threads(setup: Setup, beginning: str) -> Sequence[str]:
    from afkcli.core.thread.listing import names_meant
    from afkcli.wiring.plugin_objects import open_store

    store = open_store(setup)
    try:
        return list(names_meant(store, beginning, limit=100))
    finally:
        store.close()


def _models(setup: Setup, beginning: str) -> Sequence[str]:
    """Return the models of the threads that were used last, then those that `afk run -m` completes."""
    from afkcli.wiring.known_models import known_models
    from afkcli.wiring.plugin_objects import open_store

    store = open_store(setup)
    try:
        used = [info.model for info in store.list(limit=200) if info.model]
    finally:
        store.close()
    return list(dict.fromkeys([*used, *known_models(setup)]))


def _agents(setup: Setup, beginning: str) -> Sequence[str]:
    from afkcli.config.merging import DEFAULT_AGENT

    return sorted({DEFAULT_AGENT, *setup.config.agents()})


def _tools(setup: Setup, beginning: str) -> Sequence[str]:
    """Return the tools of plugins, and the namespaces of servers, which are not started for this."""
    from afkcli.core.contract.tools import as_tools
    from afkcli.wiring.plugin_objects import make_tools

    names: list[str] = []
    for plugin in setup.plugins.names("tools"):
        with contextlib.suppress(Exception):  # usually it is not configured
            made: Any = make_tools(setup, plugin)
            if hasattr(made, "list_tools"):
                names += [f"{namespace}.*" for namespace in made.namespaces]
            else:
                names += [f"{plugin}.*", *as_tools(made)]
    return names
