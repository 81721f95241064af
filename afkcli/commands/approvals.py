"""Who decides on the tool calls of a command-line run: a person at the terminal, a program by stdin, or no one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import threading
from typing import Protocol, get_args

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.events import Event
from afkcli.core.contract.jsonform import JsonError, loads_object
from afkcli.core.contract.rules import Decision
from afkcli.core.run.config import InteractionMode
from afkcli.core.run.decisions import reason_of
from afkcli.core.run.handle import RunHandle
from afkcli.host.invocation import Invocation, Stream
from afkcli.screen.messages import Messages

_INTERACTION: dict[str, InteractionMode] = {"ask": "interactive", "deny": "headless", "stdin": "external"}

_MAX_LINE = 1 << 20  # a decision is a line of about a hundred bytes
_LINES_AHEAD = 64  # read and not taken yet: a flood waits in its pipe, and leaves the event loop to the run
_MAX_EARLY = 1000  # decisions before the run starts; their ids are unknown, so the run only warns about them


def interaction_mode(said: str | None, invocation: Invocation) -> InteractionMode:
    """Return who decides: as given, else the person at the terminal if there is one, else no one.

    Raises:
        UsageError: `ask` was given, but there is no terminal.
    """
    if said is None:
        return "interactive" if invocation.stderr.is_terminal and _is_in_foreground(invocation) else "headless"
    if said == "ask" and not _is_in_foreground(invocation):
        raise UsageError("--approvals ask needs a terminal; use --approvals deny or --approvals stdin")
    return _INTERACTION[said]


def _is_in_foreground(invocation: Invocation) -> bool:
    """Return whether there is a terminal that can be asked on: this process is in its foreground."""
    terminal = invocation.terminal
    if terminal is None or sys.platform == "win32":
        return False
    try:
        descriptor = os.open(terminal, os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return invocation.foreground_of(descriptor)  # a job in the background would be stopped by asking
    except OSError:
        return False
    finally:
        os.close(descriptor)


class Approver(Protocol):
    """Takes the events of a run, and gives decisions to its handle.

    `shows_calls` is whether a person sees the calls in its questions.
    """

    shows_calls: bool

    def take(self, handle: RunHandle, event: Event) -> None: ...

    def close(self) -> None: ...


def approver(
    mode: InteractionMode, invocation: Invocation, messages: Messages, *, plain: bool = False
) -> Approver | None:
    """Return the approver of a mode; None if the mode asks no one. `plain` is the option `--plain`."""
    if mode == "interactive":
        from afkcli.commands.asking import TerminalApprover  # not at the top: most runs ask no one

        return TerminalApprover(invocation, messages, plain=plain)
    return StdinApprover(invocation.stdin, messages) if mode == "external" else None


class StdinApprover:
    """Reads decisions from stdin, one JSON object a line; the end of input denies what waits and what will come."""

    shows_calls = False

    def __init__(self, stdin: Stream, messages: Messages) -> None:
        self._stdin = stdin
        self._messages = messages
        self._loop = asyncio.get_running_loop()
        self._handle: RunHandle | None = None
        self._waiting: set[str] = set()
        self._early: list[tuple[str, Decision, str]] = []
        self._ended = False
        self._ahead = threading.Semaphore(_LINES_AHEAD)
        threading.Thread(target=self._read, name="afk-approvals", daemon=True).start()

    def take(self, handle: RunHandle, event: Event) -> None:
        """Remember an open request; deny it at once if stdin has ended."""
        if self._handle is None:
            self._handle = handle
            for approval_id, decision, reason in self._early:
                handle.decide(approval_id, decision, reason=reason)
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
            approval_id, decision, reason = parse_decision(line)
        except JsonError as error:
            self._messages.warn(f"ignored a line of stdin that is not a decision: {error}")
            return
        if self._handle is None:
            if len(self._early) < _MAX_EARLY:
                self._early.append((approval_id, decision, reason))
        else:
            self._waiting.discard(approval_id)
            self._handle.decide(approval_id, decision, reason=reason)

    def _end(self) -> None:
        self._ended = True
        for approval_id in tuple(self._waiting):
            if self._handle is not None:
                self._handle.decide(approval_id, "deny")


def parse_decision(line: bytes) -> tuple[str, Decision, str]:
    """Return the approval's id, the decision and the reason of `{"approval_id": "...", "decision": "deny"}`.

    The reason is the text `reason`, which may be left out.

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
    reason = said.get("reason", "")
    if not isinstance(reason, str):
        raise JsonError('its "reason" must be a text')
    return approval_id, decision, reason_of(reason)
