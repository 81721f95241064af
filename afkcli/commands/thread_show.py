"""`afk threads show`: the conversation of a thread."""

from __future__ import annotations

import click

from afkcli.commands.completion import complete_thread
from afkcli.commands.context import invocation
from afkcli.commands.conversation import shown_turn, turn_form, turns_of, with_messages
from afkcli.commands.json_option import json_option
from afkcli.commands.thread_access import command_owner, opened_store
from afkcli.core.thread.export import snapshot
from afkcli.core.thread.history import outline, sealed_turns
from afkcli.core.thread.listing import RUNNING
from afkcli.core.thread.operations import find_thread, settled
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout


@click.command("show")
@click.argument("name", shell_complete=complete_thread)
@click.option("--all", "every", is_flag=True, help="Show the turns that are set aside too.")
@json_option
def show(name: str, every: bool, as_json: bool) -> None:
    """Show the conversation of the thread NAME; with --json one object a turn.

    Turns that were undone or asked again are set aside: they are shown with --all only.
    """
    messages, stdout = Messages(invocation()), Stdout(invocation())
    with opened_store() as store:
        thread, state = settled(store, find_thread(store, name), command_owner)
        taken = snapshot(store, thread)
        if thread.open_turn is None and taken.thread.open_turn is not None:  # another run has just begun
            state = RUNNING
        thread, history = taken.thread, outline(taken.thread, taken.records(store))
        for line in history.damage:
            messages.warn(line)
        found = turns_of(thread, history, state)
        turns = [turn for turn in found if every or turn.set_aside is None]
        if len(turns) < len(found):
            aside = len(found) - len(turns)
            messages.say(f"{aside} turn{' is' if aside == 1 else 's are'} set aside; `--all` shows all turns")
        elif not turns:
            messages.say(f"the thread {thread.name!r} has no turn that can be shown")
        whole = with_messages(found, sealed_turns(thread, taken.records(store)))
        shown = (turn for turn in whole if every or turn.set_aside is None)
        if as_json:
            stdout.objects(turn_form(thread, turn) for turn in shown)
        else:
            stdout.lines(line for turn in shown for line in shown_turn(stdout, turn))
