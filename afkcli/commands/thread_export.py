"""`afk threads export`: one thread or all of them, also while runs write to them."""

from __future__ import annotations

from collections.abc import Iterator

import click

from afkcli.commands.base import Command
from afkcli.commands.completion import complete_file, complete_thread
from afkcli.commands.context import invocation
from afkcli.commands.output_file import write_file
from afkcli.commands.thread_access import command_owner, opened_store
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.protocols import Store
from afkcli.core.contract.text import visible, visible_json
from afkcli.core.thread.export import export_all, export_thread, snapshot
from afkcli.core.thread.lookup import thread_meant
from afkcli.core.thread.operations import settled
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout


@click.command(
    "export",
    cls=Command,
    examples=(
        ("afk threads export trip -o trip.jsonl", "one thread, into a file"),
        ("afk threads export --all -o all.jsonl", "a backup of all threads"),
        ("afk threads export trip --format markdown", "for people"),
    ),
)
@click.argument("name", required=False, shell_complete=complete_thread)
@click.option(
    "--all",
    "every",
    is_flag=True,
    help="Write all threads as JSON, with the running turns as far as they are; with NAME and Markdown: also what is "
    "set aside.",
)
@click.option(
    "--output",
    "-o",
    shell_complete=complete_file,
    metavar="FILE",
    help="Write to FILE (readable by you alone) instead of stdout.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "markdown"]),
    default="json",
    show_default=True,
    help="json: the thread's metadata, then its records to the letter, an object a line; markdown: for people.",
)
def export(name: str | None, every: bool, output: str | None, form: str) -> None:
    """Write the whole thread NAME to stdout or a file; `afk threads import` reads the JSON."""
    if form == "json" and every == (name is not None):
        raise UsageError("name a thread, or use --all")
    if form != "json" and name is None:
        raise UsageError("name one thread for Markdown; --all without a name writes JSON")
    messages = Messages(invocation())
    with opened_store("exporting") as store:
        pieces = (
            _one(store, name, form, messages, every=every) if name is not None else export_all(store, messages.warn)
        )
        if output is None or output == "-":
            stdout = Stdout(invocation())
            for piece in pieces:
                stdout.write(_shown(piece, form) if stdout.is_terminal else piece)
        else:
            write_file(output, pieces)
            messages.say(f"wrote {output}")


def _one(store: Store, name: str, form: str, messages: Messages, *, every: bool) -> Iterator[str]:
    thread, state = settled(store, thread_meant(store, name), command_owner)
    if form == "json":
        yield from export_thread(store, thread, messages.warn)
        return
    from afkcli.commands.conversation import markdown, turns_of
    from afkcli.core.thread.history import fold

    taken = snapshot(store, thread)
    thread, history = taken.thread, fold(taken.thread, taken.records(store))
    for line in history.damage:
        messages.warn(line)
    turns = turns_of(thread, history, state)
    yield markdown(thread, [turn for turn in turns if every or turn.set_aside is None])


def _shown(piece: str, form: str) -> str:
    """Return what a terminal gets of an export."""
    if form == "markdown":
        return visible(piece)
    return visible_json(piece)
