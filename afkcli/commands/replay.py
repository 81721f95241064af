"""`afk replay`: shows the runs of an event log as they were shown when they ran, offline."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import click

from afkcli.commands.base import Command
from afkcli.commands.completion import complete_thread
from afkcli.commands.context import invocation
from afkcli.commands.thread_access import LoggedThread, thread_in_logs
from afkcli.core.contract.errors import AfkError, UsageError
from afkcli.core.contract.events import EVENT_TYPES, VERSION, Event, RunStarted
from afkcli.core.contract.jsonform import MAX_LINE_BYTES, JsonError, JsonObject, loads_object
from afkcli.core.contract.text import collapsed
from afkcli.core.contract.typed_json import from_json
from afkcli.host.ending import EndedError, Ending
from afkcli.host.signals import SIGPIPE
from afkcli.screen.answer_text import answer_text
from afkcli.screen.messages import Messages
from afkcli.screen.renderers import Reasoning, TextRenderer, final_answer
from afkcli.screen.streams import Output, is_disconnected
from afkcli.screen.styles import BOLD

_QUESTION = 200  # characters of a question that are shown


@click.command(
    "replay",
    cls=Command,
    examples=(
        ("afk replay run.jsonl", "what `afk run --json > run.jsonl` kept"),
        ("afk replay run.jsonl --final", "only the last text of each run"),
    ),
)
@click.argument("file", type=click.Path(allow_dash=True, dir_okay=False))
@click.option("--run", metavar="ID", help="Only this run; the beginning or end of its id is enough.")
@click.option("--thread", "-t", metavar="NAME", shell_complete=complete_thread, help="Only runs of this thread.")
@click.option("--reasoning", is_flag=True, help="Show the model's reasoning on stderr too.")
@click.option("--final", is_flag=True, help="Write only the text of the last step of each run.")
@click.option(
    "--plain", is_flag=True, help="On a terminal, show the answers as they are, and not as rendered Markdown."
)
def command(file: str, run: str | None, thread: str | None, reasoning: bool, final: bool, plain: bool) -> None:
    """Show the runs in FILE, an event log or the output of `afk run --json`, as they were shown; `-` is stdin.

    The answers go to stdout, everything else to stderr. No model is asked and no tool is called.
    """
    messages = Messages(invocation())
    threads = thread_in_logs(thread) if thread is not None else None
    events = _Events(_wanted(run, threads))
    with ExitStack() as stack:
        opened = invocation().stdin.binary() if file == "-" else _opened(file)
        try:
            source = stack.enter_context(opened)
            with _interruptible():
                asyncio.run(_show(events.of(source), messages, reasoning, final, plain))
        except OSError as error:
            if is_disconnected(error):
                raise EndedError(Ending(signal=SIGPIPE)) from None
            raise AfkError(f"{file} cannot be shown: {error.strerror}") from None
    if events.is_recording and not events.runs:
        raise UsageError(f"{file} is a recording, not an event log; `afk run --replay FILE` answers from it")
    if events.left_out:
        messages.warn(f"{events.left_out} line(s) of {file} are not events that this afk knows, and were left out")
    if not events.runs:
        unknown = threads.unknown if threads is not None else ""
        messages.say(unknown or ("no run matches" if run or thread else f"there is no run in {file}"))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Have Ctrl-C end the process: reading a pipe blocks the event loop, which would not take note of it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not where it is ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _opened(file: str) -> IO[bytes]:
    if not file:  # a path that is empty means the folder
        raise UsageError("the name of the file is empty; name an event log, or use - for stdin")
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None


def _wanted(run: str | None, thread: LoggedThread | None) -> Callable[[JsonObject], bool]:
    names = thread.names if thread is not None else None

    def wanted(form: JsonObject) -> bool:
        run_id = str(form.get("run_id", ""))
        of_the_thread = names is None or not names.isdisjoint((form.get("thread_id"), form.get("thread_key")))
        return of_the_thread and (run is None or run_id.startswith(run) or run_id.endswith(run))

    return wanted


class _Events:
    """The events of a log, those of each run together: of runs at the same time, the first to begin comes first.

    `runs` counts the runs, and `left_out` the lines that are not events that this afk knows. `is_recording` is whether
    one of these begins a recording.
    """

    def __init__(self, wanted: Callable[[JsonObject], bool]) -> None:
        self._wanted = wanted
        self._waiting: dict[str, list[Event]] = {}
        self.runs = 0
        self.left_out = 0
        self.is_recording = False

    def of(self, file: IO[bytes]) -> Iterator[Event]:
        current: str | None = None
        for event in self._read(file):
            if current is None:
                current = event.run_id
                self.runs += 1
            if event.run_id != current:
                self._waiting.setdefault(event.run_id, []).append(event)
                continue
            yield event
            if event.type == "completed":
                current = None
                yield from self._whole_ones()
                current = next(iter(self._waiting), None)
                yield from self._waiting.pop(current, ()) if current is not None else ()
                self.runs += current is not None
        for waiting in self._waiting.values():
            self.runs += 1
            yield from waiting

    def _whole_ones(self) -> Iterator[Event]:
        """Yield the events of the runs that have ended while they waited."""
        ended = [run_id for run_id, events in self._waiting.items() if events[-1].type == "completed"]
        for run_id in ended:
            self.runs += 1
            yield from self._waiting.pop(run_id)

    def _read(self, file: IO[bytes]) -> Iterator[Event]:
        while line := file.readline(MAX_LINE_BYTES + 1):
            if not line.strip():
                continue
            form: JsonObject = {}
            try:
                form = loads_object(line)
                kind = EVENT_TYPES.get(str(form.get("type")))
                if kind is None or form.get("v") != VERSION:
                    raise JsonError("it is no event of this version")
                if self._wanted(form):
                    yield from_json(kind, {name: value for name, value in form.items() if name != "v"})
            except JsonError:
                self.left_out += 1
                self.is_recording = self.is_recording or form.get("type") == "recording"


async def _show(events: Iterator[Event], messages: Messages, reasoning: bool, final: bool, plain: bool) -> None:
    output = Output(invocation().answer_descriptor())
    text = answer_text(invocation(), output, messages, plain=plain)
    renderer, shown = None, ""
    try:
        for event in events:
            if renderer is not None and event.run_id != shown:
                await renderer.end_line()
            if renderer is None or event.run_id != shown:
                shown = event.run_id
                _say_run(event, messages)
                renderer = TextRenderer(
                    output,
                    messages,
                    answer=final_answer if final else None,
                    reasoning=Reasoning(messages, stands_apart=text.is_rendered) if reasoning else None,
                    text=text,
                )
            await renderer.show(event, more=False)
        if renderer is not None:
            await renderer.end_line()
    finally:
        text.close()
        await output.flush()
        output.close()


def _say_run(event: Event, messages: Messages) -> None:
    """Write which run begins: its thread, its time, and the question if its first event is there."""
    asked = f": {collapsed(event.message, _QUESTION)}" if isinstance(event, RunStarted) else ""
    messages.say(f"{event.thread_id}, turn {event.turn}, {event.ts}{asked}", BOLD)
