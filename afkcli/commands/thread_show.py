"""`afk threads show`: the conversation of a thread."""

from __future__ import annotations

import click

from afkcli.commands.completion import complete_thread
from afkcli.commands.context import invocation
from afkcli.commands.conversation import shown_turn, turn_form, turns_of
from afkcli.commands.json_option import json_option
from afkcli.commands.thread_access import command_owner, opened_store
from afkcli.core.thread.history import load_history
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
