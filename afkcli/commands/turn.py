"""One turn of the command line, as a function: from an invocation and a request to how it ended."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING

from afkcli.commands.approvals import Approver, approver, interaction_mode
from afkcli.commands.turn_checks import check_output, check_sources
from afkcli.commands.turn_request import TurnRequest
from afkcli.core.contract.errors import EXIT_DEGRADED, EXIT_DENIED, EXIT_INTERNAL, EXIT_OK, UsageError
from afkcli.core.contract.structs import Struct, replace
from afkcli.host.collecting import collect_again, pause_collecting
from afkcli.host.ending import Ending
from afkcli.host.invocation import STDOUT_ASIDE, Invocation
from afkcli.host.signals import SIGPIPE, die_of
from afkcli.screen.messages import Messages
from afkcli.screen.renderers import (
    JsonRenderer,
    Reasoning,
    Renderer,
    TextRenderer,
    final_answer,
    structured_answer,
)
from afkcli.screen.streams import Output, is_disconnected

if TYPE_CHECKING:
    from afkcli.commands.edit_question import Edited
    from afkcli.commands.new_thread import NewThreadLine
    from afkcli.core.contract.jsonform import JsonObject
    from afkcli.core.run.config import InteractionMode
    from afkcli.core.run.handle import RunHandle
    from afkcli.core.run.opening import Replaces
    from afkcli.core.thread.attachments import Attachment
    from afkcli.wiring.agents import Flags
    from afkcli.wiring.runner import Runner
    from afkcli.wiring.setup import Setup
    from afkcli.wiring.tapes import Tapes

LAST_WORDS_SECONDS = 0.5
UNREAD_SECONDS = 5.0
"""How long the end of a run whose time is over waits for a reader of stdout that takes nothing."""


def run_turn(invocation: Invocation, request: TurnRequest) -> Ending:
    """Run one turn and return how it ended. It raises nothing; what went wrong is written to stderr.

    It does not end the process either, except in one case: a second stop signal ends it at once, because work that
    does not react to the first one does not return.
    """
    pause_collecting()  # until the request is sent
    try:
        return _run(_prepared(invocation, request))
    except BaseException as error:
        from afkcli.screen.errors import ending_of

        return ending_of(error, invocation, debug=request.debug)
    finally:
        collect_again()


def _prepared(invocation: Invocation, request: TurnRequest) -> _Turn:
    """Read what the request names: stdin, attachments, the schema, the config and the plugins."""
    messages = Messages(invocation)
    check_sources(request)
    text: str | None = None
    attachments: Sequence[Attachment] = ()
    if not (request.resume or request.retry or request.edit):
        text, attachments = _message(invocation, request, messages)
    check_output(request)

    from afkcli.wiring.agents import Flags
    from afkcli.wiring.assembly import load_setup

    flags = Flags(
        model=request.model,
        agent=request.agent,
        instructions=request.instructions,
        tools=request.tools,
        limits=request.limits,
        options=request.options,
        schema=_schema(request),
        context=request.context,
        context_model=request.context_model,
    )
    setup = load_setup(invocation, project=True, plugin_files=request.plugins, notify=messages.say)
    tapes: Tapes | None = None
    if request.is_taped:
        from afkcli.commands.taped_turn import tapes_for

        tapes = tapes_for(request, setup, messages)
    replaces: Replaces | None = "last" if request.retry else None
    if request.edit:
        text, replaces, thread = _edited(invocation, request, setup)
        request = replace(request, thread=thread, continue_=False)  # another thread may be the last one by now
    return _Turn(invocation, request, setup, flags, text, messages, attachments, replaces, tapes)


def _edited(invocation: Invocation, request: TurnRequest, setup: Setup) -> Edited:
    from afkcli.commands.edit_question import edited_question
    from afkcli.wiring.plugin_objects import open_store

    store = open_store(setup)
    try:
        return edited_question(invocation, store, request.thread)
    finally:
        store.close()


def _message(invocation: Invocation, request: TurnRequest, messages: Messages) -> tuple[str, Sequence[Attachment]]:
    from afkcli.commands.stdin import message_with_stdin

    taken = "-" in request.attach or request.approvals == "stdin"  # by a file, or by decisions
    text = message_with_stdin(
        request.words, invocation.stdin, read_stdin=request.read_stdin and not taken, notify=messages.say
    )
    if not request.attach:
        return text, ()
    from afkcli.commands.attach import attached

    found = attached(request.attach, invocation.stdin, may_read_stdin=request.read_stdin, notify=messages.say)
    return text, found


def _schema(request: TurnRequest) -> JsonObject | None:
    if request.schema is None:
        return None
    from afkcli.commands.schema_option import read_schema

    return read_schema(request.schema)


def _run(turn: _Turn) -> Ending:
    """Run a turn in an event loop of its own, and restore the signal handlers."""
    before = {number: signal.getsignal(number) for number in turn.invocation.stop_signals}
    loops = asyncio.Runner()
    at_once = False
    try:
        ending = loops.run(turn.run())
        at_once = ending.at_once
        return ending
    finally:
        if not at_once:  # closing waits for what still runs
            loops.close()
            for number, handler in before.items():
                if handler is not None:  # it was not set from Python
                    signal.signal(number, handler)


class _Turn(Struct):
    """One turn while it runs. Without `text` it resumes the thread's last, or asks its question again (`replaces`)."""

    invocation: Invocation
    request: TurnRequest
    setup: Setup
    flags: Flags
    text: str | None
    messages: Messages
    attachments: Sequence[Attachment] = ()
    replaces: Replaces | None = None
    tapes: Tapes | None = None
    _code: int = EXIT_OK
    _signal: int | None = None
    _cancel: Callable[[], object] = lambda: None
    _approver: Approver | None = None
    _unserved: int | None = None
    _output: Output | None = None
    _said_unread: bool = False

    async def run(self) -> Ending:
        from afkcli.wiring.runner import Runner
        from afkcli.wiring.surroundings import runner_config

        mode: InteractionMode = "headless"
        if self._is_real:  # nobody is asked again about what was recorded
            mode = interaction_mode(self.request.approvals or self.setup.config.approval("mode"), self.invocation)
            self._approver = approver(mode, self.invocation, self.messages)
        runner = Runner(
            dataclasses.replace(
                runner_config(self.setup, self.request.busy, self.request.busy_timeout), interaction_mode=mode
            ),
            store=None if self.request.memory else "memory",
            sinks=None if self.request.memory else (),
            setup=self.setup,
            tapes=self.tapes,
        )
        self._listen()
        try:
            with STDOUT_ASIDE:  # what plugins and tools print is not the answer
                await self._stream(runner)
        except asyncio.CancelledError:
            if self._signal is None:
                raise
        finally:
            if self._approver is not None:
                self._approver.close()
            await runner.aclose()
            if self._output is not None:
                self._output.close()
        return Ending(self._code, self._signal, at_once=await _are_left_behind(stopped=self._signal is not None))

    @property
    def _is_real(self) -> bool:
        return self.tapes is None or self.tapes.is_real

    @property
    def _kept(self) -> str:
        """What a message about a lost answer says of where it is."""
        return "; the answer is kept in the thread" if self.request.memory and self._is_real else ""

    async def _stream(self, runner: Runner) -> None:
        from afkcli.wiring.agents import agent_for

        task = asyncio.current_task()
        assert task is not None
        self._cancel = task.cancel
        thread_id = await self._thread(runner)
        try:
            handle = await runner.start(
                lambda thread: agent_for(self.setup, self.flags, thread),
                user_message=self.text,
                thread_id=thread_id,
                create=self.text is not None and self.replaces is None,
                attachments=self.attachments,
                run_id=self.request.run_id,
                replaces=self.replaces,
            )
        except BaseException:
            if self.request.edit:  # what was typed is nowhere else
                self.messages.raw(f"afk: the edited question, which was not asked:\n{self.text}\n")
            raise
        if thread_id is None and self.request.memory and self._is_real:
            self.messages.say(f"thread {handle.thread_id}")
        showing = asyncio.ensure_future(self._show(handle, runner))
        stopping: list[asyncio.Task[None]] = []
        self._cancel = lambda: stopping.append(asyncio.ensure_future(_stop(handle, showing)))
        if self._signal is not None:  # it came while the run was opened
            self._cancel()
        limiting = asyncio.ensure_future(self._stop_showing_after_time_limit(handle, showing))
        await asyncio.wait({showing})
        limiting.cancel()
        await self._end(handle)
        if not showing.cancelled():
            showing.result()

    async def _stop_showing_after_time_limit(self, handle: RunHandle, showing: asyncio.Task[None]) -> None:
        """Once the time limit has ended the run, do not wait for a reader of stdout that has stopped."""
        result = await handle.ended()
        while result.reason == "max_wall_time_s":
            before = self._output.written if self._output is not None else 0
            await asyncio.wait({showing}, timeout=UNREAD_SECONDS)
            if showing.done():
                return
            if self._output is None or self._output.written == before:
                line = (
                    f"stdout was not read for {UNREAD_SECONDS:g} s after the time limit, so the answer was not written"
                )
                self.messages.error(f"{line} to its end{self._kept}")
                showing.cancel()
                return

    def _say_unread(self, handle: RunHandle) -> None:
        """Note in the events, once, that lines for a person were left out."""
        if not self._said_unread and self.invocation.stderr.left_out:
            self._said_unread = True
            handle.warn("stderr_unread", "lines for a person are left out, because nobody reads stderr")

    async def _show(self, handle: RunHandle, runner: Runner) -> None:
        renderer, new_thread = self._renderer(), self._new_thread_line(runner)
        failed = False
        async for event in handle:
            if event.type == "step_started":
                collect_again()
            await new_thread.take(event)
            if self._approver is not None and event.type in ("run_started", "approval_requested", "approval_resolved"):
                self._approver.take(handle, event)
            self._say_unread(handle)
            if failed:
                continue
            try:
                await renderer.show(event, more=handle.pending)
            except OSError as error:
                failed = True
                if is_disconnected(error):
                    self._stopped_by(self._signal or SIGPIPE)
                    await handle.cancel()
                else:
                    self.messages.error(f"stdout cannot be written: {error.strerror}{self._kept}")
                    self._code = EXIT_INTERNAL

    async def _end(self, handle: RunHandle) -> None:
        from afkcli.core.contract.result import exit_code

        result = await handle.wait()
        self._code = exit_code(result) or self._code
        if self.tapes is not None:
            from afkcli.commands.taped_turn import ended

            self._signal = await ended(self.tapes, result, self._output) or self._signal
        if self.request.fail_on_denied and result.denied and self._code in (EXIT_OK, EXIT_DEGRADED):
            self._code = EXIT_DENIED
        if self.request.debug and handle.exception is not None:
            import traceback

            lines = traceback.format_exception(handle.exception)
            self.messages.raw("".join(lines))

    async def _thread(self, runner: Runner) -> str | None:
        if self.request.resume and self.request.thread is not None:
            return (await runner.thread_meant(self.request.thread)).name
        if not self.request.continue_:
            return self.request.thread
        if not self.request.memory:
            raise UsageError("--continue needs memory, which --no-memory turns off; use one of them")
        last = await runner.last_thread()
        if last is None:
            raise UsageError(f"no thread was used in {self.invocation.folder} yet; start one with --thread NAME")
        self.messages.say(f"thread {last.name}")
        return last.name

    def _new_thread_line(self, runner: Runner) -> NewThreadLine:
        from afkcli.commands.new_thread import NewThreadLine

        request, is_seen = self.request, self.invocation.stderr.is_terminal and not self.request.quiet
        may_begin = request.memory and self._is_real and self.text is not None and self.replaces is None
        return NewThreadLine(runner, self.messages, request.thread if is_seen and may_begin else None)

    def _renderer(self) -> Renderer:
        output = self._output = Output(self.invocation.answer_descriptor())
        if self.request.json:
            return JsonRenderer(output)
        reasoning = None
        if self.request.reasoning:
            shared = self.invocation.same_output()
            reasoning = Reasoning(self.messages, Output(self.invocation.stderr.descriptor) if shared else None)
        answer = final_answer if self.request.final else None
        if self.request.schema is not None and not self.request.dry_run:
            answer = structured_answer
        seen = output.is_terminal and self.invocation.stderr.is_terminal
        tells = self._is_real and not self.request.quiet
        return TextRenderer(
            output,
            self.messages,
            answer=answer,
            reasoning=reasoning,
            attended=seen and tells,
            resumable=tells and self.request.memory,
        )

    def _listen(self) -> None:
        """Have the stop signals cancel the run."""
        loop = asyncio.get_running_loop()
        for number in self.invocation.stop_signals:
            try:
                loop.add_signal_handler(number, self._on_signal, number)
                # The loop is still woken. `signal.signal` has a system call interrupted, not restarted: where a write
                # of a plugin blocks the loop, the second signal has to be seen.
                signal.signal(number, self._on_unserved)
            except NotImplementedError:  # Windows: only Ctrl-C, and not through the loop
                signal.signal(number, lambda got, frame: loop.call_soon_threadsafe(self._on_signal, got))

    def _on_unserved(self, number: int, frame: FrameType | None) -> None:
        """Die of the second signal if the event loop has not handled the first: a tool blocks it."""
        if self._unserved is not None and self._signal is None:
            die_of(number)
        self._unserved = number

    def _on_signal(self, number: int) -> None:
        if self._signal is not None:
            os._exit(128 + number) if os.name == "nt" else die_of(number)
        self._stopped_by(number)
        self._cancel()

    def _stopped_by(self, number: int) -> None:
        self._signal = number
        if self.tapes is not None:
            self.tapes.signal = number


async def _stop(handle: RunHandle, showing: asyncio.Task[None]) -> None:
    """Cancel the run, without waiting for a reader that has stopped, such as a stopped terminal."""
    await handle.cancel()
    await asyncio.wait({showing}, timeout=LAST_WORDS_SECONDS)
    showing.cancel()


async def _are_left_behind(*, stopped: bool) -> bool:
    """Cancel what plugins and tools left on the event loop; return whether a task of it, or a thread, does not end."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left and (await asyncio.wait(left, timeout=LAST_WORDS_SECONDS))[1]:
        return True
    from afkcli.core.contract.tasks import CLOSE_SECONDS

    ending = asyncio.ensure_future(asyncio.get_running_loop().shutdown_default_executor())
    return bool((await asyncio.wait({ending}, timeout=LAST_WORDS_SECONDS if stopped else CLOSE_SECONDS))[1])
