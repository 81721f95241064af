"""The list of `afk threads`: what is shown of it is read, and what it does not use is not imported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypedDict

from afkcli.commands.context import invocation
from afkcli.commands.thread_access import command_owner, opened_store
from afkcli.core.contract.errors import UnknownNameError
from afkcli.core.thread.listing import RUNNING, each_thread, thread_count
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout
from afkcli.screen.styles import GREEN, YELLOW
from afkcli.screen.tables import write_table
from afkcli.screen.times import ago

if TYPE_CHECKING:
    from afkcli.core.contract.protocols import Store, ThreadInfo

_OTHER_LINES = 3
"""What a list on a terminal leaves free: the head, the line about the others, and the prompt."""
_NO_THREADS = "there are no threads yet; `afk run MESSAGE` starts one"
_STYLES = {RUNNING: GREEN, "interrupted": YELLOW, "failed": YELLOW}


def list_threads(*, limit: int | None, search: str | None, here: bool, every: bool, as_json: bool) -> None:
    """Write the list; the arguments are the options of the command."""
    wanted = _Wanted(search=search, folder=invocation().folder if here else None)
    stdout = Stdout(invocation())
    with opened_store() as store:
        if as_json:
            shown = _write_objects(stdout, _seen(store, _threads(store, wanted, limit)))
        elif stdout.is_terminal and limit is None and not every:
            shown = _write_what_fits(store, stdout, wanted)
        else:
            shown = _write_rows(stdout, list(_seen(store, _threads(store, wanted, limit))))
    if not shown:
        narrowed = search is not None or here
        Messages(invocation()).say("no thread matches" if narrowed else _NO_THREADS)


class _Wanted(TypedDict):
    """Which threads are listed, as the store is asked."""

    search: str | None
    folder: str | None


_Seen: TypeAlias = "tuple[ThreadInfo, str | None]"
"""A thread and its state."""


def _threads(store: Store, wanted: _Wanted, limit: int | None) -> Iterable[ThreadInfo]:
    return each_thread(store, **wanted) if limit is None else store.list(limit=limit, **wanted)


def _seen(store: Store, threads: Iterable[ThreadInfo]) -> Iterator[_Seen]:
    """Yield the threads as they are now, without those that were deleted or renamed meanwhile."""
    for info in threads:
        with contextlib.suppress(UnknownNameError):
            yield _settled(store, info)


def _settled(store: Store, info: ThreadInfo) -> _Seen:
    if info.open_turn is None:  # nearly all of a list; what seals a turn is not imported for them
        return info, info.last_state
    from afkcli.core.thread.operations import settled

    return settled(store, info, command_owner)


def _write_objects(stdout: Stdout, threads: Iterable[_Seen]) -> int:
    """Write an object a thread while the threads are read, and return how many there were."""
    from afkcli.commands.conversation import thread_form

    return stdout.objects(thread_form(*seen) for seen in threads)


def _write_what_fits(store: Store, stdout: Stdout, wanted: _Wanted) -> int:
    """Write as many threads as the terminal shows, and how many more there are; return how many were written."""
    fitting = max(1, stdout.lines_shown() - _OTHER_LINES)
    found = store.list(limit=fitting + 1, **wanted)
    if len(found) <= fitting:
        return _write_rows(stdout, list(_seen(store, found)))
    more = thread_count(store, **wanted) - fitting
    shown = _write_rows(stdout, list(_seen(store, found[:fitting])))
    Messages(invocation()).say(f"{more:,} more; --all shows all threads, --limit N the last N")
    return shown


def _write_rows(stdout: Stdout, threads: Sequence[_Seen]) -> int:
    """Write a row a thread, and return how many there were."""
    rows = [
        (info.name, ago(info.used), str(info.turns), state or "", info.model or "", info.title or "")
        for info, state in threads
    ]
    styles = [_STYLES.get(state or "", "") for _, state in threads]
    if rows:
        write_table(stdout, ("NAME", "USED", "TURNS", "STATE", "MODEL", "TITLE"), rows, styles)
    return len(rows)
