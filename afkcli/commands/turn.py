"""One turn of the command line: from the runner to the way in which the process ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from afkcli.commands.approvals import Approver, approver, interaction_mode
from afkcli.core.contract.errors import EXIT_DEGRADED, EXIT_DENIED, EXIT_INTERNAL, EXIT_OK, UsageError
from afkcli.host.signals import SIGPIPE, die_of
from afkcli.screen.messages import Messages
from afkcli.screen.renderers import JsonRenderer, Reasoning, Renderer, TextRenderer, final_answer, structured_answer
from afkcli.screen.streams import Output, is_disconnected

if TYPE_CHECKING:
    from afkcli.core.run.handle import RunHandle
    from afkcli.core.thread.attachments import Attachment
    from afkcli.wiring.runner import Runner
    from afkcli.wiring.setup import Flags, Setup

LAST_WORDS_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of a turn but those that name a model or agent."""

    thread: str | None
    continue_: bool
    json: bool
    final: bool
    reasoning: bool
    structured: bool
    memory: bool
    busy: str | None
    busy_timeout: float | None
    approvals: str | None
    fail_on_denied: bool
    debug: bool


@dataclass(slots=True)
class Ending:
    """How the process ends: with a code, or of a signal."""

    code: int = EXIT_OK
    signal: int | None = None

    def leave(self) -> NoReturn:
        """End the process at once, whatever still runs in it."""
        if self.signal is not None:
            die_of(self.signal)
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(self.code)


