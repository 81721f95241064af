"""`afk threads export`: one thread or all of them, whole, also while runs write to them."""

from __future__ import annotations

from collections.abc import Iterator

import click

from afkcli.commands.completion import complete_thread
from afkcli.commands.output_file import write_file
from afkcli.commands.thread_access import find_thread, opened_store, settled
from afkcli.core.contract.errors import EXIT_INTERNAL, AfkError, StoreError, UnknownNameError, UsageError
from afkcli.core.contract.jsonform import JsonError
from afkcli.core.contract.protocols import Record, Store, ThreadInfo
from afkcli.core.thread.contents import LostContentError, read_content
from afkcli.core.thread.exchange import Refused, content_line, end_line, named_contents, read_lines, thread_lines
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout
from afkcli.screen.text import visible, visible_json

_SNAPSHOT_TRIES = 20


class _TooLongError(AfkError):
    """A record of a thread is longer than a line may be; nothing of the thread was yielded."""


@click.command("export")
@click.argument("name", required=False, shell_complete=complete_thread)
@click.option("--all", "every", is_flag=True, help="Write all threads as JSON; a turn that is running as far as it is.")
@click.option("--output", "-o", metavar="FILE", help="Write to FILE (readable by you alone) instead of stdout.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "markdown"]),
    default="json",
    show_default=True,
    help="json: the thread's metadata, then its records to the letter, an object a line; markdown: for people.",
)
def export(name: str | None, every: bool, output: str | None, form: str) -> None:
    """Write all of the thread NAME to stdout or a file; `afk threads import` takes the JSON back."""
    if every == (name is not None):
        raise UsageError("name the thread to export, or say --all")
    if every and form != "json":
        raise UsageError("--all writes JSON; name a thread to have it as Markdown")
    left_out: list[str] = []
    with opened_store() as store:
        pieces = _all(store, left_out) if name is None else _one(store, name, form)
        if output is None or output == "-":
            stdout = Stdout()
            for piece in pieces:
                stdout.write(_shown(piece, form) if stdout.is_terminal else piece)
        else:
            write_file(output, pieces)
            Messages().say(f"wrote {output}")
    if left_out:
        raise click.exceptions.Exit(EXIT_INTERNAL)


def _one(store: Store, name: str, form: str) -> Iterator[str]:
    thread, state = settled(store, find_thread(store, name))
    thread, records = _snapshot(store, thread)
    if form == "markdown":
        yield _as_markdown(thread, records, state)
    else:
        yield from _as_jsonl(store, thread, records)
        yield end_line(1)


def _shown(piece: str, form: str) -> str:
    """Return what a terminal gets of an export."""
    if form == "markdown":
        return visible(piece)
    return "".join(f"{visible_json(line)}\n" for line in piece.removesuffix("\n").split("\n"))


def _all(store: Store, left_out: list[str]) -> Iterator[str]:
    """Yield all threads by age, each as it is at one moment. Nothing is written to the store, not even a seal.

    A thread that no file can hold is told, and its name goes into `left_out`.
    """
    count = 0
    for info in sorted(store.list(), key=lambda info: info.key):
        taken = _taken(store, info)
        if taken is None:
            continue
        try:
            yield from _as_jsonl(store, *taken)
            count += 1
        except _TooLongError as error:
            left_out.append(taken[0].name)
            Messages().error(str(error))
    yield end_line(count)


def _taken(store: Store, info: ThreadInfo) -> tuple[ThreadInfo, list[Record]] | None:
    """Return the thread and its records by whatever name it has now, or None if it was deleted meanwhile."""
    named: ThreadInfo | None = info
    while named is not None:
        try:
            thread, records = _snapshot(store, named)
        except UnknownNameError:
            pass
        else:
            if thread.key == info.key:
                return thread, records
        named = next((other for other in store.list() if other.key == info.key), None)
    return None


def _snapshot(store: Store, thread: ThreadInfo) -> tuple[ThreadInfo, list[Record]]:
    """Return a thread and its records as they were at one moment, also while a run writes to it."""
    for _ in range(_SNAPSHOT_TRIES):
        before = find_thread(store, thread.name)
        records = list(store.load(before.key))
        if find_thread(store, thread.name).head == before.head:
            return before, records
    raise StoreError(f"the thread {thread.name!r} is written to all the time; export it when its run has ended")


def _as_jsonl(store: Store, thread: ThreadInfo, records: list[Record]) -> Iterator[str]:
    """Yield the lines of a thread, read as an import will, so that damage is known when there is still a store."""
    try:
        lines = list(thread_lines(thread, records))
    except JsonError as error:
        raise _TooLongError(
            f"the thread {thread.name!r} is not exported: {error}; `--format markdown` writes it for people"
        ) from None
    for item in read_lines(line.encode() for line in lines):
        if isinstance(item, Refused):
            Messages().warn(f"{item.what}; it is exported as it is, and an import will refuse it")
    yield "".join(lines)
    for sha256, name in named_contents(records).items():
        try:
            yield content_line(sha256, read_content(store, thread.key, sha256))
        except (LostContentError, StoreError) as error:
            what = error if isinstance(error, LostContentError) else f"cannot be read ({error})"
            line = f"the content of {name} in the thread {thread.name!r} {what}"
            Messages().warn(f"{line}; the thread is exported without it")


def _as_markdown(thread: ThreadInfo, records: list[Record], state: str | None) -> str:
    from afkcli.commands.conversation import markdown, turns_of
    from afkcli.core.thread.history import read_history

    history = read_history(thread, records)
    for line in history.damage:
        Messages().warn(line)
    return markdown(thread, turns_of(thread, history, state))
