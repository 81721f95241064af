"""`afk run`: one turn, streamed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from afkcli.commands.completion import complete_thread
from afkcli.commands.stdin import message_with_stdin
from afkcli.core.errors import EXIT_INTERNAL, UsageError
from afkcli.render import JsonRenderer, Messages, Output, Renderer, TextRenderer, is_disconnected
from afkcli.signals import die_of

SIGPIPE = getattr(signal, "SIGPIPE", signal.SIGTERM)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of `afk run` but those that name a model or agent."""

    thread: str | None
    continue_: bool
    json: bool
    final: bool
    memory: bool
    busy: str
    busy_timeout: float
    debug: bool


def _positive(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and value <= 0:
        raise click.BadParameter("must be greater than 0", ctx, param)
    return value


@click.command("run")
@click.argument("message", nargs=-1, metavar="[MESSAGE]...")
@click.option(
    "--thread", "-t", metavar="NAME", shell_complete=complete_thread, help="The thread to go on with, or to begin."
)
@click.option("--continue", "-c", "continue_", is_flag=True, help="Go on with the thread last used in this folder.")
@click.option("--model", "-m", metavar="MODEL", help="The model, as provider/model or a name that a plugin knows.")
@click.option("--agent", "-a", metavar="NAME", help="The agent, by its name in the config.")
@click.option("--instructions", "-s", metavar="TEXT", help="Instructions (the system message) for this run.")
@click.option("--json", "json_", is_flag=True, help="Write every event as one line of JSON.")
@click.option("--final", is_flag=True, help="Write only the text of the last step, when it is there.")
@click.option("--no-memory", is_flag=True, help="Read and write no thread and no log; nothing reaches the disk.")
@click.option("--no-stdin", "-n", is_flag=True, help="Do not read stdin (in `while read` loops, for instance).")
@click.option(
    "--busy",
    type=click.Choice(["wait", "fail", "fork"]),
    default="wait",
    envvar="AFK_BUSY",
    show_default=True,
    help="What to do while another run holds the thread.",
)
@click.option(
    "--busy-timeout",
    type=float,
    default=60.0,
    envvar="AFK_BUSY_TIMEOUT",
    metavar="SECONDS",
    show_default=True,
    help="How long to wait for the thread.",
)
@click.option("--max-steps", type=click.IntRange(min=1), envvar="AFK_MAX_STEPS", help="At most this many model calls.")
@click.option(
    "--max-cost",
    type=click.FloatRange(min=0),
    envvar="AFK_MAX_COST",
    metavar="USD",
    help="At most this many US dollars; the price of the model has to be known.",
)
@click.option(
    "--timeout",
    type=float,
    callback=_positive,
    envvar="AFK_TIMEOUT",
    metavar="SECONDS",
    help="At most this long; what came until then is kept.",
)
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Use this plugin file too; may be given more than once.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def command(
    message: tuple[str, ...],
    model: str | None,
    agent: str | None,
    instructions: str | None,
    max_steps: int | None,
    max_cost: float | None,
    timeout: float | None,
    plugins: tuple[Path, ...],
    no_stdin: bool,
    no_memory: bool,
    json_: bool,
    **options: Any,
) -> None:
    """Run an agent on MESSAGE and stream its answer to stdout.

    What is piped in follows the message after a blank line; without MESSAGE, or with `-`, it is the message.
    """
    from afkcli.setup import Flags, load_setup

    run_options = RunOptions(memory=not no_memory, json=json_, **options)
    if run_options.continue_ and run_options.thread is not None:
        raise UsageError("--continue and --thread name two threads; use one of them")
    messages = Messages()
    text = message_with_stdin(message, read_stdin=not no_stdin, notify=messages.say)
    flags = Flags(
        model=model,
        agent=agent,
        instructions=instructions,
        max_steps=max_steps,
        max_cost=max_cost,
        timeout=timeout,
    )
    setup = load_setup(project=True, plugin_files=plugins, notify=messages.say)
    ending = asyncio.run(_Turn(run_options, setup, flags, text, messages).run())
    if ending.signal is not None:
        die_of(ending.signal)
    sys.exit(ending.code)


@dataclass(slots=True)
class _Ending:
    """How the process ends: with a code, or of a signal."""

    code: int = EXIT_INTERNAL
    signal: int | None = None


@dataclass(slots=True)
class _Turn:
    """One turn of the command line, from the runner to the exit code."""

    options: RunOptions
    setup: Any
    flags: Any
    text: str
    messages: Messages
    ending: _Ending = field(default_factory=_Ending)
    _cancel: Callable[[], object] = lambda: None

    async def run(self) -> _Ending:
        from afkcli.api import Runner
        from afkcli.core.runner import RunnerConfig

        config: Any = {"busy": self.options.busy, "busy_timeout_s": self.options.busy_timeout}
        runner = Runner(
            RunnerConfig(**config),
            store=None if self.options.memory else "memory",
            sinks=None if self.options.memory else (),
            setup=self.setup,
        )
        self._listen()
        try:
            await self._stream(runner)
        except asyncio.CancelledError:
            if self.ending.signal is None:
                raise
        finally:
            await runner.aclose()
        return self.ending

    async def _stream(self, runner: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._cancel = task.cancel
        thread_id = await self._thread(runner)
        handle = await runner.start(
            lambda thread: self.setup.agent_for(self.flags, thread), user_message=self.text, thread_id=thread_id
        )
        if thread_id is None and self.options.memory:
            self.messages.say(f"thread {handle.thread_id}")
        stopping: list[asyncio.Task[Any]] = []
        self._cancel = lambda: stopping.append(asyncio.ensure_future(handle.cancel()))
        if self.ending.signal is not None:  # it came while the run was opened
            self._cancel()
        await self._show(handle)
        await self._end(handle)

    async def _show(self, handle: Any) -> None:
        renderer = self._renderer()
        failed = False
        async for event in handle:
            if failed:
                continue
            try:
                await renderer.show(event)
            except OSError as error:
                failed = True
                if is_disconnected(error):
                    self.ending.signal = self.ending.signal or SIGPIPE
                else:
                    self.messages.error(
                        f"stdout cannot be written: {error.strerror}; the answer goes on into the thread"
                    )
                    self.ending.code = EXIT_INTERNAL
                    continue
                await handle.cancel()

    async def _end(self, handle: Any) -> None:
        from afkcli.core.result import exit_code

        result = await handle.wait()
        self.ending.code = exit_code(result)
        if self.options.debug and handle.exception is not None:
            import traceback

            lines = traceback.format_exception(handle.exception)
            self.messages.raw(self.setup.secrets.mask("".join(lines)))

    async def _thread(self, runner: Any) -> str | None:
        if not self.options.continue_:
            thread: str | None = self.options.thread
            return thread
        if not self.options.memory:
            raise UsageError("--continue needs the memory that --no-memory leaves out; use one of them")
        last = await runner.last_thread()
        if last is None:
            raise UsageError(f"no thread was used in {Path.cwd()} yet; begin one with --thread NAME")
        self.messages.say(f"thread {last.name}")
        name: str = last.name
        return name

    def _renderer(self) -> Renderer:
        output = Output()
        if self.options.json:
            return JsonRenderer(output)
        return TextRenderer(output, self.messages, final=self.options.final)

    def _listen(self) -> None:
        """Have SIGINT, SIGTERM and SIGHUP cancel the run; a signal that is ignored stays so (nohup)."""
        loop = asyncio.get_running_loop()
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is None or signal.getsignal(number) is signal.SIG_IGN:
                continue
            try:
                loop.add_signal_handler(number, self._on_signal, number)
            except NotImplementedError:  # Windows: only Ctrl-C, and not through the loop
                signal.signal(number, lambda got, frame: loop.call_soon_threadsafe(self._on_signal, got))

    def _on_signal(self, number: int) -> None:
        if self.ending.signal is not None:
            os._exit(128 + number) if os.name == "nt" else die_of(number)
        self.ending.signal = number
        self._cancel()
