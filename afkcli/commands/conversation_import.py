"""What `afk threads import` reads: recognises by its content which program wrote a file, and reads it accordingly."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Protocol

from afkcli.core.contract.jsonform import MAX_LINE_BYTES
from afkcli.core.thread.exchange import Incomplete, Item, read_lines
from afkcli.foreign.conversation import Conversation, ForeignError, Notes, exported
from afkcli.foreign.session import program_of

_LOOKED_AT = 50
"""Lines that are looked at for the program that wrote a file: a first line may be damaged, or tell nothing."""


class Report(Protocol):
    """Takes what is refused and what is left out."""

    def refuse(self, where: str, what: str) -> None: ...

    def say(self, what: str) -> None: ...


def items_of(file: str, stream: IO[bytes], lines: Iterator[bytes], report: Report) -> Iterator[Item]:
    """Yield what is in a file: threads of afk's own exports, or those that conversations of other programs become.

    Args:
        file: its path, `-` for stdin.
        stream: the file, at its beginning.
        lines: of `stream`; none was read yet.
        report: is told of what is refused, and at the end of what has no counterpart.
    """
    from afkcli.foreign.llm_database import MAGIC

    begun: list[bytes] = []
    program = None
    for line in lines:
        begun.append(line)
        if len(begun) == 1 and line.startswith(MAGIC):
            yield from _in_database(file, report)
            return
        program = program_of(line)
        if program is not None or len(begun) == _LOOKED_AT or sum(map(len, begun)) > MAX_LINE_BYTES:
            break
    lines = itertools.chain(begun, lines)
    if program in (None, "afk"):
        yield from read_lines(lines)
    elif program == "codex":
        from afkcli.foreign.codex_session import read_codex

        yield from _in_session(read_codex, lines, report)
    else:
        from afkcli.foreign.claude_session import read_claude

        yield from _in_session(read_claude, lines, report)


_Reader = Callable[[Iterable[bytes], Notes], Iterator[Conversation | Incomplete]]


def _in_session(read: _Reader, lines: Iterable[bytes], report: Report) -> Iterator[Item]:
    notes = Notes()
    try:
        for item in read(lines, notes):
            if isinstance(item, Incomplete):
                yield item
            else:
                yield from _thread_of(item, f", line {item.line}", report)
    except ForeignError as error:
        report.refuse("", str(error))
    for line in notes.lines():
        report.say(line)


def _in_database(file: str, report: Report) -> Iterator[Item]:
    from afkcli.foreign.llm_database import open_database
    from afkcli.foreign.llm_logs import Unread, read_llm

    if file == "-":
        report.refuse("", "a database cannot be read from a pipe; name its file")
        return
    notes = Notes()
    try:
        with open_database(file) as database:
            for item in read_llm(database, notes):
                where = f", conversation {item.id[:80]!r}"
                if isinstance(item, Unread):
                    report.refuse(where, item.what)
                else:
                    yield from _thread_of(item, where, report)
    except ForeignError as error:
        report.refuse("", str(error))
    for line in notes.lines():
        report.say(line)


def _thread_of(conversation: Conversation, where: str, report: Report) -> Iterator[Item]:
    try:
        yield exported(conversation)
    except ForeignError as error:
        report.refuse(where, str(error))
