"""`afk events`: the JSON Schema of events, and the log."""

from __future__ import annotations

import json
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import click

from afkcli.commands.base import Group
from afkcli.commands.completion import complete_thread
from afkcli.commands.context import invocation
from afkcli.commands.event_log import EventLog, LoggedEvent
from afkcli.commands.json_option import json_option
from afkcli.commands.logged_threads import log_files, log_sink
from afkcli.commands.number_types import WholeNumber
from afkcli.commands.thread_access import LoggedThread, thread_in_logs
from afkcli.core.contract.errors import AfkError, UsageError
from afkcli.core.contract.events import EVENT_TYPES
from afkcli.core.contract.jsonform import JsonObject, dumps
from afkcli.core.contract.suggestions import near_names
from afkcli.core.contract.text import one_line
from afkcli.host.ending import EndedError, Ending
from afkcli.host.signals import SIGPIPE
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout
from afkcli.screen.styles import DIM, RED, YELLOW
from afkcli.screen.text import shortened
from afkcli.wiring.assembly import load_setup

_POLL_SECONDS = 0.2
_ID_LENGTH = 8  # of a run's id, the end of which is random
_STYLES = {"error": RED, "warning": YELLOW, "retrying": YELLOW, "text_delta": DIM, "reasoning_delta": DIM}
_LINE_LENGTH = 200


@click.group(
    "events",
    cls=Group,
    examples=(
        ("afk events tail -f", "the log, as it is written"),
        ("afk events schema", "the JSON Schema of its lines"),
    ),
)
def command() -> None:
    """Read the event log; print the events' JSON Schema."""


@command.command(
    "schema",
    examples=(
        ("afk events schema", "indented"),
        ("afk events schema --json", "on one line"),
    ),
)
@json_option
def schema(as_json: bool) -> None:
    """Print the JSON Schema of one line of the event stream."""
    from afkcli.core.contract.event_schema import events_schema

    form = events_schema()
    Stdout(invocation()).lines([dumps(form) if as_json else json.dumps(form, indent=2, ensure_ascii=False)])


@command.command(
    "tail",
    examples=(
        ("afk events tail -n 50", "the last 50 events"),
        ("afk events tail -f --type error", "errors, as they are logged"),
        ("afk events tail -t trip --json", "of one thread, as JSON"),
    ),
)
@click.option("--follow", "-f", is_flag=True, help="Keep showing events as they are logged.")
@click.option("--lines", "-n", type=WholeNumber(min=0), default=10, show_default=True, metavar="N", help="The last N.")
@click.option("--thread", "-t", metavar="NAME", shell_complete=complete_thread, help="Only events of this thread.")
@click.option("--run", metavar="ID", help="Only events of this run; the beginning or end of its id is enough.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only events of this type (or A,B); repeatable.")
@json_option
def tail(follow: bool, lines: int, thread: str | None, run: str | None, types: tuple[str, ...], as_json: bool) -> None:
    """Show the last events of the log; with --json the lines unchanged."""
    types = _checked_types(types)
    stdout, messages = Stdout(invocation()), Messages(invocation())
    threads = thread_in_logs(thread) if thread is not None else None
    log = EventLog(_log_files(), _filter(threads.names if threads is not None else None, run, types))
    show = _show_json if as_json else _show_text
    try:
        events = log.last(lines)
        show(stdout, events)
        if not events and (lines or follow):
            _say_empty(messages, threads, follow, is_filtered=bool(thread or run or types))
        _say_left_out(log, messages)
        while follow:
            _wait(stdout)
            show(stdout, log.more())
            _say_left_out(log, messages)
    except KeyboardInterrupt:
        raise EndedError(Ending(signal=signal.SIGINT)) from None
    except OSError as error:
        raise AfkError(f"the event log {error.filename} cannot be read: {error.strerror}") from None


