"""A group of commands that imports a command when it is called."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from afkcli.commands.base import Group


class Subcommands(Group):
    """A group of commands in modules of their own.

    Args:
        places: by the name of a command, the module in `afkcli.commands` and the name there: `thread_show:show`.
        attributes: those of `Group`.
    """

    def __init__(self, *arguments: Any, places: Mapping[str, str], **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = self.places.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command: click.Command = getattr(import_module(f"afkcli.commands.{module}"), name)
        return command
