"""What the commands on threads share: the store of this folder, and the owner of the leases that they take."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from afkcli.commands.context import invocation
from afkcli.core.contract.errors import UsageError
from afkcli.host.collecting import collect_again

if TYPE_CHECKING:
    from afkcli.core.contract.protocols import Owner, Store, ThreadInfo
    from afkcli.host.invocation import Invocation
    from afkcli.screen.messages import Messages


@contextlib.contextmanager
def opened_store(doing: str = "reading the threads") -> Iterator[Store]:
    """Open the store that `afk run` uses in this folder, and close it at the end.

    Args:
        doing: what a terminal shows where that takes long.
    """
    from afkcli.screen.display import shown_activity
    from afkcli.screen.messages import Messages
    from afkcli.wiring.assembly import load_setup
    from afkcli.wiring.plugin_objects import open_store

    start = invocation()
    with shown_activity(start, Messages(start), doing):
        store = open_store(load_setup(start, project=True))
        collect_again()  # what is imported is there
        try:
            yield store
        finally:
            store.close()


@contextlib.contextmanager
def opened_stores(doing: str, name: str) -> Iterator[tuple[Store, Store]]:
    """Open the store that `afk run` uses in this folder, and the store `name`, and close both at the end.

    Raises:
        UsageError: they are the same.
    """
    from afkcli.screen.display import shown_activity
    from afkcli.screen.messages import Messages
    from afkcli.wiring.assembly import load_setup
    from afkcli.wiring.plugin_objects import open_store, store_name

    start = invocation()
    with contextlib.ExitStack() as opened:
        opened.enter_context(shown_activity(start, Messages(start), doing))
        setup = load_setup(start, project=True)
        if store_name(setup) == name:
            raise UsageError(f"the threads are in the store {name!r} already; name another one, or set AFK_STORE")
        stores = []
        for one in (None, name):
            stores.append(open_store(setup, one))
            opened.callback(stores[-1].close)
        collect_again()
        yield stores[0], stores[1]


class LoggedThread(NamedTuple):
    """The names and keys by which events of a thread are known, and why no thread was found in the store, or ""."""

    names: frozenset[str]
    unknown: str = ""


def thread_in_logs(text: str) -> LoggedThread:
    """Return by what events of the thread that `text` means are known: `text`, and its name and key if it is stored.

    A log may have threads that were deleted, that will begin, or that are of another place, and it can be read without
    the store: so a text that means no stored thread is no error.

    Raises:
        UsageError: `text` may mean several threads, or is not a valid name.
    """
    from afkcli.core.contract.errors import AfkError, UnknownNameError
    from afkcli.core.thread.lookup import thread_meant

    try:
        with opened_store() as store:
            thread = thread_meant(store, text)
    except AfkError as error:
        if isinstance(error, UsageError) and not isinstance(error, UnknownNameError):
            raise
        return LoggedThread(frozenset({text}), str(error))
    return LoggedThread(frozenset({text, thread.name, thread.key}))


def last_used(store: Store, folder: str | None) -> ThreadInfo:
    """Return the thread that was last used in `folder`; `UsageError` if there is none."""
    for info in store.list(limit=1, folder=folder):
        return info
    raise UsageError(f"no thread was used in {folder} yet; name a thread")


def last_used_anywhere(store: Store, invocation: Invocation, messages: Messages) -> ThreadInfo:
    """Return the thread last used in the folder of `invocation`, else the one last used anywhere; say which it is.

    Raises:
        UsageError: there are no threads yet.
    """
    for folder in (invocation.folder, None):
        for info in store.list(limit=1, folder=folder):
            elsewhere = "" if folder is not None else f", last used in {info.folder or 'no folder'}"
            messages.say(f"thread {info.name}{elsewhere}")
            return info
    raise UsageError("there are no threads yet; `afk run MESSAGE` starts one")


def command_owner() -> Owner:
    """Return who holds a lease that a command takes: this process, with an id of its own in place of a run's."""
    from afkcli.core.contract.ids import uuid7
    from afkcli.host.owner import current_owner

    return current_owner(uuid7())
