"""`afk threads rename`: gives a thread another name."""

from __future__ import annotations

import click

from afkcli.commands.base import Command
from afkcli.commands.completion import complete_thread
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.thread_access import command_owner, opened_store
from afkcli.core.thread.lookup import thread_meant
from afkcli.core.thread.names import check_name
from afkcli.core.thread.operations import held
from afkcli.core.thread.operations import rename as rename_thread
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout


@click.command(
    "rename",
    cls=Command,
    examples=(("afk threads rename trip alps", "`trip` is now `alps`"),),
)
@click.argument("old", shell_complete=complete_thread)
@click.argument("new")
@json_option
def rename(old: str, new: str, as_json: bool) -> None:
    """Give the thread OLD the name NEW."""
    new = check_name(new)
    with opened_store() as store:
        info = thread_meant(store, old)
        with held(store, info.name, command_owner()) as lease:
            rename_thread(store, lease, new)
    Messages(invocation()).say(f"{info.name!r} is now {new!r}")
    if as_json:
        Stdout(invocation()).objects(
            [{"v": 1, "type": "renamed", "thread_id": new, "thread_key": info.key, "was": info.name}]
        )
