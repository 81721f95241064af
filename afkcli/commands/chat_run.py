"""Runs the chat: which reader it has here, its turns, and what is left to say at the end.

Since: 0.2.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from afkcli.chat.loop import converse
from afkcli.chat.plain import HeldLines, StatusInWords, terminal_file, terminal_writer
from afkcli.commands.chat_commands import carry_out
from afkcli.commands.chat_loading import Loading
from afkcli.commands.chat_shell import CommandsOfAfk
from afkcli.commands.chat_talk import ChatTalk
from afkcli.commands.turn_request import TurnRequest
from afkcli.core.contract.errors import UsageError
from afkcli.host.collecting import collect_again
from afkcli.host.ending import Ending
from afkcli.host.invocation import Invocation
from afkcli.screen.messages import Messages

if TYPE_CHECKING:
    import click

    from afkcli.chat.reading import Reader


def run_chat(invocation: Invocation, request: TurnRequest, root: click.Command) -> Ending:
    """Talk until the person leaves, and return how it ended. It raises nothing.

    Args:
        invocation: what the process was started with.
        request: what each turn asks.
        root: the group of all commands, which slash commands call.
    """
    try:
        return _run(invocation, request, root)
    except BaseException as error:
        from afkcli.screen.errors import ending_of

        return ending_of(error, invocation, debug=request.debug)


def _run(invocation: Invocation, request: TurnRequest, root: click.Command) -> Ending:
    _check(request)
    messages = Messages(invocation)
    lines = HeldLines(messages.say)
    loading = Loading(invocation, request, lines.say)
    talk = ChatTalk(invocation, request, loading, messages, CommandsOfAfk(invocation, root), carry_out)
    before = {number: signal.getsignal(number) for number in invocation.stop_signals}
    loops = asyncio.Runner()
    ending = Ending()
    try:
        ending = _conversation(invocation, request, talk, loading, lines, messages, loops)
        return ending
    finally:
        if not ending.at_once:  # closing waits for what still runs
            loops.close()
        for number, handler in before.items():
            if handler is not None:  # it was not set from Python
                signal.signal(number, handler)


def _conversation(
    invocation: Invocation,
    request: TurnRequest,
    talk: ChatTalk,
    loading: Loading,
    lines: HeldLines,
    messages: Messages,
    loops: asyncio.Runner,
) -> Ending:
    """Talk, close what the turns used, and say how the conversation can be continued."""
    reader = _reader(invocation, request, talk, loading, messages, loops)
    is_left = False
    try:
        if request.continue_:
            if loading.at_once() is None:
                loading.now()
            loops.run(talk.continue_last())
        ending = converse(loops, lines.held_while(reader), talk, messages)
    finally:
        reader.close()
        is_left = loops.run(talk.aclose())
    if reader.is_attended and talk.is_begun and talk.thread is not None:
        messages.say(f"`afk chat -t {shlex.quote(talk.thread)}` continues this conversation")
    return Ending(ending.code, ending.signal, at_once=is_left or loading.is_busy)


def _check(request: TurnRequest) -> None:
    if request.continue_ and request.thread is not None:
        raise UsageError("--continue and --thread both name a thread; use one of them")
    if request.approvals == "stdin":
        raise UsageError("the chat reads messages from stdin, so decisions cannot come from there; use --approvals ask")


def _reader(
    invocation: Invocation,
    request: TurnRequest,
    talk: ChatTalk,
    loading: Loading,
    messages: Messages,
    loops: asyncio.Runner,
) -> Reader:
    """Return what reads here: an editor on a terminal, lines on a plain one, or lines of a pipe or a file."""
    from afkcli.screen.display import is_append_only

    if not invocation.stdin.is_terminal:
        from afkcli.chat.lines import LineReader

        loading.now()
        return LineReader(invocation.stdin, messages, invocation.stop_signals)
    is_unknown = invocation.environment.get("TERM", "") in ("", "unknown")
    if is_unknown or is_append_only(invocation, plain=request.plain):
        from afkcli.chat.lines import LineReader

        loading.now()
        write, say = terminal_writer(invocation), StatusInWords(talk.status, messages)
        return LineReader(invocation.stdin, messages, invocation.stop_signals, write=write, say_status=say)
    return _editor(invocation, talk, loading, loops)


def _editor(invocation: Invocation, talk: ChatTalk, loading: Loading, loops: asyncio.Runner) -> Reader:
    try:
        from afkcli.chat.editor import Editor
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("prompt_toolkit", "wcwidth"):
            raise
        raise UsageError("afk chat needs prompt_toolkit; install it with: pip install 'afkcli[chat]'") from None
    from afkcli.chat.history import TypedTexts
    from afkcli.chat.status import status_line
    from afkcli.commands.chat_loading import KnownNames
    from afkcli.host.paths import state_dir
    from afkcli.screen.styles import shows_styles

    loop = loops.get_loop()

    def loaded() -> None:
        with contextlib.suppress(RuntimeError):  # the chat has ended
            loop.call_soon_threadsafe(editor.refresh if loading.error is None else partial(editor.end, loading.error))

    environment = invocation.environment
    editor = Editor(
        terminal_file(invocation),
        kind=environment.get("TERM", ""),
        shows_colours=shows_styles(invocation, invocation.stdin),
        texts=TypedTexts(state_dir(environment) / "chat-history.jsonl", invocation.secrets.mask),
        names=KnownNames(loading),
        folder=Path(invocation.folder or "."),
        stop_signals=invocation.stop_signals,
        status=lambda columns: status_line(talk.status(), columns),
        when_shown=lambda: _begin(loading, loaded),
    )
    return editor


def _begin(loading: Loading, then: Callable[[], None]) -> None:
    """Load what a turn needs, now that the person sees the prompt."""
    collect_again()
    if loading.at_once() is None:
        loading.start(then)
