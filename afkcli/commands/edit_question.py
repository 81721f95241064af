"""The last question of a thread in the user's editor, for `afk run --edit`."""

from __future__ import annotations

from typing import NamedTuple

from afkcli.commands.editor import edited_text
from afkcli.commands.thread_access import command_owner, last_used
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.protocols import Store
from afkcli.core.thread.history import load_history
from afkcli.core.thread.operations import find_thread, held
from afkcli.core.thread.set_aside import asked_last
from afkcli.host.invocation import Invocation


class Edited(NamedTuple):
    """A question as it is after the editor, the number of the turn that asked it, and the name of its thread."""

    text: str
    turn: int
    thread: str


def edited_question(invocation: Invocation, store: Store, name: str | None) -> Edited:
    """Let the user edit the last question of the thread `name` (None: of the one that was last used in the folder).

    Raises:
        UsageError: there is no question to edit, or it was not changed.
        ThreadBusyError: a run holds the thread.
    """
    thread = find_thread(store, name) if name is not None else last_used(store, invocation.folder)
    if thread.open_turn is not None:  # of a run that died; one that is running is not edited
        with held(store, thread.name, command_owner()) as lease:
            thread = lease.thread
    group = asked_last(load_history(store, thread).seen)
    if not group or not group[-1].messages:
        raise UsageError(f"there is nothing to edit: the thread {thread.name!r} has no question")
    question = group[-1].messages[0].text
    edited = edited_text(invocation, question)
    if edited is None or edited.strip() in ("", question.strip()):
        raise UsageError(
            "the question was not changed, so nothing was asked; `--retry`, in a chat `/retry`, asks it as it is"
        )
    return Edited(edited.rstrip("\n"), group[-1].turn, thread.name)
