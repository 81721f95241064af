"""`afk threads rm`: deletes threads."""

from __future__ import annotations

import click

from afkcli.commands.completion import complete_thread
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.thread_access import command_owner, opened_store
from afkcli.core.contract.errors import EXIT_BUSY, ThreadBusyError
from afkcli.core.contract.protocols import ThreadInfo
from afkcli.core.thread.lookup import thread_meant
from afkcli.core.thread.operations import held
from afkcli.screen.messages import Messages
from afkcli.screen.questions import confirmed
from afkcli.screen.streams import Stdout


@click.command("rm")
@click.argument("names", shell_complete=complete_thread, nargs=-1, required=True, metavar="NAME...")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
def remove(names: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Delete threads with all their messages. It asks first; without a terminal it needs --yes."""
    messages, stdout = Messages(invocation()), Stdout(invocation())
    busy = 0
    with opened_store() as store:
        threads = {info.key: info for info in (thread_meant(store, name) for name in names)}
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
