"""`afk outside-turns`, written for afk 0.1: counts the turns of a thread in the store of outside_store."""

from __future__ import annotations

import click
import outside_store
from afkcli.core.errors import UnknownNameError
from afkcli.paths import data_dir

from afkcli import hookimpl
from afkcli.core.thread import load_history

AFK_HOOKS = 1


@hookimpl
def afk_command() -> click.Command:
    @click.command("outside-turns")
    @click.argument("name")
    def command(name: str) -> None:
        """Count the turns of the thread NAME."""
        store = outside_store.SqliteStore(str(data_dir() / "outside.db"))
        thread = store.find(name)
        if thread is None:
            raise UnknownNameError(f"there is no thread {name!r}")
        click.echo(len(load_history(store, thread).turns))

    return command
