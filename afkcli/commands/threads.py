"""`afk threads`: list, show, rename and delete threads; export, import and resume have modules of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypedDict, TypeVar

import click

from afkcli.commands.completion import complete_thread
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.number_types import WholeNumber
from afkcli.commands.thread_access import command_owner, opened_store
from afkcli.commands.thread_changes import fork, redo, tag, undo
from afkcli.commands.thread_export import export
from afkcli.commands.thread_import import import_threads
from afkcli.commands.thread_resume import resume
from afkcli.core.contract.errors import EXIT_BUSY, ThreadBusyError, UnknownNameError, UsageError
from afkcli.core.contract.protocols import Store, ThreadInfo
from afkcli.core.thread.history import load_history
from afkcli.core.thread.listing import each_thread, thread_count
from afkcli.core.thread.names import check_name
from afkcli.core.thread.operations import RUNNING, find_thread, held, settled
from afkcli.core.thread.operations import rename as rename_thread
from afkcli.screen.messages import Messages
from afkcli.screen.questions import confirmed
from afkcli.screen.streams import Stdout
from afkcli.screen.styles import GREEN, YELLOW
from afkcli.screen.tables import write_table

F = TypeVar("F", bound=Callable[..., Any])

_OTHER_LINES = 3
"""What a list on a terminal leaves free: the head, the line about the others, and the prompt."""
_NO_THREADS = "there are no threads yet; `afk run MESSAGE` starts one"
_STYLES = {RUNNING: GREEN, "interrupted": YELLOW, "failed": YELLOW}


def _name_argument(name: str = "name", **options: Any) -> Callable[[F], F]:
    return click.argument(name, shell_complete=complete_thread, **options)


@click.group("threads", invoke_without_command=True)
@click.option("--limit", "-n", type=WholeNumber(min=1), metavar="N", help="Show only the N threads last used.")
@click.option("--search", "-q", metavar="WORDS", help="Show only threads that contain all WORDS.")
@click.option("--here", is_flag=True, help="Show only threads that were last used in this folder.")
@click.option("--all", "every", is_flag=True, help="On a terminal, show all threads, also if they do not fit.")
@json_option
@click.pass_context
def command(ctx: click.Context, limit: int | None, search: str | None, here: bool, every: bool, as_json: bool) -> None:
    """List threads, the last used first."""
    if ctx.invoked_subcommand is not None:
        if limit is not None or search is not None or here or every or as_json:
            raise UsageError(f"options before {ctx.invoked_subcommand!r} belong to the list; put yours after it")
        return
    if limit is not None and every:
        raise UsageError("use --limit or --all, not both")
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


_Seen = tuple[ThreadInfo, str | None]
"""A thread and its state."""


def _threads(store: Store, wanted: _Wanted, limit: int | None) -> Iterable[ThreadInfo]:
    return each_thread(store, **wanted) if limit is None else store.list(limit=limit, **wanted)


def _seen(store: Store, threads: Iterable[ThreadInfo]) -> Iterator[_Seen]:
    """Yield the threads as they are now, without those that were deleted or renamed meanwhile."""
    for info in threads:
        with contextlib.suppress(UnknownNameError):
            yield settled(store, info, command_owner)


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
    from afkcli.commands.conversation import ago

    rows = [
        (info.name, ago(info.used), str(info.turns), state or "", info.model or "", info.title or "")
        for info, state in threads
    ]
    styles = [_STYLES.get(state or "", "") for _, state in threads]
    if rows:
        write_table(stdout, ("NAME", "USED", "TURNS", "STATE", "MODEL", "TITLE"), rows, styles)
    return len(rows)


@command.command("show")
@_name_argument()
@click.option("--all", "every", is_flag=True, help="Show the turns that are set aside too.")
@json_option
def show(name: str, every: bool, as_json: bool) -> None:
    """Show the conversation of the thread NAME; with --json one object a turn.

    Turns that were undone or asked again are set aside: they are shown with --all only.
    """
    from afkcli.commands.conversation import shown_turn, turn_form, turns_of

    with opened_store() as store:
        thread, state = settled(store, find_thread(store, name), command_owner)
        history = load_history(store, thread)
    messages, stdout = Messages(invocation()), Stdout(invocation())
    for line in history.damage:
        messages.warn(line)
    found = turns_of(thread, history, state)
    turns = [turn for turn in found if every or turn.set_aside is None]
    if len(turns) < len(found):
        aside = len(found) - len(turns)
        messages.say(f"{aside} turn{' is' if aside == 1 else 's are'} set aside; `--all` shows all turns")
    elif not turns:
        messages.say(f"the thread {thread.name!r} has no turn that can be shown")
    if as_json:
        stdout.objects(turn_form(thread, turn) for turn in turns)
    else:
        stdout.lines(line for turn in turns for line in shown_turn(stdout, turn))


@command.command("rm")
@_name_argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
def remove(names: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Delete threads with all their messages. It asks first; without a terminal it needs --yes."""
    messages, stdout = Messages(invocation()), Stdout(invocation())
    busy = 0
    with opened_store() as store:
        threads = {info.key: info for info in (find_thread(store, name) for name in names)}
        if not confirmed(invocation(), _rm_question(list(threads.values())), yes=yes):
            messages.say("nothing was deleted")
            return
        for info in threads.values():
            try:
                with held(store, info.name, command_owner(), seal=False) as lease:
                    store.delete(lease)
            except ThreadBusyError as error:
                messages.error(f"not deleted: {error}")
                busy += 1
                continue
            messages.say(f"deleted {info.name!r}")
            if as_json:
                stdout.objects([{"v": 1, "type": "deleted", "thread_id": info.name, "thread_key": info.key}])
    if busy:
        raise click.exceptions.Exit(EXIT_BUSY)


def _rm_question(threads: list[ThreadInfo]) -> str:
    names = ", ".join(repr(info.name) for info in threads)
    turns = sum(info.turns for info in threads)
    what = "the thread" if len(threads) == 1 else f"{len(threads)} threads"
    return f"Delete {what} {names} ({turns} turn{'' if turns == 1 else 's'})?"


@command.command("rename")
@_name_argument("old")
@click.argument("new")
@json_option
def rename(old: str, new: str, as_json: bool) -> None:
    """Give the thread OLD the name NEW."""
    new = check_name(new)
    with opened_store() as store:
        info = find_thread(store, old)
        with held(store, info.name, command_owner()) as lease:
            rename_thread(store, lease, new)
    Messages(invocation()).say(f"{info.name!r} is now {new!r}")
    if as_json:
        Stdout(invocation()).objects(
            [{"v": 1, "type": "renamed", "thread_id": new, "thread_key": info.key, "was": info.name}]
        )


command.add_command(undo)
command.add_command(redo)
command.add_command(fork)
command.add_command(tag)
command.add_command(export)
command.add_command(import_threads)
command.add_command(resume)
