"""`afk threads show`: the conversation of a thread, or a part of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import click

from afkcli.commands.base import Command
from afkcli.commands.completion import complete_thread
from afkcli.commands.context import invocation
from afkcli.commands.conversation import ShownTurn, shown_turn, turn_form, turns_of, with_messages
from afkcli.commands.json_option import json_option
from afkcli.commands.moments import since_option
from afkcli.commands.number_types import WholeNumber
from afkcli.commands.thread_access import command_owner, last_used_anywhere, opened_store
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.protocols import Record, Store, ThreadInfo
from afkcli.core.thread.export import Snapshot, snapshot
from afkcli.core.thread.history import History, outline, sealed_turns
from afkcli.core.thread.last_turns import last_turns
from afkcli.core.thread.listing import RUNNING
from afkcli.core.thread.lookup import thread_meant
from afkcli.core.thread.operations import settled
from afkcli.screen.answer_text import renders_markdown
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout


class TurnRange(click.ParamType):  # type: ignore[type-arg]  # as in moments
    """Numbers of turns: `5`, `3-7`, `3-` (to the last one), `-7` (from the first one)."""

    name = "turns"
    _FORM = re.compile(r"(\d{1,9})?(-)?(\d{1,9})?")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> range:
        found = self._FORM.fullmatch(str(value))
        first, dash, last = found.groups() if found else (None, None, None)
        numbers = range(int(first or 1), int(last or (10**9 if dash else first or 0)) + 1)
        if not (first or last) or not numbers or not numbers[0]:
            self.fail(f"must be the number of a turn (5), or a range of them (3-7, 3-) (got {value!r})", param, ctx)
        return numbers


class _Part(NamedTuple):
    """Which part of a conversation is shown; with no field it is all that is not set aside."""

    last: int | None
    turns: range | None
    since: str | None
    every: bool

    def is_all(self) -> bool:
        return self.last is None and self.turns is None and self.since is None

    def of(self, turns: Sequence[ShownTurn]) -> list[ShownTurn]:
        """Return those of `turns` that are shown. A turn that is named by its number is, also if it is set aside."""
        shown = [
            turn
            for turn in turns
            if (self.every or turn.set_aside is None or self.turns is not None)
            and (self.turns is None or turn.turn.turn in self.turns)
            and turn.turn.started >= (self.since or "")
        ]
        return shown if self.last is None else shown[-self.last :]

    def is_in(self, thread: ThreadInfo, history: History) -> bool:
        """Return whether the last turns, which `history` has, are enough."""
        if self.turns is not None or not history.turns:
            return False
        if self.since is not None and history.turns[0].started < self.since:
            return True
        opened = thread.open_turn is not None
        return self.last is not None and len(self.of(turns_of(thread, history, None))) + opened >= self.last


@click.command(
    "show",
    cls=Command,
    examples=(
        ("afk threads show trip", "the thread `trip`"),
        ("afk threads show trip -n 2", "its last two turns"),
        ("afk threads show --json", "the thread last used here, as JSON"),
    ),
)
@click.argument("name", required=False, shell_complete=complete_thread)
@click.option("--number", "-n", "count", type=WholeNumber(min=1), metavar="N", help="Show the last N turns.")
@click.option("--turn", "turns", type=TurnRange(), metavar="TURNS", help="Show these turns: 5, 3-7, 3-.")
@since_option("turns that began")
@click.option("--all", "every", is_flag=True, help="Show the turns that are set aside too.")
@click.option("--raw", is_flag=True, help="Write the records of the turns as they are stored, one JSON object a line.")
@click.option(
    "--plain", is_flag=True, help="On a terminal, show the answers as they are, and not as rendered Markdown."
)
@json_option
def show(
    name: str | None,
    count: int | None,
    turns: range | None,
    since: str | None,
    every: bool,
    raw: bool,
    plain: bool,
    as_json: bool,
) -> None:
    """Show the conversation of the thread NAME; with --json one object a turn.

    Without NAME it is the thread last used in this folder, or else the one last used anywhere. Turns that were undone
    or asked again are set aside: they are shown with --all, or by their number.
    """
    if raw and as_json:
        raise UsageError("--raw and --json are different output formats; use one of them")
    part = _Part(count, turns, since, every)
    messages, stdout = Messages(invocation()), Stdout(invocation())
    with opened_store() as store:
        named = thread_meant(store, name) if name is not None else last_used_anywhere(store, invocation(), messages)
        thread, state = settled(store, named, command_owner)
        taken = snapshot(store, thread)
        if raw and part.is_all():
            _write_records(stdout, taken.records(store))
            return
        if thread.open_turn is None and taken.thread.open_turn is not None:  # another run has just begun
            state = RUNNING
        found = _found(store, taken, state, part, messages)
        if raw:
            numbers = {turn.turn.turn for turn in found.outline}
            _write_records(stdout, (record for record in found.records if record.turn in numbers))
        elif as_json:
            stdout.objects(turn_form(taken.thread, turn) for turn in found.turns)
        else:
            rendered = renders_markdown(invocation(), is_terminal=stdout.is_terminal, plain=plain)
            stdout.lines(line for turn in found.turns for line in shown_turn(stdout, turn, rendered=rendered))


class _Found(NamedTuple):
    """What is shown: the turns, without messages where those are read one by one, then with them; and all records."""

    outline: list[ShownTurn]
    turns: Iterable[ShownTurn]
    records: Iterable[Record]


def _say_what_is_missing(name: str, part: _Part, messages: Messages) -> None:
    if part.is_all():
        messages.say(f"the thread {name!r} has no turn that can be shown")
        return
    from afkcli.screen.shell_line import shell_line

    line = shell_line(["afk", "threads", "show", name, "--all"])
    messages.say(f"the thread {name!r} does not have the requested turns; `{line}` shows all turns")


def _found(store: Store, taken: Snapshot, state: str | None, part: _Part, messages: Messages) -> _Found:
    thread = taken.thread
    latest = None
    if part.turns is None and not part.is_all():
        latest = last_turns(store, taken, part.last or 8, lambda history: part.is_in(thread, history))
    history = outline(thread, taken.records(store)) if latest is None else latest.history
    for line in history.damage:
        messages.warn(line)
    found = turns_of(thread, history, state)
    shown = part.of(found)
    if not shown:
        _say_what_is_missing(thread.name, part, messages)
    elif part.is_all() and len(shown) < len(found):
        aside = len(found) - len(shown)
        messages.say(f"{aside} turn{' is' if aside == 1 else 's are'} set aside; `--all` shows all turns")
    if part.is_all() and history.compaction is not None:
        through = history.compaction.through
        messages.say(f"a summary is sent in place of the turns up to {through}; it is one of the records (`--raw`)")
    if latest is not None:
        return _Found(shown, shown, latest.records)
    numbers = {turn.turn.turn for turn in shown}
    whole = with_messages(found, sealed_turns(thread, taken.records(store)))
    return _Found(shown, (turn for turn in whole if turn.turn.turn in numbers), taken.records(store))


def _write_records(stdout: Stdout, records: Iterable[Record]) -> None:
    stdout.json_lines(_lines(records))


def _lines(records: Iterable[Record]) -> Iterator[str]:
    from afkcli.core.thread.exchange import left_out_line, record_line

    for record in records:
        yield (record_line(record) or left_out_line(record)).rstrip("\n")
