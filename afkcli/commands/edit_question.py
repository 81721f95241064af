"""The last question of a thread in the user's editor, for `afk run --edit`."""

from __future__ import annotations

import signal
from typing import NamedTuple

import click

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
    edited = _in_editor(invocation, question)
    if edited is None or edited.strip() in ("", question.strip()):
        raise UsageError("the question was not changed, so nothing was asked; `--retry` asks it as it is")
    return Edited(edited.rstrip("\n"), group[-1].turn, thread.name)


def _in_editor(invocation: Invocation, text: str) -> str | None:
    """Return `text` after the user's editor; None if it was not saved. Ctrl-C belongs to the editor meanwhile."""
    environment = invocation.environment
    if not invocation.stdout.is_terminal:
        invocation.answer_descriptor()  # what the editor draws is not the answer: it goes to stderr
    before = signal.signal(signal.SIGINT, lambda number, frame: None)  # a handler, because an editor inherits SIG_IGN
    try:
        return click.edit(text, editor=environment.get("VISUAL") or environment.get("EDITOR") or None, extension=".md")
    except click.ClickException as error:
        raise UsageError(f"{error.format_message()}; set EDITOR to an editor that works") from None
    except UnicodeDecodeError:
        raise UsageError("the editor left a file that is not UTF-8; nothing was asked") from None
    except FileNotFoundError:
        raise UsageError("the editor removed the file with the question; nothing was asked") from None
    except ValueError as error:
        raise UsageError(f"EDITOR or VISUAL cannot be read: {error}") from None
    finally:
        signal.signal(signal.SIGINT, before)
