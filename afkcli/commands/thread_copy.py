"""`afk threads copy`: threads from the store in use into another one.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from afkcli.commands.base import Command
from afkcli.commands.completion import complete_thread
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.thread_access import command_owner, opened_stores
from afkcli.core.contract.errors import (
    EXIT_BUSY,
    EXIT_OK,
    EXIT_USAGE,
    ConflictError,
    ThreadBusyError,
    UnknownNameError,
    UnsupportedRecordError,
)
from afkcli.core.contract.waits import progress
from afkcli.core.thread.copying import Copier
from afkcli.core.thread.lookup import thread_meant
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout

if TYPE_CHECKING:
    from afkcli.core.contract.protocols import Store, ThreadInfo

_WORDS = {
    "imported": "copied",
    "appended": "continued there",
    "present": "already there",
    "refused": "refused",
    "busy": "in use",
}


@click.command(
    "copy",
    cls=Command,
    examples=(
        ("afk threads copy --to postgres", "all threads; run it again to go on after a break"),
        ("afk threads copy trip soup --to postgres", "two of them"),
    ),
)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_thread)
@click.option("--to", "target", required=True, metavar="STORE", help="The store that gets the threads, by its name.")
@json_option
def copy(names: tuple[str, ...], target: str, as_json: bool) -> None:
    """Copy threads from the store in use into STORE: those named NAME, or all.

    They keep their keys, turns and attachments, and stay where they are. A thread that is there already is not changed,
    but turns that it does not have yet are added. A thread is refused if STORE has another one of its name or if it is
    damaged (exit code 2), or if a run uses it (exit code 5). Budgets and rules that were allowed for a thread are not
    copied.
    """
    messages = Messages(invocation())
    stdout = Stdout(invocation()) if as_json else None
    counts = dict.fromkeys(_WORDS, 0)
    with opened_stores("copying threads", target) as (source, other):
        copier = Copier(source, other, command_owner, messages.warn)
        try:
            for info in _in_progress(_wanted(source, names)):
                _copy(copier, info, counts, messages, stdout)
        finally:
            said = ", ".join(f"{count} {_WORDS[outcome]}" for outcome, count in counts.items() if count)
            messages.say(said or "there are no threads to copy")
    raise click.exceptions.Exit(EXIT_USAGE if counts["refused"] else EXIT_BUSY if counts["busy"] else EXIT_OK)


def _copy(copier: Copier, info: ThreadInfo, counts: dict[str, int], messages: Messages, stdout: Stdout | None) -> None:
    """Copy one thread, or say why it is refused."""
    try:
        restored = copier.copy(info)
    except UnknownNameError:  # it was deleted meanwhile
        return
    except (ConflictError, ThreadBusyError, UnsupportedRecordError) as error:
        counts["busy" if isinstance(error, ThreadBusyError) else "refused"] += 1
        messages.error(str(error))
        return
    counts[restored.outcome] += 1
    if stdout is not None:
        outcome = "copied" if restored.outcome == "imported" else restored.outcome
        form = {"v": 1, "type": outcome, "thread_id": restored.thread.name, "thread_key": restored.thread.key}
        stdout.objects([{**form, "turns": restored.thread.turns}])


def _wanted(store: Store, names: Sequence[str]) -> list[ThreadInfo]:
    """Return the threads that are meant, the eldest first."""
    found = [thread_meant(store, name) for name in names] if names else list(store.list())
    return sorted({info.key: info for info in found}.values(), key=lambda info: info.key)


def _in_progress(threads: Sequence[ThreadInfo]) -> Iterator[ThreadInfo]:
    with progress("copying threads") as tell:
        for number, info in enumerate(threads):
            tell(number, len(threads))
            yield info
