"""`afk threads search`: the turns that have some words, the best first.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from afkcli.commands.base import Command
from afkcli.commands.completion import complete_thread
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.moments import since_option, until_option
from afkcli.commands.number_types import WholeNumber
from afkcli.commands.thread_access import opened_store
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.protocols import TurnSearch
from afkcli.core.contract.text import collapsed
from afkcli.core.thread.listing import short_names
from afkcli.core.thread.searching import FoundTurn, found_turns
from afkcli.core.thread.turn_text import words_of
from afkcli.screen.marked import marked_line
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout
from afkcli.screen.styles import BOLD
from afkcli.screen.tables import write_table
from afkcli.screen.text import shortened
from afkcli.screen.times import local_time

_WIDTH = 160
"""How many characters of a text are shown where no terminal says how many fit."""
_INDENT = "    "


@click.command(
    "search",
    cls=Command,
    examples=(
        ("afk threads search onion soup", "turns that have both words"),
        ("afk threads search soup --since 2w", "of the last two weeks"),
    ),
)
@click.argument("words", nargs=-1, required=True, metavar="WORDS...")
@click.option("--limit", "-n", type=WholeNumber(min=1), default=20, show_default=True, metavar="N", help="The best N.")
@click.option("--thread", "-t", metavar="NAME", shell_complete=complete_thread, help="Search only the thread NAME.")
@since_option("turns")
@until_option("turns")
@click.option("--all", "every", is_flag=True, help="Search the turns that are set aside too.")
@json_option
def search(
    words: tuple[str, ...],
    limit: int,
    thread: str | None,
    since: str | None,
    until: str | None,
    every: bool,
    as_json: bool,
) -> None:
    """Find the turns that have all WORDS in their question, their answer or their tool results, the best first.

    The names, titles and tags of threads are searched too. Upper and lower case are the same. Each word is looked for
    as it is, also inside other words. After the turns that have all words come the threads that have them in several
    turns.
    """
    looked_for = words_of(" ".join(words))
    if not looked_for:
        raise UsageError("there is nothing to search for: name a word")
    stdout, messages = Stdout(invocation()), Messages(invocation())
    with opened_store("searching") as store:
        key = None
        if thread is not None:
            from afkcli.core.thread.lookup import thread_meant

            key = thread_meant(store, thread).key
        wanted = TurnSearch(words=looked_for, thread=key, since=since or "", until=until or "~", every=every)
        width = stdout.columns() - len(_INDENT) if stdout.is_terminal else _WIDTH
        found = list(found_turns(store, wanted, limit + 1, max(20, width)))
        on_terminal = stdout.is_terminal and not as_json
        short = short_names(store, [turn.thread.name for turn in found]) if on_terminal else {}
    _write(stdout, found[:limit], short, as_json=as_json)
    if not found:
        messages.say(f"no turn has {'this word' if len(looked_for) == 1 else 'these words'}")
    elif len(found) > limit:
        messages.say(f"these are the best {limit}; `--limit N` shows more")


def _write(stdout: Stdout, found: Sequence[FoundTurn], short: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        stdout.objects(map(_form, found))
    elif stdout.is_terminal:
        stdout.lines(line for turn in found for line in _lines(stdout, turn, short))
    elif found:
        rows = [(turn.thread.name, _number(turn), local_time(turn.date), turn.kind, _text(turn)[0]) for turn in found]
        write_table(stdout, ("THREAD", "TURN", "BEGUN", "IN", "TEXT"), rows, prose=True)


def _lines(stdout: Stdout, found: FoundTurn, short: Mapping[str, str]) -> tuple[str, str]:
    """Return what a terminal shows of a turn: where it is, and a piece of its text with the words marked."""
    called = short.get(found.thread.name, found.thread.name)
    columns = stdout.columns()
    turn = f"turn {found.turn} · " if found.turn is not None else ""
    left_out = f" · {found.left_out}" if found.left_out else ""
    rest = f" · {turn}{local_time(found.date)} · {found.kind}{left_out}"
    name = shortened(stdout.text(collapsed(called)), max(8, columns - len(rest)))
    text, marked = _text(found)
    line = marked_line(stdout, text, marked, columns - len(_INDENT))
    return f"{stdout.styled(name, BOLD)}{shortened(rest, max(1, columns - 8))}", f"{_INDENT}{line}"


def _text(found: FoundTurn) -> tuple[str, Sequence[tuple[int, int]]]:
    """Return the snippet with the marks that it was cut, and where the words are in it."""
    snippet = found.snippet
    before, after = "…" if snippet.cut_before else "", "…" if snippet.cut_after else ""
    moved = [(start + len(before), end + len(before)) for start, end in snippet.marked]
    return f"{before}{snippet.text}{after}", moved


def _number(found: FoundTurn) -> str:
    return "" if found.turn is None else str(found.turn)


def _form(found: FoundTurn) -> JsonObject:
    text, marked = _text(found)
    return {
        "v": 1,
        "type": "found",
        "thread_id": found.thread.name,
        "thread_key": found.thread.key,
        "turn": found.turn,
        "date": found.date,
        "kind": found.kind,
        "text": text,
        "marked": [list(span) for span in marked],
        "left_out": found.left_out,
    }
