"""The text of a thread as a search sees it: of each turn, and of the thread's name, title and tags.

Since: 0.2.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from zlib import crc32

from afkcli.core.contract.errors import UnsupportedRecordError
from afkcli.core.contract.jsonform import Json, JsonError, clean_text, loads_object
from afkcli.core.contract.protocols import THREAD_SCHEMA, LargeRecord, Record, RecordKind, ThreadInfo
from afkcli.core.contract.text import collapsed
from afkcli.core.thread.changes import Change, read_change
from afkcli.core.thread.set_aside import set_aside

NAMES, QUESTION, ANSWER, TOOL, OTHER = "names", "question", "answer", "tool", "reasoning"
TEXT_KINDS = (NAMES, QUESTION, ANSWER, TOOL, OTHER)
"""What a text is: what a thread is called; of a turn, what the user said, what the model answered, its calls of tools
and their results, and what it thought or was instructed with."""
TEXT_WEIGHTS: Mapping[str, float] = {NAMES: 4.0, QUESTION: 2.0, ANSWER: 1.5, TOOL: 0.8, OTHER: 0.5}
"""How much a word counts in a text of each kind."""

_COMPARED = 1 << 16  # characters of a seal that tell whether two are the same
_TITLED = 1000  # characters of a question among which its title is
_NEWER = "changed by a newer afk"


def folded(text: str) -> str:
    """Return `text` as it is compared: without its letter case, and with characters of one meaning as one (NFKC)."""
    text = text.replace("\0", " ")
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", clean_text(text)).casefold())


def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a search, folded, each once: what is between blanks, whatever it is."""
    return tuple(dict.fromkeys(folded(text).split()))


def names_text(thread: ThreadInfo, question: str) -> str:
    """Return what a thread is called: its name, its tags, and its title if that is not just the first question.

    Args:
        thread: the thread.
        question: the first question, or its beginning; also if it is folded.
    """
    title = thread.title or ""
    asked = folded(collapsed(title)) in folded(collapsed(question[:_TITLED]))
    return "\n".join([thread.name, *([] if asked else [title]), *thread.tags])


def text_score(words: Sequence[str], texts: Mapping[str, str]) -> float:
    """Return how well folded texts, by their kinds, fit folded words: for stores without an index that ranks."""
    score = 0.0
    for kind, text in texts.items():
        for word in words:
            times = text.count(word)
            score += TEXT_WEIGHTS[kind] * times / (times + 1 + len(text) / 2000)
    return score


class TurnText(NamedTuple):
    """A sealed turn as a search sees it.

    Attributes:
        record: the index of its seal.
        turn: its number.
        run_id: its run; a turn that a fork has too is of the same run.
        resumes: the run whose turn it resumes, with all messages of that turn; None if it resumes none.
        started: when it began, in RFC 3339.
        copy: the same for the same turn in a fork; "" for what is no turn.
        texts: its text by the kinds of `TEXT_KINDS`, as it was written. Kinds without text are left out.
    """

    record: int
    turn: int
    run_id: str
    resumes: str | None
    started: str
    copy: str
    texts: Mapping[str, str]


def turn_text(record: Record) -> TurnText | None:
    """Return the text of the turn that `record` seals, None if it is no seal or cannot be read.

    Parts of a kind that this afk does not know count with their text.
    """
    if record.kind is not RecordKind.SEAL or isinstance(record, LargeRecord):
        return None
    try:
        body = loads_object(record.body)
    except JsonError:
        return None
    found: dict[str, list[str]] = {}
    for kind, text in _texts_of_messages(body.get("messages")):
        found.setdefault(kind, []).append(text)
    run_id = str(body.get("run_id", ""))
    return TurnText(
        record=record.index,
        turn=record.turn,
        run_id=run_id,
        resumes=str(body.get("parent_run_id")) if body.get("resumed") is True else None,
        started=str(body.get("started", "")),
        copy=f"{run_id}/{record.turn}/{crc32(record.body[:_COMPARED].encode(errors='replace')):08x}",
        texts={kind: "\n".join(texts) for kind, texts in found.items()},
    )


_KINDS_OF_ROLES = {"user": QUESTION, "assistant": ANSWER, "tool": TOOL}


def _texts_of_messages(messages: Json) -> Iterator[tuple[str, str]]:
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            kind = _KINDS_OF_ROLES.get(str(message.get("role")), OTHER)
            yield from _texts_of_parts(message.get("parts"), kind)


def _texts_of_parts(parts: Json, kind: str) -> Iterator[tuple[str, str]]:
    """Yield the texts of parts, of those inside them, and the names of files; no data of a provider."""
    for part in parts if isinstance(parts, list) else ():
        if not isinstance(part, dict):
            continue
        of = part.get("type")
        if of == "tool_call":
            yield TOOL, " ".join([str(part.get("name")), *_strings(part.get("arguments"))])
            continue
        for name in ("text", "name") if of != "tool_result" else ("name",):
            if isinstance(part.get(name), str):
                yield OTHER if of == "reasoning" else kind, part[name]
        yield from _texts_of_parts(part.get("parts"), kind)


def _strings(value: Json) -> Iterator[str]:
    """Yield the strings and numbers in the arguments of a call."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield str(value)


class TurnPlace(NamedTuple):
    """What decides whether a turn is left out: its number, its run, and the run whose turn it resumes."""

    turn: int
    run_id: str
    resumes: str | None


def left_out(thread: ThreadInfo, turns: Sequence[TurnPlace], changes: Iterable[Record]) -> dict[int, str]:
    """Return why turns are found only by a search of all, by their numbers.

    They are set aside (`undone`, `replaced by turn N`), or a later turn resumes them and has all that they have. Of a
    thread that a newer afk changed it is all turns: what they mean now is unknown.

    Args:
        thread: the thread.
        turns: its sealed turns that can be read, in order.
        changes: its `meta` records, in order.
    """
    try:
        if thread.schema > THREAD_SCHEMA:
            raise UnsupportedRecordError(_NEWER)
        why = set_aside((turn.turn for turn in turns), list(_read(thread.name, changes)))
    except UnsupportedRecordError:
        return {turn.turn: _NEWER for turn in turns}
    last_of: dict[str, int] = {}
    for turn in turns:
        earlier = last_of.get(turn.resumes) if turn.resumes is not None and turn.turn not in why else None
        if earlier is not None:
            why.setdefault(earlier, f"resumed as turn {turn.turn}")
        last_of[turn.run_id] = turn.turn
    return why


def _read(name: str, records: Iterable[Record]) -> Iterator[Change]:
    for record in records:
        try:
            yield read_change(name, record, loads_object(record.body))
        except JsonError:  # the fold of the history reports it
            continue
