"""`afk threads`: the group, and the options of its list. Each of its commands has a module of its own."""

from __future__ import annotations

import click

from afkcli.commands.json_option import json_option
from afkcli.commands.number_types import WholeNumber
from afkcli.commands.subcommands import Subcommands
from afkcli.core.contract.errors import UsageError

_COMMANDS = {
    "show": "thread_show:show",
    "search": "thread_search:search",
    "rm": "thread_remove:remove",
    "rename": "thread_rename:rename",
    "undo": "thread_changes:undo",
    "redo": "thread_changes:redo",
    "compact": "thread_compact:compact",
    "fork": "thread_changes:fork",
    "tag": "thread_changes:tag",
    "export": "thread_export:export",
    "import": "thread_import:import_threads",
    "resume": "thread_resume:resume",
}


@click.group("threads", cls=Subcommands, places=_COMMANDS, invoke_without_command=True)
@click.option("--limit", "-n", type=WholeNumber(min=1), metavar="N", help="Show only the N threads last used.")
@click.option("--search", "-q", metavar="WORDS", help="Show only threads that contain all WORDS.")
@click.option("--here", is_flag=True, help="Show only threads that were last used in this folder.")
@click.option("--all", "every", is_flag=True, help="On a terminal, show all threads, also if they do not fit.")
@json_option
@click.pass_context
def command(ctx: click.Context, limit: int | None, search: str | None, here: bool, every: bool, as_json: bool) -> None:
    """List threads, the last used first."""
    if ctx.invoked_subcommand is not None:
        if limit is not None or search is not None or here or every or as_json:
            raise UsageError(f"options before {ctx.invoked_subcommand!r} belong to the list; put yours after it")
        return
    if limit is not None and every:
        raise UsageError("use --limit or --all, not both")
    from afkcli.commands.thread_list import list_threads

    list_threads(limit=limit, search=search, here=here, every=every, as_json=as_json)
