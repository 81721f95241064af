"""Text wrapped at words for a terminal, so that what is copied is whole: a word that does not fit is not cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from afkcli.screen.markdown.styled import Line, Run, Styled, is_certain, joins_before, most_cells_of, width


def wrapped(
    content: Styled, columns: int, first: Sequence[Run] = (), further: Sequence[Run] = (), start: int = 0
) -> Iterator[Line]:
    """Yield the lines of a text from the position `start` on; the mark of each is the position behind it.

    A word longer than a line has a line of its own, which the terminal wraps.

    Args:
        content: the text; its newlines stay.
        columns: the width of the terminal.
        first, further: what stands before the first line of the text, and before each further one.
        start: where to begin.
    """
    text = content.text
    lead = list(first) if start == 0 else list(further)
    room = max(1, columns - sum(most_cells_of(run.text) for run in further))
    at = start
    while at and text[at : at + 1] == " ":  # its beginning is shown on another line
        at += 1
    while at <= len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        if at == end and at == len(text) and at > 0 and text[at - 1] != "\n":
            return
        for begin, stop, after in _pieces(text, at, end, room):
            runs = tuple(_trimmed([*lead, *content.runs(begin, stop)]))
            shown = "".join(run.text for run in runs)
            yield Line(runs, after, most_cells_of(shown), is_certain(shown))
            lead = list(further)
        at = end + 1


def _trimmed(runs: list[Run]) -> list[Run]:
    """Return a line without blanks at its end."""
    while runs:
        last = runs.pop()
        text = last.text.rstrip(" ")
        if text:
            runs.append(Run(text, last.style))
            break
    return runs


def _pieces(text: str, at: int, end: int, room: int) -> Iterator[tuple[int, int, int]]:
    """Yield the start and the end of each line, and where the next one begins (behind the newline for the last)."""
    ascii_only = text[at:end].isascii()
    while True:
        stop = _ascii_stop(text, at, end, room) if ascii_only else _stop(text, at, end, room)
        after = stop
        while after < end and text[after] == " ":
            after += 1
        if after >= end:
            yield at, stop, min(end + 1, len(text))
            return
        yield at, stop, after
        at = after


def _ascii_stop(text: str, at: int, end: int, room: int) -> int:
    if end - at <= room:
        return end
    stop = text.rfind(" ", at + 1, at + room + 1)
    if stop < 0 or not text[at:stop].strip(" "):  # indented by blanks alone, or one long word
        word = at
        while word < end and text[word] == " ":
            word += 1
        stop = text.find(" ", word, end)
    return end if stop < 0 else stop


def _stop(text: str, at: int, end: int, room: int) -> int:
    """As `_ascii_stop`, for characters of any width: a line may also end beside a wide character."""
    cells = 0
    fits = 0
    for position in range(at, end):
        char = text[position]
        if char == " ":
            fits = position if position > at and text[at:position].strip(" ") else fits
        elif position > at and _may_end_before(text[position - 1], char):
            fits = position
        cells += 2 if char == "\ufe0f" or "\U0001f1e6" <= char <= "\U0001f1ff" else width(char)
        if cells > room and char != " " and fits:
            return fits
    return end


def _may_end_before(before: str, char: str) -> bool:
    """Return whether a line may end between two characters that are not blank."""
    is_wide = width(char) == 2 or width(before) == 2
    return is_wide and not joins_before(char) and before not in " \u200d"
