"""The list of `afk threads`: what is shown of it is read, and what it does not use is not imported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from afkcli.commands.context import invocation
from afkcli.commands.thread_access import command_owner, opened_store
from afkcli.core.contract.errors import UnknownNameError
from afkcli.core.contract.listing import ThreadFilter
from afkcli.core.contract.text import dollars
from afkcli.core.thread.listing import RUNNING, each_thread, short_names, thread_page
from afkcli.host.ending import Ending
from afkcli.screen.columns import Column, Columns
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout
from afkcli.screen.styles import GREEN, YELLOW
from afkcli.screen.times import age, ago

if TYPE_CHECKING:
    from afkcli.core.contract.protocols import Store, ThreadInfo

_OTHER_LINES = 3
"""What a list on a terminal leaves free: the head, the line about the others, and the prompt."""
_NO_THREADS = "there are no threads yet; `afk run MESSAGE` starts one"
_STYLES = {RUNNING: GREEN, "interrupted": YELLOW, "failed": YELLOW}
_WIDE = 100
"""The width of a terminal from which the state and the model have columns of their own."""
_COLUMNS = (
    Column("NAME", least=8),
    Column("USED"),
    Column("TURNS", right=True),
    Column("STATE", needs=_WIDE),
    Column("MODEL", needs=_WIDE, least=12),
    Column("COST", right=True),
    Column("TITLE", prose=True),
)
_LONGEST_NAME = 40
"""The columns of a terminal that a name takes at most, however wide it is."""


def list_threads(
    wanted: Mapping[str, str | None], *, limit: int | None, here: bool, every: bool, as_json: bool
) -> Ending:
    """Write the list, and return how the command ended.

    The arguments are the options of the command, `wanted` those that are fields of a filter.
    """
    threads = ThreadFilter(**wanted, folder=invocation().folder if here else None)
    stdout = Stdout(invocation())
    with opened_store() as store:
        if as_json:
            shown = _write_objects(stdout, _seen(store, each_thread(store, threads, limit=limit)))
        elif not stdout.is_terminal:
            shown = _write_rows(store, stdout, list(_seen(store, each_thread(store, threads, limit=limit))))
        elif limit is None and not every:
            shown = _write_what_fits(store, stdout, threads)
        else:
            shown = _write_pages(store, stdout, each_thread(store, threads, limit=limit))
    if not shown:
        Messages(invocation()).say("no thread matches" if threads.is_narrow() else _NO_THREADS)
    return Ending(
        at_once=True
    )  # all is written and closed, and to take the interpreter apart takes a tenth of the time


_Seen: TypeAlias = "tuple[ThreadInfo, str | None]"
"""A thread and its state."""


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


def _write_what_fits(store: Store, stdout: Stdout, wanted: ThreadFilter) -> int:
    """Write as many threads as the terminal shows, and how many more there are; return how many were written."""
    found, total = thread_page(store, wanted, max(1, stdout.lines_shown() - _OTHER_LINES))
    shown = _write_rows(store, stdout, list(_seen(store, found)))
    if total > len(found):
        Messages(invocation()).say(f"{total - len(found):,} more; use --all or -n N")
    return shown


def _write_pages(store: Store, stdout: Stdout, threads: Iterator[ThreadInfo]) -> int:
    """Write threads a screen at a time, each read when it is shown; return how many were written."""
    from afkcli.screen.pages import go_on

    step, shown = max(1, stdout.lines_shown() - _OTHER_LINES + 1), 0
    page = list(islice(threads, step))
    while page:
        shown += _write_rows(store, stdout, list(_seen(store, page)))
        page = list(islice(threads, step))
        if page and not go_on(invocation(), "more threads"):
            break
    return shown


def _write_rows(store: Store, stdout: Stdout, threads: Sequence[_Seen]) -> int:
    """Write a row a thread, and return how many there were."""
    if not threads:
        return 0
    if stdout.is_terminal:
        short = short_names(store, [info.name for info, _ in threads])
        has_states = stdout.columns() >= _WIDE
        rows = [_row_on_terminal(*seen, short, has_states=has_states) for seen in threads]
    else:
        rows = [_row(info, state, info.name, ago(info.used), info.title or "") for info, state in threads]
    styles = [_STYLES.get(state or "", "") for _, state in threads]
    stdout.lines(Columns(stdout, _COLUMNS).lines(rows, styles))
    return len(rows)


def _row_on_terminal(
    info: ThreadInfo, state: str | None, short: Mapping[str, str], *, has_states: bool
) -> Sequence[str]:
    from afkcli.screen.text import shortened

    title = info.title or ""
    if not has_states and state not in ("completed", None):
        title = f"[{state}] {title}"
    return _row(info, state, shortened(short.get(info.name, info.name), _LONGEST_NAME), age(info.used), title)


def _row(info: ThreadInfo, state: str | None, name: str, used: str, title: str) -> Sequence[str]:
    cost = "" if info.cost_usd is None else dollars(info.cost_usd).replace("below ", "<")
    return (name, used, str(info.turns), state or "", info.model or "", cost, title)
