"""What a turn asks: a message with its attachments, or the last question of the thread again.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from afkcli.commands.turn_request import TurnRequest
from afkcli.core.contract.structs import replace
from afkcli.host.invocation import Invocation
from afkcli.screen.messages import Messages

if TYPE_CHECKING:
    from afkcli.core.run.opening import Replaces
    from afkcli.core.thread.attachments import Attachment
    from afkcli.wiring.setup import Setup


class Question(NamedTuple):
    """What a turn asks. Without `text` it resumes the thread's last turn, or asks its question again (`replaces`)."""

    text: str | None = None
    attachments: Sequence[Attachment] = ()
    replaces: Replaces | None = None

    @property
    def is_new(self) -> bool:
        """Whether it is a message of its own, which may begin a thread."""
        return self.text is not None and self.replaces is None


def asked(
    invocation: Invocation,
    request: TurnRequest,
    messages: Messages,
    place: Callable[[str, str], str] | None = None,
) -> Question:
    """Return what `request` asks, from its words and attachments and from stdin; see `edited` for `edit`.

    Args:
        invocation: whose stdin is read.
        request: what is asked for.
        messages: takes lines for a person.
        place: makes the message of the words and of what is piped in; by default that follows after an empty line.

    Raises:
        UsageError: there is no message, or something cannot be read or attached.
    """
    if request.resume or request.retry or request.edit:
        return Question(replaces="last" if request.retry else None)
    from afkcli.commands.stdin import joined, message_with_stdin

    taken = "-" in request.attach or request.approvals == "stdin"  # by a file, or by decisions
    text = message_with_stdin(
        request.words,
        invocation.stdin,
        read_stdin=request.read_stdin and not taken,
        notify=messages.say,
        place=place or joined,
    )
    return Question(text, attachments(invocation, request, messages))


def attachments(invocation: Invocation, request: TurnRequest, messages: Messages) -> Sequence[Attachment]:
    """Return what `request` attaches; `UsageError` if something cannot be read or attached."""
    if not request.attach:
        return ()
    from afkcli.commands.attach import attached

    return attached(request.attach, invocation.stdin, may_read_stdin=request.read_stdin, notify=messages.say)


def edited(invocation: Invocation, setup: Setup, request: TurnRequest) -> tuple[TurnRequest, Question]:
    """Let the user edit the last question of the thread; return it, and `request` with the thread's name.

    Raises:
        UsageError: there is no question to edit, or it was not changed.
        ThreadBusyError: a run holds the thread.
    """
    from afkcli.commands.edit_question import edited_question
    from afkcli.wiring.plugin_objects import open_store

    store = open_store(setup)
    try:
        text, turn, thread = edited_question(invocation, store, request.thread)
    finally:
        store.close()
    request = replace(request, thread=thread, continue_=False)  # another thread may be the last one by now
    return request, Question(text, replaces=turn)