@dataclass(slots=True)
class Turn:
    """One turn of the command line, from the runner to the exit code. Without `text` it resumes the thread's last."""

    options: RunOptions
    setup: Setup
    flags: Flags
    text: str | None
    messages: Messages
    attachments: Sequence[Attachment] = ()
    ending: Ending = field(default_factory=Ending)
    _cancel: Callable[[], object] = lambda: None
    _approver: Approver | None = None
    _unserved: int | None = None

    async def run(self) -> Ending:
        from afkcli.wiring.runner import Runner

        mode = interaction_mode(self.options.approvals or self.setup.config.approval("mode"))
        self._approver = approver(mode, self.messages)
        gc.disable()  # until the request leaves: looking for garbage in what is imported costs a tenth of that time
        runner = Runner(
            replace(self.setup.runner_config(self.options.busy, self.options.busy_timeout), interaction_mode=mode),
            store=None if self.options.memory else "memory",
            sinks=None if self.options.memory else (),
            setup=self.setup,
        )
        self._listen()
        try:
            with contextlib.redirect_stdout(sys.stderr):  # what plugins and tools print is not the answer
                await self._stream(runner)
        except asyncio.CancelledError:
            if self.ending.signal is None:
                raise
        finally:
            if self._approver is not None:
                self._approver.close()
            await runner.aclose()
        if await _are_left_behind():  # the event loop would wait for them as it closes, and the process never end
            self.ending.leave()
        return self.ending

    async def _stream(self, runner: Runner) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._cancel = task.cancel
        thread_id = await self._thread(runner)
        handle = await runner.start(
            lambda thread: self.setup.agent_for(self.flags, thread),
            user_message=self.text,
            thread_id=thread_id,
            create=self.text is not None,
            attachments=self.attachments,
        )
        if thread_id is None and self.options.memory:
            self.messages.say(f"thread {handle.thread_id}")
        showing = asyncio.ensure_future(self._show(handle))
        stopping: list[asyncio.Task[None]] = []
        self._cancel = lambda: stopping.append(asyncio.ensure_future(_stop(handle, showing)))
        if self.ending.signal is not None:  # it came while the run was opened
            self._cancel()
        await asyncio.wait({showing})
        await self._end(handle)
        if not showing.cancelled():
            showing.result()

    async def _show(self, handle: RunHandle) -> None:
        renderer = self._renderer()
        failed = False
        async for event in handle:
            if event.type == "step_started" and not gc.isenabled():
                gc.freeze()
                gc.enable()
            if self._approver is not None and event.type in ("run_started", "approval_requested", "approval_resolved"):
                self._approver.take(handle, event)
            if failed:
                continue
            try:
                await renderer.show(event, more=handle.pending)
            except OSError as error:
                failed = True
                if is_disconnected(error):
                    self.ending.signal = self.ending.signal or SIGPIPE
                    await handle.cancel()
                else:
                    what = f"stdout cannot be written: {error.strerror}"
                    self.messages.error(f"{what}; the answer is kept in the thread")
                    self.ending.code = EXIT_INTERNAL

    async def _end(self, handle: RunHandle) -> None:
        from afkcli.core.contract.result import exit_code

        result = await handle.wait()
        self.ending.code = exit_code(result) or self.ending.code
        if self.options.fail_on_denied and result.denied and self.ending.code in (EXIT_OK, EXIT_DEGRADED):
            self.ending.code = EXIT_DENIED
        if self.options.debug and handle.exception is not None:
            import traceback

            lines = traceback.format_exception(handle.exception)
            self.messages.raw("".join(lines))

    async def _thread(self, runner: Runner) -> str | None:
        if not self.options.continue_:
            return self.options.thread
        if not self.options.memory:
            raise UsageError("--continue needs the memory that --no-memory leaves out; use one of them")
        last = await runner.last_thread()
        if last is None:
            raise UsageError(f"no thread was used in {Path.cwd()} yet; begin one with --thread NAME")
        self.messages.say(f"thread {last.name}")
        return last.name

    def _renderer(self) -> Renderer:
        output = Output(_answers_own())
        if self.options.json:
            return JsonRenderer(output)
        reasoning = Reasoning(self.messages) if self.options.reasoning else None
        answer = structured_answer if self.options.structured else final_answer if self.options.final else None
        return TextRenderer(output, self.messages, answer=answer, reasoning=reasoning)

    def _listen(self) -> None:
        """Have SIGINT, SIGTERM and SIGHUP cancel the run; a signal that is ignored stays so (nohup)."""
        loop = asyncio.get_running_loop()
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is None or signal.getsignal(number) is signal.SIG_IGN:
                continue
            try:
                loop.add_signal_handler(number, self._on_signal, number)
                signal.signal(number, self._on_unserved)  # the loop is still woken
                signal.siginterrupt(number, False)
            except NotImplementedError:  # Windows: only Ctrl-C, and not through the loop
                signal.signal(number, lambda got, frame: loop.call_soon_threadsafe(self._on_signal, got))

    def _on_unserved(self, number: int, frame: FrameType | None) -> None:
        """Die of the second signal where the event loop has not got to the first: some tool does not let go of it."""
        if self._unserved is not None and self.ending.signal is None:
            die_of(number)
        self._unserved = number

    def _on_signal(self, number: int) -> None:
        if self.ending.signal is not None:
            os._exit(128 + number) if os.name == "nt" else die_of(number)
        self.ending.signal = number
        self._cancel()


async def _stop(handle: RunHandle, showing: asyncio.Task[None]) -> None:
    """Cancel the run; a reader that takes nothing any more (a stopped terminal) is not waited for."""
    await handle.cancel()
    await asyncio.wait({showing}, timeout=LAST_WORDS_SECONDS)
    showing.cancel()


def _answers_own() -> int:
    """Return a descriptor of stdout that only the answer is written to; what plugins, tools and the programs that they
    start write to descriptor 1 from here on goes to stderr, and closing it does no harm."""
    own = os.dup(1)
    os.dup2(2, 1)
    return own


async def _are_left_behind() -> bool:
    """Cancel what plugins and tools left running on the event loop; return whether some of it does not end."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    return bool(left) and bool((await asyncio.wait(left, timeout=LAST_WORDS_SECONDS))[1])
