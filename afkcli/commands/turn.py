"""One turn of the command line, as a function: from an invocation and a request to how it ended."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from afkcli.commands.question import Question, asked, edited
from afkcli.commands.session import LAST_WORDS_SECONDS, Session, are_left_behind
from afkcli.commands.turn_checks import check_output, check_sources
from afkcli.commands.turn_request import TurnRequest
from afkcli.core.contract.errors import EXIT_DEGRADED, EXIT_DENIED, EXIT_INTERNAL, EXIT_OK, ErrorKind, UsageError
from afkcli.core.contract.structs import Struct
from afkcli.host.collecting import collect_again, pause_collecting
from afkcli.host.ending import Ending
from afkcli.host.invocation import STDOUT_ASIDE, Invocation
from afkcli.host.signals import SIGPIPE
from afkcli.screen.answer_text import AnswerText, answer_text
from afkcli.screen.display import shown_activity
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
    from afkcli.commands.new_thread import NewThreadLine
    from afkcli.core.contract.jsonform import JsonObject
    from afkcli.core.contract.result import AgentResult
    from afkcli.core.run.handle import RunHandle
    from afkcli.screen.run_activity import RunActivity
    from afkcli.wiring.agents import Flags
    from afkcli.wiring.setup import Setup
    from afkcli.wiring.tapes import Tapes

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


class TurnEnded(NamedTuple):
    """How a turn ended: its exit code, and its result if it was started."""

    code: int
    result: AgentResult | None = None


async def take_turn(
    session: Session,
    request: TurnRequest,
    question: Question,
    flags: Flags,
    activity: RunActivity | None = None,
) -> TurnEnded:
    """Take one turn of a session, and return how it ended; `session.signals.number` is the signal that stopped it.

    Args:
        session: whose stop signals are listened to.
        request: the thread, and the form of the output.
        question: what is asked.
        flags: what `request` says of the agent; see `flags_of`.
        activity: shows what the turn waits for; one of its own by default.

    Raises:
        AfkError: the turn could not be started.
    """
    if activity is not None:
        return await _Turn(session, request, question, flags, activity).run()
    with turn_activity(session.invocation, session.messages, request) as activity:
        return await _Turn(session, request, question, flags, activity).run()


@contextmanager
def turn_activity(invocation: Invocation, messages: Messages, request: TurnRequest) -> Iterator[RunActivity | None]:
    """Show what a turn waits for on stderr, if that is a terminal.

    Nothing is shown with `--quiet`, and between lines of JSON on the same terminal.
    """
    if request.quiet or (request.json and invocation.stdout.is_terminal):
        yield None
        return
    with shown_activity(invocation, messages, "starting", plain=request.plain) as activity:
        if activity is None:
            yield None
            return
        from afkcli.screen.run_activity import RunActivity  # not at the top: a script's run has no terminal

        yield RunActivity(
            activity,
            shows_answer=invocation.stdout.is_terminal and not request.final and request.schema is None,
            shows_reasoning=request.reasoning,
        )


class _Prepared(NamedTuple):
    """A session of one turn before its event loop is there."""

    invocation: Invocation
    setup: Setup
    messages: Messages
    request: TurnRequest
    question: Question
    flags: Flags
    tapes: Tapes | None


def _prepared(invocation: Invocation, request: TurnRequest) -> _Prepared:
    """Read what the request names: stdin, attachments, the schema, the config and the plugins."""
    messages = Messages(invocation)
    check_sources(request)
    place: Callable[[str, str], str] | None = None
    if request.prompt is not None:
        from afkcli.commands.run_prompt import prompted  # not at the top: few runs have a prompt of a file

        request, place = prompted(invocation, request, messages.say)
    question = asked(invocation, request, messages, place)
    check_output(request)
    flags = flags_of(request)

    from afkcli.wiring.assembly import load_setup

    setup = load_setup(invocation, project=True, plugin_files=request.plugins, notify=messages.say)
    tapes: Tapes | None = None
    if request.is_taped:
        from afkcli.commands.taped_turn import tapes_for

        tapes = tapes_for(request, setup, messages)
    if request.edit:
        request, question = edited(invocation, setup, request)
    return _Prepared(invocation, setup, messages, request, question, flags, tapes)


def flags_of(request: TurnRequest) -> Flags:
    """Return what `request` says of the agent; `UsageError` if its schema cannot be read."""
    from afkcli.wiring.agents import Flags

    return Flags(
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


def _schema(request: TurnRequest) -> JsonObject | None:
    if request.schema is None:
        return None
    from afkcli.commands.schema_option import read_schema

    return read_schema(request.schema)


def _run(prepared: _Prepared) -> Ending:
    """Run a turn in an event loop of its own, and restore the signal handlers."""
    before = {number: signal.getsignal(number) for number in prepared.invocation.stop_signals}
    loops = asyncio.Runner()
    at_once = False
    try:
        ending = loops.run(_only_turn(prepared))
        at_once = ending.at_once
        return ending
    finally:
        if not at_once:  # closing waits for what still runs
            loops.close()
            for number, handler in before.items():
                if handler is not None:  # it was not set from Python
                    signal.signal(number, handler)


async def _only_turn(prepared: _Prepared) -> Ending:
    """Run the one turn of a session, which is closed then."""
    invocation, setup, messages, request, question, flags, tapes = prepared
    with turn_activity(invocation, messages, request) as activity:
        session = Session(invocation, setup, messages, request, tapes)
        session.signals.listen()
        try:
            ended = await take_turn(session, request, question, flags, activity)
        finally:
            await session.aclose()
        number = session.signals.number
        return Ending(ended.code, number, at_once=await are_left_behind(stopped=number is not None))


class _Turn(Struct):
    """One turn while it runs."""

    session: Session
    request: TurnRequest
    question: Question
    flags: Flags
    activity: RunActivity | None
    _code: int = EXIT_OK
    _result: AgentResult | None = None
    _cancel: Callable[[], object] = lambda: None
    _output: Output | None = None
    _text: AnswerText | None = None
    _said_unread: bool = False

    async def run(self) -> TurnEnded:
        self.session.signals.reset(self._on_signal)
        try:
            with STDOUT_ASIDE:  # what plugins and tools print is not the answer
                await self._stream()
        except asyncio.CancelledError:
            if self.session.signals.number is None:
                raise
        finally:
            self._cancel = lambda: None
            if self.session.approver is not None:
                self.session.approver.close()
            if self._text is not None:
                self._text.close()
            if self._output is not None:
                self._output.close()
        return TurnEnded(self._code, self._result)

    @property
    def messages(self) -> Messages:
        return self.session.messages

    @property
    def _kept(self) -> str:
        """What a message about a lost answer says of where it is."""
        return "; the answer is kept in the thread" if self.request.memory and self.session.is_real else ""

    async def _stream(self) -> None:
        from afkcli.wiring.agents import agent_for

        session, question = self.session, self.question
        task = asyncio.current_task()
        assert task is not None
        self._cancel = task.cancel
        thread_id = await self._thread()
        try:
            handle = await session.runner.start(
                lambda thread: agent_for(session.setup, self.flags, thread),
                user_message=question.text,
                thread_id=thread_id,
                create=question.is_new,
                attachments=question.attachments,
                run_id=self.request.run_id,
                replaces=question.replaces,
            )
        except BaseException:
            if self.request.edit:  # what was typed is nowhere else
                self.messages.raw(f"afk: the edited question, which was not asked:\n{question.text}\n")
            raise
        if thread_id is None and self.request.memory and session.is_real:
            self.messages.say(f"thread {handle.thread_id}")
        showing = asyncio.ensure_future(self._show(handle))
        stopping: list[asyncio.Task[None]] = []
        self._cancel = lambda: stopping.append(asyncio.ensure_future(_stop(handle, showing)))
        if session.signals.number is not None:  # it came while the run was opened
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
        if not self._said_unread and self.session.invocation.stderr.left_out:
            self._said_unread = True
            handle.warn("stderr_unread", "lines for a person are left out, because nobody reads stderr")

    async def _show(self, handle: RunHandle) -> None:
        approver = self.session.approver
        renderer, new_thread = self._renderer(), self._new_thread_line()
        failed = False
        async for event in handle:
            if event.type == "step_started":
                collect_again()
            if self.activity is not None:
                self.activity.take(event)
            if self.session.observe is not None:
                self.session.observe(event)
            await new_thread.take(event)
            if approver is not None and event.type in ("run_started", "approval_requested", "approval_resolved"):
                approver.take(handle, event)
            self._say_unread(handle)
            if failed:
                continue
            try:
                await renderer.show(event, more=handle.pending)
            except OSError as error:
                failed = True
                if is_disconnected(error):
                    self._stopped_by(self.session.signals.number or SIGPIPE)
                    await handle.cancel()
                else:
                    self.messages.error(f"stdout cannot be written: {error.strerror}{self._kept}")
                    self._code = EXIT_INTERNAL

    async def _end(self, handle: RunHandle) -> None:
        from afkcli.core.contract.result import exit_code

        result = self._result = await handle.wait()
        self._code = exit_code(result) or self._code
        if self.session.tapes is not None:
            from afkcli.commands.taped_turn import ended

            signals = self.session.signals
            signals.number = await ended(self.session.tapes, result, self._output) or signals.number
        if self.request.fail_on_denied and result.denied and self._code in (EXIT_OK, EXIT_DEGRADED):
            self._code = EXIT_DENIED
        if result.error_kind is ErrorKind.NOT_FOUND and not self.request.quiet:
            self._say_near_models(result.model)
        if self.request.debug and handle.exception is not None:
            import traceback

            lines = traceback.format_exception(handle.exception)
            self.messages.raw("".join(lines))

    def _say_near_models(self, model: str) -> None:
        """Say which known models a name that the server does not know may mean."""
        from afkcli.wiring.known_models import near_models

        near = [name for name in near_models(self.session.setup, model) if name != model]
        if near:
            self.messages.say(f"did you mean {' or '.join(near)}? `afk models` lists what your providers offer")

    async def _thread(self) -> str | None:
        if self.request.resume and self.request.thread is not None:
            return (await self.session.runner.thread_meant(self.request.thread)).name
        if not self.request.continue_:
            return self.request.thread
        if not self.request.memory:
            raise UsageError("--continue needs memory, which --no-memory turns off; use one of them")
        last = await self.session.runner.last_thread()
        if last is None:
            raise UsageError(
                f"no thread was used in {self.session.invocation.folder} yet; start one with --thread NAME"
            )
        self.messages.say(f"thread {last.name}")
        return last.name

    def _new_thread_line(self) -> NewThreadLine:
        from afkcli.commands.new_thread import NewThreadLine

        request, is_seen = self.request, self.session.invocation.stderr.is_terminal and not self.request.quiet
        may_begin = request.memory and self.session.is_real and self.question.is_new
        return NewThreadLine(self.session.runner, self.messages, request.thread if is_seen and may_begin else None)

    def _renderer(self) -> Renderer:
        invocation = self.session.invocation
        output = self._output = Output(invocation.answer_descriptor(), invocation.transient)
        if self.request.json:
            return JsonRenderer(output)
        plain = self.request.plain or self.request.dry_run or self.request.schema is not None  # JSON is not Markdown
        text = self._text = answer_text(invocation, output, self.messages, plain=plain)
        reasoning = None
        if self.request.reasoning:
            stderr = Output(invocation.stderr.descriptor, invocation.transient)
            shared = stderr if invocation.same_output() else None
            reasoning = Reasoning(self.messages, shared, stands_apart=text.is_rendered)
        answer = final_answer if self.request.final else None
        if self.request.schema is not None and not self.request.dry_run:
            answer = structured_answer
        seen = output.is_terminal and invocation.stderr.is_terminal
        tells = self.session.is_real and not self.request.quiet
        return TextRenderer(
            output,
            self.messages,
            answer=answer,
            reasoning=reasoning,
            attended=seen and tells,
            resumable=tells and self.request.memory and self.session.names_resume,
            asked=self.session.asks_on_stderr,
            text=text,
        )

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGINT and self.session.invocation.stderr.is_terminal:
            self.messages.before = self.messages.before or "\n"  # the terminal has written ^C
        self._stopped_by(number)
        self._cancel()

    def _stopped_by(self, number: int) -> None:
        if self.activity is not None:
            self.activity.stopping()
        self.session.signals.number = number
        if self.session.tapes is not None:
            self.session.tapes.signal = number


async def _stop(handle: RunHandle, showing: asyncio.Task[None]) -> None:
    """Cancel the run, without waiting for a reader that has stopped, such as a stopped terminal."""
    await handle.cancel()
    await asyncio.wait({showing}, timeout=LAST_WORDS_SECONDS)
    showing.cancel()
