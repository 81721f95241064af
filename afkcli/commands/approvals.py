"""Who decides on the tool calls of a command-line run: a person at the terminal, a program by stdin, or no one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import threading
import unicodedata
from collections.abc import AsyncIterator
from typing import Protocol, get_args

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.events import ApprovalRequested, Event
from afkcli.core.contract.jsonform import Json, JsonError, loads_object
from afkcli.core.contract.rules import Decision
from afkcli.core.contract.waits import waiting_for
from afkcli.core.run.config import InteractionMode
from afkcli.core.run.handle import RunHandle
from afkcli.host.invocation import TERMINAL, Invocation, Stream
from afkcli.screen.messages import Messages
from afkcli.screen.streams import writable

_INTERACTION: dict[str, InteractionMode] = {"ask": "interactive", "deny": "headless", "stdin": "external"}

_MAX_LINE = 1 << 20  # a decision is a line of about a hundred bytes
_LINES_AHEAD = 64  # read and not taken yet: a flood waits in its pipe, and leaves the event loop to the run
_MAX_EARLY = 1000  # decisions before the run starts; their ids are unknown, so the run only warns about them
_QUESTION = "[y]es, [n]o, or [a]lways, with these arguments in this thread? "
_ANSWERS: dict[str, Decision] = {
    "y": "allow",
    "yes": "allow",
    "n": "deny",
    "no": "deny",
    "": "deny",
    "a": "always",
    "always": "always",
}


def interaction_mode(said: str | None, invocation: Invocation) -> InteractionMode:
    """Return who decides: as given, else the person at the terminal if there is one, else no one.

    Raises:
        UsageError: `ask` was given, but there is no terminal.
    """
    if said is None:
        return "interactive" if invocation.stderr.is_terminal and _is_in_foreground(invocation.terminal) else "headless"
    if said == "ask" and not _is_in_foreground(invocation.terminal):
        raise UsageError("--approvals ask needs a terminal; use --approvals deny or --approvals stdin")
    return _INTERACTION[said]


def _is_in_foreground(terminal: str | None) -> bool:
    """Return whether there is a terminal that can be asked on: this process is in its foreground."""
    if terminal is None or sys.platform == "win32":
        return False
    try:
        descriptor = os.open(terminal, os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()  # a job in the background would be stopped by asking
    except OSError:
        return False
    finally:
        os.close(descriptor)


class Approver(Protocol):
    """Takes the events of a run, and gives decisions to its handle."""

    def take(self, handle: RunHandle, event: Event) -> None: ...

    def close(self) -> None: ...


def approver(mode: InteractionMode, invocation: Invocation, messages: Messages) -> Approver | None:
    """Return the approver of a mode; None if the mode asks no one."""
    if mode == "interactive":
        return TerminalApprover(invocation, messages)
    return StdinApprover(invocation.stdin, messages) if mode == "external" else None


class TerminalApprover:
    """Asks on the terminal itself, whatever stdin and stdout are: one call at a time, and one process at a time."""

    def __init__(self, invocation: Invocation, messages: Messages) -> None:
        self._invocation = invocation
        self._messages = messages
        self._turn = asyncio.Lock()
        self._asking: dict[str, asyncio.Task[None]] = {}

    def take(self, handle: RunHandle, event: Event) -> None:
        """Ask about a requested approval; stop asking about one that was resolved otherwise."""
        if event.type == "approval_requested":
            self._asking[event.approval_id] = asyncio.ensure_future(self._ask(handle, event))
        elif event.type == "approval_resolved":
            asking = self._asking.pop(event.approval_id, None)
            if asking is not None:
                asking.cancel()

    def close(self) -> None:
        for asking in self._asking.values():
            asking.cancel()

    async def _ask(self, handle: RunHandle, event: ApprovalRequested) -> None:
        decision: Decision = "deny"
        try:
            async with self._turn, _terminal(self._invocation, self._messages) as descriptor:
                with self._messages.held():
                    decision = await self._decision(descriptor, event)
        except OSError as error:  # the terminal has gone
            self._messages.warn(f"cannot ask on the terminal, so {event.tool_name} is denied: {error.strerror}")
        handle.decide(event.approval_id, decision)

    async def _decision(self, descriptor: int, event: ApprovalRequested) -> Decision:
        before, self._messages.before = self._messages.before, ""
        asked = f"{before}afk: {exact(event.tool_name)} asks to be called with\n{exact(event.arguments)}\n"
        await _write(descriptor, asked)
        _drop_typed(descriptor)
        while True:
            await _write(descriptor, f"afk: run {exact(event.tool_name)}: {_QUESTION}")
            try:
                line = await _line(descriptor)
            except asyncio.CancelledError:  # Ctrl-C, or a timeout: what follows starts on a new line
                _end_line(descriptor)
                raise
            if line is None:  # Ctrl-D
                _end_line(descriptor)
                return "deny"
            decision = _ANSWERS.get(line.strip().lower())
            if decision is not None:
                return decision


@contextlib.asynccontextmanager
async def _terminal(invocation: Invocation, messages: Messages) -> AsyncIterator[int]:
    """Open the terminal once no other afk is asking on it."""
    import fcntl

    # It is opened here and shared with no one, so it may be non-blocking: the output of a terminal can be stopped.
    descriptor = os.open(invocation.terminal or TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    # /dev/tty is one file for all terminals; the lock belongs on this one's own.
    own = descriptor
    if invocation.stderr.is_terminal:
        own = os.open(os.ttyname(invocation.stderr.descriptor), os.O_RDWR | os.O_NOCTTY)
    try:
        with contextlib.ExitStack() as waiting:
            said = False
            while True:
                try:
                    fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not said:
                        messages.say("waiting for another afk that is asking on this terminal")
                        waiting.enter_context(waiting_for("another afk, which is asking on this terminal"))
                        said = True
                    await asyncio.sleep(0.2)
        yield descriptor
    finally:
        os.close(own)
        if own != descriptor:
            os.close(descriptor)


def _drop_typed(descriptor: int) -> None:
    """Discard what was typed before the question was shown."""
    import termios

    with contextlib.suppress(termios.error):
        termios.tcflush(descriptor, termios.TCIFLUSH)


async def _write(descriptor: int, text: str) -> None:
    data = text.encode("utf-8", "replace")
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            await writable(descriptor)


def _end_line(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):  # the output is stopped, and nothing waits for it now
        os.write(descriptor, b"\n")


async def _line(descriptor: int) -> str | None:
    """Return the line that is typed next, None at the end of input."""
    loop = asyncio.get_running_loop()
    while True:
        readable = asyncio.Event()
        loop.add_reader(descriptor, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(descriptor)
        with contextlib.suppress(BlockingIOError):  # another process read the line
            data = os.read(descriptor, 4096)
            return data.decode("utf-8", "replace") if data else None


def exact(value: Json) -> str:
    """Return a value as JSON, or a text as it is, with every invisible character shown as an escape."""
    import json

    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return text if text.isascii() and text.isprintable() else "".join(map(_shown, text))


def _shown(char: str) -> str:
    if char == "\n" or (char.isprintable() and unicodedata.category(char) not in ("Mn", "Me", "Cf")):
        return char
    code = ord(char)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


class StdinApprover:
    """Reads decisions from stdin, one JSON object a line; the end of input denies what waits and what will come."""

    def __init__(self, stdin: Stream, messages: Messages) -> None:
        self._stdin = stdin
        self._messages = messages
        self._loop = asyncio.get_running_loop()
        self._handle: RunHandle | None = None
        self._waiting: set[str] = set()
        self._early: list[tuple[str, Decision]] = []
        self._ended = False
        self._ahead = threading.Semaphore(_LINES_AHEAD)
        threading.Thread(target=self._read, name="afk-approvals", daemon=True).start()

    def take(self, handle: RunHandle, event: Event) -> None:
        """Remember an open request; deny it at once if stdin has ended."""
        if self._handle is None:
            self._handle = handle
            for approval_id, decision in self._early:
                handle.decide(approval_id, decision)
        if event.type == "approval_requested":
            self._waiting.add(event.approval_id)
            if self._ended:
                handle.decide(event.approval_id, "deny")
        elif event.type == "approval_resolved":
            self._waiting.discard(event.approval_id)

    def close(self) -> None: ...

    def _read(self) -> None:
        data = b""
        with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: the loop has ended
            while chunk := os.read(self._stdin.descriptor, 1 << 16):
                data += chunk
                *lines, data = data.split(b"\n")
                for line in lines:
                    self._ahead.acquire()
                    self._loop.call_soon_threadsafe(self._take_line, line)
                if len(data) > _MAX_LINE:
                    self._loop.call_soon_threadsafe(self._take_line, data)
                    break
            else:
                self._loop.call_soon_threadsafe(self._take_line, data)
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end)

    def _take_line(self, line: bytes) -> None:
        self._ahead.release()
        if not line.strip():
            return
        try:
            approval_id, decision = parse_decision(line)
        except JsonError as error:
            self._messages.warn(f"ignored a line of stdin that is not a decision: {error}")
            return
        if self._handle is None:
            if len(self._early) < _MAX_EARLY:
                self._early.append((approval_id, decision))
        else:
            self._waiting.discard(approval_id)
            self._handle.decide(approval_id, decision)

    def _end(self) -> None:
        self._ended = True
        for approval_id in tuple(self._waiting):
            if self._handle is not None:
                self._handle.decide(approval_id, "deny")


def parse_decision(line: bytes) -> tuple[str, Decision]:
    """Return the approval's id and the decision of `{"approval_id": "...", "decision": "allow"}`.

    Raises:
        JsonError: the line has another form.
    """
    if len(line) > _MAX_LINE:
        raise JsonError(f"longer than {_MAX_LINE} bytes")
    said = loads_object(line, exactly=True)
    approval_id = said.get("approval_id")
    if not isinstance(approval_id, str) or not re.fullmatch(r"[\w-]{1,200}", approval_id):
        raise JsonError('it has no "approval_id"')
    decision: Decision | None = next((item for item in get_args(Decision) if item == said.get("decision")), None)
    if decision is None:
        raise JsonError(f'its "decision" must be one of {", ".join(get_args(Decision))}')
    return approval_id, decision
