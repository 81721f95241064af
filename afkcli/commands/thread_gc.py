"""`afk threads gc`: deletes unnamed threads that are old, by a rule of the config, and what is left over.

Since: 0.2.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from afkcli.commands.base import Command
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.thread_access import command_owner, opened_store
from afkcli.core.contract.ids import rfc3339
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.text import in_mb
from afkcli.core.contract.waits import progress
from afkcli.core.thread.aging import delete_forgotten, forgotten_threads, is_restored
from afkcli.core.thread.exchange import RescuedTurn, read_lines
from afkcli.host.rescue import RescueFile, rescue_files
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout
from afkcli.screen.tables import write_table
from afkcli.screen.times import ago
from afkcli.wiring.assembly import load_setup

if TYPE_CHECKING:
    from afkcli.core.contract.protocols import Leftovers, Store, ThreadInfo

_DAY = 86400
_KEY = "[threads] keep_unnamed_days"


@click.command(
    "gc",
    cls=Command,
    examples=(
        ("afk threads gc --dry-run", "show what would be deleted"),
        ("afk threads gc", "delete it"),
    ),
)
@click.option("--dry-run", is_flag=True, help="Delete nothing; show what would be deleted.")
@json_option
def gc(dry_run: bool, as_json: bool) -> None:
    """Delete unnamed threads that were not used for as many days as the config says, and what is left over.

    The rule is `keep_unnamed_days` in `[threads]` of your config; without it all threads are kept. A thread that has a
    name or a tag, that is in use, or whose last turn is not finished, is never deleted. Left over are rescue files
    whose turn was restored, and attachments without a thread.
    """
    stdout, messages = Stdout(invocation()), Messages(invocation())
    days = load_setup(invocation(), project=True).config.keep_unnamed_days()
    with opened_store("looking for threads to delete") as store:
        restored, waiting = _rescued(store)
        threads = list(_threads(store, days, waiting, dry_run=dry_run)) if days else []
        dropped = _drop_leftovers(store, dry_run=dry_run)
        files = [file for file in restored if dry_run or _is_removed(file, messages)]
    if as_json:
        stdout.objects(_forms(threads, files, dropped, dry_run=dry_run))
    elif threads:
        rows = [(info.name, ago(info.used), str(info.turns), info.title or "") for info in threads]
        write_table(stdout, ("NAME", "USED", "TURNS", "TITLE"), rows, prose=True)
    _say(messages, days, threads, files, dropped, dry_run=dry_run)


def _threads(store: Store, days: int, waiting: set[str], *, dry_run: bool) -> Iterator[ThreadInfo]:
    """Yield the threads that are deleted, or would be."""
    before = rfc3339(time.time() - days * _DAY)
    found = list(forgotten_threads(store, before, waiting))
    with progress("looking at old threads" if dry_run else "deleting threads") as tell:
        for number, info in enumerate(found):
            tell(number, len(found))
            if dry_run:
                if store.holder(info.name) is None:
                    yield info
            elif delete_forgotten(store, info, before, command_owner):
                yield info


def _rescued(store: Store) -> tuple[list[RescueFile], set[str]]:
    """Return the rescue files whose turn was restored, and the names of the threads that the others wait for."""
    restored: list[RescueFile] = []
    waiting: set[str] = set()
    for file in rescue_files():
        turn = None if file.is_open else _turn_of(file)
        if turn is not None and is_restored(store, turn):
            restored.append(file)
        else:
            waiting.add(file.thread_id)
    return restored, waiting


def _turn_of(file: RescueFile) -> RescuedTurn | None:
    """Return the turn in a rescue file, None if it cannot be read or is not all there."""
    try:
        with file.path.open("rb") as stream:
            items = list(read_lines(stream))
    except OSError:
        return None
    turn = items[0] if len(items) == 1 else None
    return turn if isinstance(turn, RescuedTurn) and not turn.missing else None


def _drop_leftovers(store: Store, *, dry_run: bool) -> Leftovers | None:
    drop = getattr(store, "drop_leftovers", None)
    found: Leftovers | None = drop(dry_run=dry_run) if drop is not None else None
    return found if found is not None and found.contents else None


def _is_removed(file: RescueFile, messages: Messages) -> bool:
    try:
        file.path.unlink(missing_ok=True)
    except OSError as error:
        messages.warn(f"the rescue file {file.path} cannot be removed: {error.strerror}")
        return False
    return True


def _forms(
    threads: list[ThreadInfo], files: list[RescueFile], dropped: Leftovers | None, *, dry_run: bool
) -> Iterator[JsonObject]:
    head = {"v": 1, "type": "would_delete" if dry_run else "deleted"}
    for info in threads:
        shown = {"used": info.used, "turns": info.turns, "title": info.title}
        yield {**head, "what": "thread", "thread_id": info.name, "thread_key": info.key, **shown}
    for file in files:
        yield {
            **head,
            "what": "rescue_file",
            "file": str(file.path),
            "thread_id": file.thread_id,
            "run_id": file.run_id,
        }
    if dropped is not None:
        yield {**head, "what": "contents", "count": dropped.contents, "bytes": dropped.size}


def _say(
    messages: Messages,
    days: int,
    threads: list[ThreadInfo],
    files: list[RescueFile],
    dropped: Leftovers | None,
    *,
    dry_run: bool,
) -> None:
    if not days:
        messages.say(f"unnamed threads are kept: {_KEY} is 0; set it in your config to delete old ones")
    age = "1 day" if days == 1 else f"{days} days"
    what = [_counted(len(threads), f"unnamed thread that was not used for {age}")] if days else []
    what += [_counted(len(files), "rescue file whose turn was restored")] if files else []
    if dropped is not None:
        what.append(f"{_counted(dropped.contents, 'attachment')} without a thread ({in_mb(dropped.size)})")
    if what:
        messages.say(f"{'would delete' if dry_run else 'deleted'} {', '.join(what)}")


def _counted(count: int, what: str) -> str:
    """Return a count of things; of several, each word that has to be is in the plural."""
    if count == 1:
        return f"1 {what}"
    for one, several in (("thread that was", "threads that were"), ("file whose", "files whose")):
        if one in what:
            return f"{count:,} {what.replace(one, several)}"
    return f"{count:,} {what}s"
