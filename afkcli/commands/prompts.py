"""`afk prompts`: the group, and its list. Each of its commands has a module of its own."""

from __future__ import annotations

import click

from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.subcommands import Subcommands
from afkcli.core.contract.errors import UsageError

_COMMANDS = {
    "list": "prompt_list:list_prompts",
    "show": "prompt_show:show",
    "edit": "prompt_edit:edit",
    "new": "prompt_edit:new",
}


@click.group(
    "prompts",
    cls=Subcommands,
    places=_COMMANDS,
    invoke_without_command=True,
    examples=(
        ("afk prompts", "the prompts that there are"),
        ("afk prompts new review", "write one to begin with"),
        ("afk prompts show review", "look at one"),
    ),
)
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List, show, edit and make prompts: Markdown files with variables, for `afk run --prompt NAME`.

    They are in the folder `prompts` beside your config, and beside the afk.toml of a project that you trust.
    """
    if ctx.invoked_subcommand is not None:
        if as_json:
            raise UsageError(f"options before {ctx.invoked_subcommand!r} belong to the list; put yours after it")
        return
    from afkcli.commands.prompt_list import write_list

    write_list(invocation(), as_json=as_json)
