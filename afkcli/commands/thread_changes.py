"""`afk threads undo`, `redo`, `fork` and `tag`: changes of a thread that delete nothing."""

from __future__ import annotations

from collections.abc import Sequence

import click

from afkcli.commands.base import Command
from afkcli.commands.completion import complete_thread
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.number_types import WholeNumber
from afkcli.commands.thread_access import command_owner, last_used, opened_store
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.protocols import Store, ThreadInfo
from afkcli.core.contract.text import collapsed
from afkcli.core.thread.lookup import thread_meant
from afkcli.core.thread.names import check_name, numbered_names
from afkcli.core.thread.operations import fork as fork_thread
from afkcli.core.thread.operations import held, settled
from afkcli.core.thread.operations import tag as tag_thread
from afkcli.core.thread.turns import SealedTurn
from afkcli.core.thread.undoing import Changed
from afkcli.core.thread.undoing import redo as redo_turns
from afkcli.core.thread.undoing import undo as undo_turns
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout

_SHOWN = 60  # characters of a question


@click.command(
    "undo",
    cls=Command,
    examples=(
        ("afk threads undo", "the last question in this folder"),
        ("afk threads undo trip -n 2", "the last two of the thread `trip`"),
    ),
)
@click.argument("name", required=False, shell_complete=complete_thread)
@click.option("--number", "-n", "count", type=WholeNumber(min=1), default=1, metavar="N", help="Undo N questions.")
@json_option
def undo(name: str | None, count: int, as_json: bool) -> None:
    """Undo the last question of the thread NAME with its answer; without NAME, of the thread last used in this folder.

    What is undone is set aside: it is not sent to the model any more. Nothing is deleted, and `redo` takes it back. If
    `compact` was used after the last question, that is undone first.
    """
    with opened_store() as store:
        info = thread_meant(store, name) if name is not None else last_used(store, invocation().folder)
        with held(store, info.name, command_owner()) as lease:
            changed = undo_turns(store, lease, count)
    _report("undone", changed, as_json)


@click.command(
    "redo",
    cls=Command,
    examples=(
        ("afk threads redo", "take back the last undo in this folder"),
        ("afk threads redo trip", "that of the thread `trip`"),
    ),
)
@click.argument("name", required=False, shell_complete=complete_thread)
@json_option
def redo(name: str | None, as_json: bool) -> None:
    """Take back the last undo of the thread NAME; without NAME, of the thread last used in this folder."""
    with opened_store() as store:
        info = thread_meant(store, name) if name is not None else last_used(store, invocation().folder)
        with held(store, info.name, command_owner()) as lease:
            changed = redo_turns(store, lease)
    _report("redone", changed, as_json)


def _report(kind: str, changed: Changed, as_json: bool) -> None:
    messages, thread = Messages(invocation()), changed.lease.thread
    for turn in reversed(changed.gone):
        messages.say(f"turn {turn.turn} of {thread.name!r} is set aside: {_question(turn)}")
    for turn in changed.back:
        messages.say(f"turn {turn.turn} of {thread.name!r} is back: {_question(turn)}")
    for compaction in changed.gone_compactions:
        messages.say(f"the summary of the turns of {thread.name!r} up to {compaction.through} is not sent any more")
    for compaction in changed.back_compactions:
        messages.say(f"the summary of the turns of {thread.name!r} up to {compaction.through} is back")
    if as_json:
        more = {
            name: [compaction.id for compaction in compactions]
            for name, compactions in (
                ("compactions_set_aside", changed.gone_compactions),
                ("compactions_back", changed.back_compactions),
            )
        }
        _write(kind, thread, set_aside=_numbers(changed.gone), back=_numbers(changed.back), **more)


def _question(turn: SealedTurn) -> str:
    return collapsed(turn.messages[0].text, _SHOWN) if turn.messages else "(its question is damaged)"


def _numbers(turns: Sequence[SealedTurn]) -> list[int]:
    return [turn.turn for turn in turns]


@click.command(
    "fork",
    cls=Command,
    examples=(
        ("afk threads fork trip", "a copy, named `trip-2`"),
        ("afk threads fork trip alps --at 3", "of the first three turns, named `alps`"),
    ),
)
@click.argument("name", shell_complete=complete_thread)
@click.argument("new", required=False)
@click.option("--at", type=WholeNumber(min=1), metavar="TURN", help="The last turn to take over; the last by default.")
@json_option
def fork(name: str, new: str | None, at: int | None, as_json: bool) -> None:
    """Make a new thread, named NEW, of the turns of the thread NAME, and write its name to stdout.

    Without NEW the name is that of NAME with the next free number. TURN may be set aside: with --at the fork has the
    turns as they were when TURN was the last one.
    """
    with opened_store() as store:
        info, _ = settled(store, thread_meant(store, name), command_owner)
        wanted = check_name(new) if new is not None else _free_name(store, info.name)
        lease = fork_thread(store, info, wanted, command_owner(), at=at, must_have_turns=True)
        store.release(lease)
    thread = lease.thread
    Messages(invocation()).say(f"{thread.name!r} has the turns of {info.name!r} up to turn {thread.turns}")
    if as_json:
        _write("forked", thread, source=info.name, turn=thread.turns)
    else:
        Stdout(invocation()).lines([thread.name])


def _free_name(store: Store, name: str) -> str:
    """Return `name` with the first number that no thread has."""
    for tried in numbered_names(name):
        if store.find(tried) is None:
            return tried
    raise UsageError(f"all numbered names of {name!r} are taken; give the fork a name")


@click.command(
    "tag",
    cls=Command,
    examples=(
        ("afk threads tag trip travel", "add the tag `travel`"),
        ("afk threads tag trip -r travel", "remove it"),
        ("afk threads tag trip", "show all tags"),
    ),
)
@click.argument("name", shell_complete=complete_thread)
@click.argument("tags", nargs=-1, metavar="[TAG]...")
@click.option("--remove", "-r", multiple=True, metavar="TAG", help="Remove this tag; may be given more than once.")
@json_option
def tag(name: str, tags: tuple[str, ...], remove: tuple[str, ...], as_json: bool) -> None:
    """Add each TAG to the thread NAME, and write all its tags to stdout."""
    with opened_store() as store:
        thread = thread_meant(store, name)
        if tags or remove:
            with held(store, thread.name, command_owner()) as lease:
                thread = tag_thread(store, lease, tags, remove)
    if as_json:
        _write("tagged", thread, tags=list(thread.tags))
    else:
        stdout = Stdout(invocation())
        stdout.lines(stdout.text(name) for name in thread.tags)


def _write(kind: str, thread: ThreadInfo, **more: object) -> None:
    form: JsonObject = {"v": 1, "type": kind, "thread_id": thread.name, "thread_key": thread.key, **more}
    Stdout(invocation()).objects([form])
