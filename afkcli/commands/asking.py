"""Asks the person at the terminal about tool calls: how the call reads, what can be answered, what an answer means."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from afkcli.commands.rule_dialog import Rule, RuleDialog
from afkcli.commands.terminal_lines import TerminalLines, open_terminal
from afkcli.core.contract.events import ApprovalRequested, Event
from afkcli.core.contract.previews import ChangePreview, FileChange
from afkcli.core.contract.rules import Decision
from afkcli.core.contract.text import error_text, one_line
from afkcli.core.run.copies import own_copy
from afkcli.core.run.decisions import Waiting, reason_of
from afkcli.core.run.handle import RunHandle
from afkcli.host.invocation import Invocation
from afkcli.screen.call_page import Line, ShownCall, bounded
from afkcli.screen.display import is_append_only
from afkcli.screen.messages import Messages
from afkcli.screen.shown import shown
from afkcli.screen.styles import BOLD, YELLOW
from afkcli.screen.wrapping import wrapped

_READ_SECONDS = 5.0
"""How long the file of a change is read before the question is asked without the difference."""

_SETTLE_SECONDS = 5.0
"""How long a question waits for what the answer before it allows to be kept."""

_LEAST_LINES = 8


class _Choice(NamedTuple):
    """An answer: its letter, its word, what the prompt says of it, and what it means."""

    letter: str
    word: str
    said: str
    meaning: str


_CHOICES = (
    _Choice("y", "yes", "[y]es", "run it, this time only"),
    _Choice("n", "no", "[n]o", "do not run it; a reason typed behind the answer goes to the model"),
    _Choice("a", "always", "[a]lways here", "run it, and each later call that is exactly like it in this thread"),
    _Choice("p", "pattern", "[p]attern", "make a rule for calls like it, which you see and change before it counts"),
    _Choice("v", "view", "[v]iew", "show the whole call, page by page"),
    _Choice("?", "help", "[?]", "explain these answers"),
)
_ANSWER = re.compile(r"(\S+)\s*(.*)", re.DOTALL)


class _Said(NamedTuple):
    """What a person answered."""

    decision: Decision
    reason: str = ""
    rule: Rule | None = None


class TerminalApprover:
    """Asks on the terminal itself, whatever stdin and stdout are: one call at a time, and one process at a time."""

    shows_calls = True

    def __init__(self, invocation: Invocation, messages: Messages, *, plain: bool = False) -> None:
        self._invocation = invocation
        self._messages = messages
        self._numbered = is_append_only(invocation, plain=plain)
        self._turn = asyncio.Lock()
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._settling: set[asyncio.Task[None]] = set()

    def take(self, handle: RunHandle, event: Event) -> None:
        """Ask about a requested approval; stop asking about one that was resolved otherwise."""
        if event.type == "approval_requested":
            self._asking[event.approval_id] = asyncio.ensure_future(self._ask(handle, event))
        elif event.type == "approval_resolved":
            asking = self._asking.pop(event.approval_id, None)
            if asking is not None:
                asking.cancel()

    def close(self) -> None:
        for asking in (*self._asking.values(), *self._settling):
            asking.cancel()

    async def _ask(self, handle: RunHandle, event: ApprovalRequested) -> None:
        async with self._turn:
            waiting = handle.waiting(event.approval_id)
            if waiting is None:  # it was decided on meanwhile
                return
            said = await self._said(event, waiting)
            asking = self._asking.pop(event.approval_id, None)  # it is not cancelled any more
            if said.rule is None:
                handle.decide(event.approval_id, said.decision, reason=said.reason)
            else:
                handle.decide(event.approval_id, said.decision, rule=said.rule.rule, kept=said.rule.kept)
            if asking is not None and said.decision != "deny" and (said.rule or said.decision == "always"):
                self._settling.add(asking)
                with contextlib.suppress(TimeoutError):  # the next question may be one that is answered by now
                    await asyncio.wait_for(waiting.settled.wait(), _SETTLE_SECONDS)
                self._settling.discard(asking)

    async def _said(self, event: ApprovalRequested, waiting: Waiting) -> _Said:
        try:
            async with open_terminal(self._invocation, self._messages) as terminal:
                with self._messages.held():
                    return await self._question(terminal, event, waiting).ask()
        except OSError as error:  # the terminal has gone
            self._messages.warn(f"cannot ask on the terminal, so {event.tool_name} is denied: {error.strerror}")
        except Exception as error:  # else the run would wait for an answer for ever
            self._messages.warn(f"{event.tool_name} is denied, because the question failed: {error_text(error)}")
        return _Said("deny")

    def _question(self, terminal: TerminalLines, event: ApprovalRequested, waiting: Waiting) -> Question:
        before, self._messages.before = self._messages.before, ""
        return Question(
            terminal, self._invocation, event, waiting, before=before, style=self._style, numbered=self._numbered
        )

    def _style(self, text: str, style: str) -> str:
        return self._messages.styled(text, style) if style else text


class Question:
    """One question, until it is answered.

    Args:
        terminal: where it is asked.
        invocation: the working folder, and where the config is.
        event: the request, whose arguments are those of the call.
        waiting: the call.
        before: what ends an unfinished line on the terminal.
        style: returns a text in a style, where there are styles.
        numbered: whether the answers are a numbered list of words.
    """

    def __init__(
        self,
        terminal: TerminalLines,
        invocation: Invocation,
        event: ApprovalRequested,
        waiting: Waiting,
        *,
        before: str,
        style: Callable[[str, str], str],
        numbered: bool,
    ) -> None:
        self._terminal = terminal
        self._invocation = invocation
        self._event = event
        self._waiting = waiting
        self._before = before
        self._style = style
        self._numbered = numbered
        self._name = shown(event.tool_name)

    async def ask(self) -> _Said:
        """Return the answer.

        Raises:
            OSError: the terminal has gone.
        """
        call = await self._call()
        await self._show(call)
        fresh = True
        while True:
            line = await self._terminal.ask(self._prompt(call), fresh=fresh)
            fresh = False
            said = await self._answer(line, call)
            if said is None or said.decision == "deny":
                if said is not None:
                    return said
                continue
            now = await self._call()
            if now == call:
                return said
            call, fresh = now, True
            await self._line("  ! the file has changed since the question; this is the change now:", YELLOW)
            await self._show(call)

    async def _answer(self, line: str | None, call: ShownCall) -> _Said | None:
        """Return what a line says; None if there is another question to ask."""
        if line is None or not line.strip():  # Ctrl-D, or Enter alone
            return _Said("deny")
        found = _ANSWER.fullmatch(line.strip())
        word, rest = found.groups() if found else ("", "")
        choice = self._chosen(word)
        if choice == "n":
            return _Said("deny", reason=reason_of(rest))
        if rest or not choice:
            await self._line(f"afk: {one_line(line)[:60]!r} is not an answer; ? explains them")
            return None
        if choice in "ya":
            return _Said("allow" if choice == "y" else "always")
        if choice == "p":
            dialog = RuleDialog(self._terminal, self._waiting.call, self._invocation.environment, self._style)
            rule = await dialog.ask()
            return _Said("allow", rule=rule) if rule is not None else None
        if choice == "v":
            await self._pages(call)
        else:
            await self._explain()
        return None

    def _chosen(self, word: str) -> str:
        """Return the letter of the answer that a word means; "" for no answer."""
        word = word.lower()
        if self._numbered and word.rstrip(".").isdecimal() and 0 < int(word.rstrip(".")) <= len(_CHOICES):
            return _CHOICES[int(word.rstrip(".")) - 1].letter
        return next((choice.letter for choice in _CHOICES if word in (choice.letter, choice.word)), "")

    async def _call(self) -> ShownCall:
        """Return the call as it is shown, with the change of a file as it would be now."""
        tool, taken = self._waiting.call.tool, own_copy(self._waiting.call.taken)
        folder = self._invocation.folder or ""
        change: FileChange | str | None = None
        if isinstance(tool.preview, ChangePreview):
            from afkcli.host.file_changes import planned_change

            preview = tool.preview
            change = await _on_thread(lambda: planned_change(preview, taken, folder))
        return ShownCall(tool.name, self._event.arguments, tool.preview, folder, change)

    async def _show(self, call: ShownCall) -> None:
        """Show the call, not longer than the screen, with all that there is to look at."""
        columns, rows = self._terminal.columns, self._terminal.rows
        title = self._lines(f"{self._before}afk: {self._name} {call.title()}:", BOLD)
        self._before = ""
        risks = call.risk_lines(columns)
        if self._waiting.again:
            risks.insert(0, Line("  ! an interrupted run may have made this call before", YELLOW))
        choices = len(self._prompt(call).split("\n"))
        most = max(rows - len(title) - len(risks) - choices - 1, _LEAST_LINES)
        await self._write([*title, *bounded(call.lines(columns), most, columns), *risks])

    def _prompt(self, call: ShownCall) -> str:
        columns = self._terminal.columns
        asked = f"afk: run {self._name}:"
        if self._numbered:
            choices = [f"  {at}. {choice.word}: {choice.meaning}" for at, choice in enumerate(_CHOICES, 1)]
            lines = [part for choice in choices for part in _hanging(choice, columns, 5)]
            return "\n".join([*lines, *wrapped(f"{asked} type a number or a word and Enter: ", columns)])
        return "\n".join(wrapped(f"{asked} {', '.join(choice.said for choice in _CHOICES)} ", columns))

    async def _explain(self) -> None:
        columns = self._terminal.columns
        for choice in _CHOICES:
            await self._terminal.write(
                "".join(f"{line}\n" for line in _hanging(f"  {choice.letter}  {choice.meaning}", columns, 5))
            )
        await self._line("  Enter alone and Ctrl-D deny the call; Ctrl-C ends the run")

    async def _pages(self, call: ShownCall) -> None:
        """Show the whole call, a screen at a time; nothing is left out, and no program is started for it."""
        lines = [*call.lines(self._terminal.columns, whole=True), *call.risk_lines(self._terminal.columns)]
        while lines:
            step = max(self._terminal.rows - 2, 1)
            await self._write(lines[:step])
            lines = lines[step:]
            if lines:
                answer = await self._terminal.ask(f"afk: {len(lines)} more lines: Enter shows them, q leaves: ")
                if answer is None or answer.strip():
                    return

    def _lines(self, text: str, style: str = "") -> list[Line]:
        return [Line(part, style) for part in _hanging(text, self._terminal.columns, 2)]

    async def _line(self, text: str, style: str = "") -> None:
        await self._write(self._lines(text, style))

    async def _write(self, lines: Sequence[Line]) -> None:
        await self._terminal.write("".join(f"{self._style(line.text, line.style)}\n" for line in lines))


def _hanging(text: str, columns: int, indent: int) -> list[str]:
    """Return a text wrapped, its further lines indented."""
    front = text[: len(text) - len(text.lstrip())] if text.startswith("\n") else ""
    first, *others = wrapped(text[len(front) :], columns, columns - indent)
    return [front + first, *(" " * indent + other for other in others)]


async def _on_thread(work: Callable[[], FileChange]) -> FileChange | str:
    """Return what `work` returns, or why it cannot be had, on a thread for which nothing waits at the end.

    A file system may not answer, and the function of a tool is a plugin's.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[FileChange | str] = loop.create_future()

    def settle(value: FileChange | str) -> None:
        if not future.done():
            future.set_result(value)

    def run() -> None:
        value: Any
        try:
            value = work()
            if not isinstance(value, FileChange):
                value = f"the preview of the tool returned a {type(value).__name__}"
        except BaseException as error:  # a plugin's
            value = error_text(error)
        try:
            loop.call_soon_threadsafe(settle, value)
        except RuntimeError:  # the loop is closed
            return

    threading.Thread(target=run, name="afk-preview", daemon=True).start()
    try:
        return await asyncio.wait_for(future, _READ_SECONDS)
    except TimeoutError:
        return f"the file was not read within {_READ_SECONDS:g} s"
