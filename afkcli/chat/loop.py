"""The chat itself: a text is read, sent or carried out, and the next one is read.

Since: 0.2.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, NamedTuple, Protocol

from afkcli.chat.reading import Left, Reader, Stopped, UnreadableError
from afkcli.chat.slash import Typed, typed, unknown_line
from afkcli.core.contract.errors import EXIT_OK, EXIT_USAGE
from afkcli.host.ending import Ending
from afkcli.screen.messages import Messages


class Reply(NamedTuple):
    """What came of a text.

    Args:
        code: the exit code that the same would have had in the shell.
        signal: the stop signal that came meanwhile, None for none.
        was_sent: False if the text should be put back, to be changed.
        leaves: whether the chat ends.
    """

    code: int = EXIT_OK
    signal: int | None = None
    was_sent: bool = True
    leaves: bool = False


class Talk(Protocol):
    """The other side of the chat: it answers messages and carries out slash commands. It raises nothing of its own."""

    def ask(self, message: str) -> Coroutine[Any, Any, Reply]:
        """Return the work that sends a message and shows the answer."""

    def carry_out(self, command: Typed) -> Coroutine[Any, Any, Reply] | Reply:
        """Carry out a slash command, or return the work that does it in the event loop."""


def converse(loops: asyncio.Runner, reader: Reader, talk: Talk, messages: Messages) -> Ending:
    """Read, send and answer until the person leaves; return how it ended.

    Where stdin is not a terminal, the exit code is that of the last text that failed, and Ctrl-C ends the chat.
    """
    put_back, code = "", EXIT_OK
    while True:
        try:
            text = loops.run(reader.read(put_back))
        except Left:
            return Ending(code)
        except Stopped as stopped:
            return Ending(code, stopped.number)
        except UnreadableError as error:
            messages.error(str(error))
            code = EXIT_USAGE
            continue
        except KeyboardInterrupt:  # Ctrl-C before the prompt took the keys
            if not reader.is_attended:
                return Ending(code, signal.SIGINT)
            continue
        reply = _reply(loops, talk, typed(text, by_person=reader.is_attended), messages)
        if reply.leaves:
            return Ending(code)
        if reply.signal is not None and (reply.signal != signal.SIGINT or not reader.is_attended):
            return Ending(code, reply.signal)
        if not reader.is_attended:
            code = reply.code or code
        put_back = "" if reply.was_sent else text


def _reply(loops: asyncio.Runner, talk: Talk, said: Typed, messages: Messages) -> Reply:
    if said.unknown:
        messages.error(unknown_line(said.command))
        # A mistyped name alone is not put back: what is typed then would be behind it, and be sent as a message.
        return Reply(EXIT_USAGE, was_sent=not said.argument)
    try:
        work = talk.ask(said.message) if said.message is not None else talk.carry_out(said)
        return work if isinstance(work, Reply) else loops.run(work)
    except KeyboardInterrupt:  # Ctrl-C before or after the work listened to it
        return Reply(signal=signal.SIGINT, was_sent=said.message is None)