def _say_empty(messages: Messages, threads: LoggedThread | None, follow: bool, *, is_filtered: bool) -> None:
    """Say why no event is shown; with --follow only what will not change by itself: a name that no thread has."""
    if threads is not None and threads.unknown:
        messages.say(threads.unknown)
    elif not follow:
        messages.say("no event matches" if is_filtered else "the event log is empty")


def _log_files() -> Callable[[], Sequence[Path]]:
    """Return a function that lists the files of the log: `files` of the first sink in use that has it.

    Raises:
        ConfigError: no sink in use keeps such a log.
    """
    sink = log_sink(load_setup(invocation(), project=True))
    return lambda: log_files(sink)


def _checked_types(given: Sequence[str]) -> tuple[str, ...]:
    """Return the types in what was given, each several with commas between; a type that no event has is refused."""
    types = tuple(name.strip() for item in given for name in item.split(","))
    for name in types:
        if name not in EVENT_TYPES:
            near = near_names(name, EVENT_TYPES)
            hint = f"did you mean {near[0]!r}?" if near else f"types: {', '.join(EVENT_TYPES)}"
            raise UsageError(f"there is no event of the type {name!r}; {hint}")
    return types


def _filter(threads: frozenset[str] | None, run: str | None, types: Sequence[str]) -> Callable[[JsonObject], bool]:
    def wanted(event: JsonObject) -> bool:
        if types and event.get("type") not in types:
            return False
        if threads is not None and threads.isdisjoint((event.get("thread_id"), event.get("thread_key"))):
            return False
        run_id = str(event.get("run_id", ""))
        return run is None or run_id.startswith(run) or run_id.endswith(run)

    return wanted


def _show_json(stdout: Stdout, events: Sequence[LoggedEvent]) -> None:
    stdout.json_lines(event.line for event in events)


def _show_text(stdout: Stdout, events: Sequence[LoggedEvent]) -> None:
    width = stdout.columns() if stdout.is_terminal else _LINE_LENGTH
    lines = [(str(event.form.get("type")), shortened(_as_text(event.form), width)) for event in events]
    stdout.lines(stdout.styled(line, _STYLES[kind]) if kind in _STYLES else line for kind, line in lines)


def _as_text(event: JsonObject) -> str:
    """Return an event on one line: when, thread, run, type and what it says."""
    run = str(event.get("run_id", ""))[-_ID_LENGTH:]
    columns = [_clock(str(event.get("ts", ""))), str(event.get("thread_id", "")), run, str(event.get("type", ""))]
    return one_line(" ".join([*columns, _said(event)]))


def _said(event: JsonObject) -> str:
    """Return what an event says; an empty text for an unknown type."""
    kind = str(event.get("type"))
    if kind == "completed" and isinstance(event.get("result"), dict):
        result = event["result"]
        return " ".join(str(result[name]) for name in ("state", "final_text") if result.get(name))
    names = EVENT_TYPES[kind].brief if kind in EVENT_TYPES else ()
    values = [event[name] for name in names if event.get(name) not in (None, "")]
    return " ".join(value if isinstance(value, str) else dumps(value) for value in values)


def _clock(stamp: str) -> str:
    try:
        return datetime.fromisoformat(stamp).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except ValueError:
        return stamp


def _say_left_out(log: EventLog, messages: Messages) -> None:
    if log.left_out:
        messages.warn(f"{log.left_out} line(s) of the log are not events and were left out")
        log.left_out = 0


def _wait(stdout: Stdout) -> None:
    """Wait a moment.

    Raises:
        EndedError: stdout has no reader any more, which a write may find out only hours later.
    """
    if sys.platform == "win32" or stdout.is_terminal:
        time.sleep(_POLL_SECONDS)
        return
    poll = select.poll()
    poll.register(stdout.descriptor, 0)
    if any(flags & (select.POLLERR | select.POLLHUP) for _, flags in poll.poll(_POLL_SECONDS * 1000)):
        raise EndedError(Ending(signal=SIGPIPE))
