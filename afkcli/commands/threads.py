"""`afk threads`: the group, and the options of its list. Each of its commands has a module of its own."""

from __future__ import annotations

import click

from afkcli.commands.json_option import json_option
from afkcli.commands.moments import since_option, until_option
from afkcli.commands.number_types import WholeNumber
from afkcli.commands.subcommands import Subcommands
from afkcli.core.contract.errors import UsageError
from afkcli.host.ending import Ending

_COMMANDS = {
    "show": "thread_show:show",
    "search": "thread_search:search",
    "resume": "thread_resume:resume",
    "undo": "thread_changes:undo",
    "redo": "thread_changes:redo",
    "fork": "thread_changes:fork",
    "rename": "thread_rename:rename",
    "tag": "thread_changes:tag",
    "compact": "thread_compact:compact",
    "rules": "thread_rules:rules",
    "export": "thread_export:export",
    "import": "thread_import:import_threads",
    "copy": "thread_copy:copy",
    "rm": "thread_remove:remove",
    "gc": "thread_gc:gc",
}


@click.group(
    "threads",
    cls=Subcommands,
    places=_COMMANDS,
    invoke_without_command=True,
    examples=(
        ("afk threads", "the threads last used"),
        ("afk threads show trip", "the conversation of one"),
        ("afk threads -q soup --since 2w", "those with a word, of two weeks"),
        ("afk threads undo", "undo the last question here"),
    ),
)
@click.option("--limit", "-n", type=WholeNumber(min=1), metavar="N", help="Show only the N threads last used.")
@click.option("--search", "-q", metavar="WORDS", help="Show only threads that contain all WORDS.")
@click.option("--here", is_flag=True, help="Show only threads that were last used in this folder.")
@since_option("threads that were used")
@until_option("threads that were last used")
@click.option("--agent", "-a", metavar="NAME", help="Show only threads that used this agent last.")
@click.option("--model", "-m", metavar="MODEL", help="Show only threads that used this model last.")
@click.option("--tag", metavar="TAG", help="Show only threads with this tag.")
@click.option("--all", "every", is_flag=True, help="On a terminal, show all threads, page by page.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, /, limit: int | None, here: bool, every: bool, as_json: bool, **wanted: str | None
) -> Ending | None:
    """List threads, the last used first.

    Each command below takes, as NAME, a name, the beginning of one that no other thread has, or the short name that the
    list shows of a thread without a name.
    """
    given = limit is not None or here or every or as_json or any(value is not None for value in wanted.values())
    if ctx.invoked_subcommand is not None:
        if given:
            raise UsageError(f"options before {ctx.invoked_subcommand!r} belong to the list; put yours after it")
        return None
    if limit is not None and every:
        raise UsageError("use --limit or --all, not both")
    from afkcli.commands.thread_list import list_threads

    return list_threads(wanted, limit=limit, here=here, every=every, as_json=as_json)
