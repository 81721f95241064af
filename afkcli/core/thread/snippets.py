"""The piece of a text that shows where the words of a search are.

Since: 0.2.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from afkcli.core.contract.text import collapsed
from afkcli.core.thread.turn_text import folded

_PIECE = 4096  # characters that are folded at once, where folding changes the length of a text
_PLACES = 100  # of a word in a text
_BEFORE = 0.3  # how much of a snippet comes before the first word
_LONGEST_WORD = 40  # of which the beginning or the end is shown, where a text is cut


class Snippet(NamedTuple):
    """A piece of a text on one line, without the marks that it was cut.

    Attributes:
        text: the piece.
        marked: the starts and ends of the words in it, in order.
        words: how many of the words it shows.
        cut_before, cut_after: whether there is more of the text before and after it.
    """

    text: str
    marked: tuple[tuple[int, int], ...]
    words: int
    cut_before: bool = False
    cut_after: bool = False


def snippet_of(text: str, words: Sequence[str], width: int) -> Snippet:
    """Return about `width` characters of `text` that show the most of the folded `words`, else its beginning."""
    places = sorted({place for word in words for place in _places(text, word)})
    start, shown = _best_window(places, width)
    first, last = _ends(text, max(0, start - int(width * _BEFORE)) if places else 0, width)
    piece = collapsed(text[first:last])
    marked = _joined((begin, end) for word in words for begin, end, _ in _places(piece, word))
    return Snippet(piece, marked, shown, cut_before=bool(text[:first].strip()), cut_after=bool(text[last:].strip()))


def _best_window(places: Sequence[tuple[int, int, str]], width: int) -> tuple[int, int]:
    """Return where the window of `width` characters with the most different words begins, and how many it has."""
    best, most = 0, 0
    for at, (start, _, _) in enumerate(places):
        seen: set[str] = set()
        for begin, _, word in places[at:]:
            if begin > start + width * (1 - _BEFORE):
                break
            seen.add(word)
        if len(seen) > most:
            best, most = start, len(seen)
    return best, most


def _ends(text: str, start: int, width: int) -> tuple[int, int]:
    """Return where a piece begins and ends: at blanks, if there are some near."""
    end = min(len(text), start + width)
    start = max(0, end - width)
    if start:
        blank = _next_blank(text, start, start + _LONGEST_WORD)
        start = blank if blank is not None and blank < start + width // 4 else start
    if end < len(text):
        cut = max(text.rfind(char, max(start, end - _LONGEST_WORD), end) for char in " \n\t")
        end = cut if cut > start + width // 2 else end
    return start, end


def _next_blank(text: str, start: int, end: int) -> int | None:
    found = [at for char in " \n\t" if (at := text.find(char, start, end)) >= 0]
    return min(found) + 1 if found else None


def _joined(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return spans in order, those that overlap as one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return tuple(joined)


def _places(text: str, word: str) -> Iterator[tuple[int, int, str]]:
    """Yield the first places of a folded word in a text: start, end, word."""
    for number, (start, end) in enumerate(_spans(text, word)):
        if number == _PLACES:
            return
        yield start, end, word


def _spans(text: str, word: str) -> Iterator[tuple[int, int]]:
    compared = folded(text)
    if len(compared) == len(text):
        yield from ((at, at + len(word)) for at in _finds(compared, word))
        return
    if word not in compared:
        return
    seen = 0  # where the last place ended
    for first in range(0, len(text), _PIECE):
        piece = text[first : first + _PIECE + 2 * len(word)]
        for at in _finds(folded(piece), word):
            start, end = first + _unfolded(piece, at), first + _unfolded(piece, at + len(word))
            if start >= seen and end > start:
                yield start, end
                seen = end


def _finds(text: str, word: str) -> Iterator[int]:
    at = text.find(word)
    while at >= 0:
        yield at
        at = text.find(word, at + len(word))


def _unfolded(text: str, at: int) -> int:
    """Return the place in `text` that is at `at` in the folded text."""
    return bisect_left(range(len(text)), at, key=lambda end: len(folded(text[:end])))
