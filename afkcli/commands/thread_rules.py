"""`afk threads rules`: what was allowed for a whole thread, by `a` and `p` of a question; shown and removed."""

from __future__ import annotations

import click

from afkcli.commands.base import Command
from afkcli.commands.completion import complete_thread
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.number_types import WholeNumber
from afkcli.commands.thread_access import command_owner, last_used_anywhere, opened_store
from afkcli.config.rule_writing import NoTomlError, toml_key, toml_value
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import JsonObject, dumps
from afkcli.core.contract.protocols import Store, ThreadInfo
from afkcli.core.thread.changes import Permission
from afkcli.core.thread.history import load_history, no_messages
from afkcli.core.thread.lookup import thread_meant
from afkcli.core.thread.operations import held
from afkcli.core.thread.permissions import is_given, permissions, revoke
from afkcli.screen.messages import Messages
from afkcli.screen.shown import shown
from afkcli.screen.streams import Stdout
from afkcli.screen.wrapping import wrapped


@click.command(
    "rules",
    cls=Command,
    examples=(
        ("afk threads rules trip", "what was allowed in `trip`"),
        ("afk threads rules trip --remove 1", "ask again about what the first rule allows"),
    ),
)
@click.argument("name", required=False, shell_complete=complete_thread)
@click.option("--remove", "removed", type=WholeNumber(min=1), metavar="N", help="Remove rule N of the list.")
@click.option("--remove-all", is_flag=True, help="Remove all rules of the thread.")
@json_option
def rules(name: str | None, removed: int | None, remove_all: bool, as_json: bool) -> None:
    """Show which tool calls were allowed for the thread NAME, and remove what was allowed.

    They come from the answers `a` (always exactly this call) and `p` (a rule with a pattern) to a question about a tool
    call, and count for this thread alone. Without NAME it is the thread last used in this folder, or else the one last
    used anywhere. A rule that came with an imported thread is shown, and allows nothing here.
    """
    if removed is not None and remove_all:
        raise UsageError("use --remove N or --remove-all, not both")
    messages, stdout = Messages(invocation()), Stdout(invocation())
    with opened_store() as store:
        thread = thread_meant(store, name) if name is not None else last_used_anywhere(store, invocation(), messages)
        if removed is not None or remove_all:
            _remove(store, thread, removed, messages)
            return
        listed = [(permission, is_given(store, thread, permission)) for permission in _permissions(store, thread)]
    if as_json:
        stdout.objects(_form(thread, number, *item) for number, item in enumerate(listed, 1))
        return
    if not listed:
        messages.say(f"nothing was allowed for the whole thread {thread.name!r}")
        return
    for number, (permission, given) in enumerate(listed, 1):
        void = "" if given else " (came with an import; allows nothing here)"
        line = f"{number}  {shown(permission.tool)}  {_calls(permission)}{void}"
        first, *others = wrapped(line, stdout.columns(), stdout.columns() - 3) if stdout.is_terminal else [line]
        stdout.lines([first, *(f"   {other}" for other in others)])


def _permissions(store: Store, thread: ThreadInfo) -> list[Permission]:
    return permissions(load_history(store, thread, no_messages).changes)


def _remove(store: Store, thread: ThreadInfo, number: int | None, messages: Messages) -> None:
    with held(store, thread.name, command_owner()) as lease:
        found = _permissions(store, lease.thread)
        if number is not None and number > len(found):
            raise UsageError(f"the thread {thread.name!r} has no rule {number}; `afk threads rules` lists them")
        gone = found if number is None else [found[number - 1]]
        for permission in gone:
            lease = revoke(store, lease, permission)
    for permission in gone:
        messages.say(f"removed from {thread.name!r}: {permission.tool} {_calls(permission)}")
    if not gone:
        messages.say(f"nothing was allowed for the whole thread {thread.name!r}")


def _calls(permission: Permission) -> str:
    """Return which calls a permission allows, on one line."""
    if permission.exact:
        return f"exactly {shown(dumps(permission.arguments))}"
    try:
        patterns = [f"{toml_key(name)} = {toml_value(value)}" for name, value in permission.arguments.items()]
    except NoTomlError:
        patterns = [shown(dumps(permission.arguments))]
    said = ", ".join(patterns) or "any arguments"
    return f"{said}; other arguments: {'any' if permission.other_arguments else 'none'}" if patterns else said


def _form(thread: ThreadInfo, number: int, permission: Permission, given: bool) -> JsonObject:
    return {
        "v": 1,
        "type": "thread_rule",
        "thread_id": thread.name,
        "thread_key": thread.key,
        "number": number,
        "tool_name": permission.tool,
        "arguments": permission.arguments,
        "exact": permission.exact,
        "other_arguments": permission.other_arguments and not permission.exact,
        "pins": list(permission.pins),
        "given": given,
    }
