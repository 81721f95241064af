"""The change of a file as a unified diff, bounded in size and time.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from afkcli.core.contract.previews import FileChange
from afkcli.screen.shown import TAB, shown
from afkcli.screen.wrapping import wrapped

CUT = "  … "
"""What the rest of a line begins with that was too long."""

_CONTEXT = 3
_MOST_COMPARED = 3_000
"""More lines than these between the common beginning and the common end are shown as replaced, not compared: the time
of a comparison grows with their square."""

Signed = tuple[str, str]
"""A line of a diff: its sign (`+`, `-`, a blank, `@` for a place, `\\` for a note) and its text."""


class Difference:
    """What a change changes.

    `summary` says it in words; `lines` are the lines of the diff; `notes` are what a diff does not show.
    """

    def __init__(self, change: FileChange) -> None:
        self.notes: list[str] = []
        self.lines: list[Signed] = []
        before, after = _text(change.before), _text(change.after)
        if before is None or after is None:
            self.summary = f"{_size(change.before)} -> {_size(change.after)}, not UTF-8 text"
            return
        old, new = _lines(before), _lines(after)
        if _ends(before) != _ends(after) and before and after:
            self.notes.append(f"the ends of lines change from {_ends(before)} to {_ends(after)}")
        self.lines = list(_unified(old, new))
        added, removed = (sum(sign == wanted for sign, _ in self.lines) for wanted in "+-")
        if change.before is None:
            self.summary = f"a new file, {_count(len(new), 'line')}"
        elif change.after is None:
            self.summary = f"deletes the file, {_count(len(old), 'line')}"
        elif before == after:
            self.summary = "nothing changes"
        else:
            self.summary = f"{_count(added, 'line')} added, {removed} removed"
        for text, what in ((before, "the old text"), (after, "the new text")):
            if text and not text.endswith("\n") and before != after:
                self.notes.append(f"{what} has no newline at its end")
        if before.startswith("\ufeff") != after.startswith("\ufeff") and before and after:
            self.notes.append("the byte order mark at the beginning changes")


def diff_lines(difference: Difference, columns: int) -> list[Signed]:
    """Return the lines of a diff for a terminal, each with its sign, in at most `columns` columns."""
    made: list[Signed] = []
    for sign, text in difference.lines:
        if sign == "@":
            made.append((sign, f"  {text}"))
            continue
        first, *others = wrapped(shown(text.replace("\t", TAB)), columns - 3, columns - len(CUT))
        made.append((sign, f"  {sign}{first}"))
        made += [(sign, CUT + other) for other in others]
    return made


def _text(data: bytes | None) -> str | None:
    if data is None:
        return ""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _lines(text: str) -> list[str]:
    """Return the lines of a text without their ends, LF or CRLF."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _ends(text: str) -> str:
    """Return how the lines of a text end."""
    pairs, all_ends = text.count("\r\n"), text.count("\n")
    if not pairs:
        return "LF"
    return "CRLF" if pairs == all_ends else "LF and CRLF mixed"


def _size(data: bytes | None) -> str:
    return "no file" if data is None else f"{len(data):,} bytes"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _unified(old: Sequence[str], new: Sequence[str]) -> Iterator[Signed]:
    """Yield the lines that differ, with those around them."""
    front = _common(old, new)
    back = _common(old[front:][::-1], new[front:][::-1])
    middle_old, middle_new = old[front : len(old) - back], new[front : len(new) - back]
    if not middle_old and not middle_new:
        return
    start = max(front - _CONTEXT, 0)
    around = list(old[start:front]), list(old[len(old) - back :][:_CONTEXT])
    if len(middle_old) + len(middle_new) > _MOST_COMPARED:
        yield from _replaced(start, around, middle_old, middle_new)
        return
    from difflib import SequenceMatcher

    first, second = [*around[0], *middle_old, *around[1]], [*around[0], *middle_new, *around[1]]
    for group in SequenceMatcher(None, first, second, autojunk=False).get_grouped_opcodes(_CONTEXT):
        yield "@", f"@@ line {start + group[0][1] + 1} @@"
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                yield from ((" ", line) for line in first[i1:i2])
                continue
            yield from (("-", line) for line in first[i1:i2])
            yield from (("+", line) for line in second[j1:j2])


def _replaced(
    start: int, around: tuple[list[str], list[str]], old: Sequence[str], new: Sequence[str]
) -> Iterator[Signed]:
    yield "@", f"@@ line {start + 1} @@"
    yield from ((" ", line) for line in around[0])
    yield from (("-", line) for line in old)
    yield from (("+", line) for line in new)
    yield from ((" ", line) for line in around[1])


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return how many lines two texts have in common at their beginning."""
    for at, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return at
    return min(len(first), len(second))
