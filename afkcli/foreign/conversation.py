"""A conversation of another program, and the thread that it becomes.

Everything in the thread follows from the source alone (its key, run ids, times and records), so that the same
conversation is recognised when it is imported again.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.ids import rfc3339
from afkcli.core.contract.jsonform import Json, JsonError, clean_text, dumps, loads
from afkcli.core.contract.messages import Message, Part, Role, TextPart, ToolCallPart, ToolResultPart
from afkcli.core.contract.protocols import Record, RecordKind, ThreadInfo
from afkcli.core.contract.result import RunState, Usage
from afkcli.core.contract.structs import FrozenStruct, Struct, field, replace
from afkcli.core.contract.text import in_mb
from afkcli.core.thread.attachments import Attachment
from afkcli.core.thread.exchange import ExportedThread
from afkcli.core.thread.fitting import fitted
from afkcli.core.thread.names import title_of
from afkcli.core.thread.records import advance, next_record
from afkcli.core.thread.turns import SealedTurn, after_seal, turn_to_json

MAX_BYTES = 256 * 1024 * 1024
"""Of text and attachments in one conversation; more than the largest one of years."""
EMPTY = "(empty message)"
"""The question of a turn that had no text: models refuse messages without any."""
_SLUG_CHARS = 48
_LATEST = 253_402_300_799.0  # the last second of the year 9999
_NOT_IN_SLUG = re.compile(r"[\W_]+")
_NOT_IN_TOOL_NAME = re.compile(r"[^A-Za-z0-9_-]")
_OPENAI = re.compile(r"(gpt-|chatgpt-|o[0-9](-|$))")


class ForeignError(Exception):
    """Something in a source cannot be read; the message says what."""


class TooLargeError(ForeignError):
    """A conversation is larger than `MAX_BYTES`."""


class Notes:
    """Counts what has no counterpart in afk, by its kind."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, what: str, count: int = 1) -> None:
        """Count a thing of the kind `what` (a plural)."""
        self._counts[what] += count

    def lines(self) -> list[str]:
        """Return a line for each kind."""
        return [f"left out, because afk has no counterpart: {what} ({count})" for what, count in self._counts.items()]


class ForeignTurn(Struct, kw_only=True):
    """One question and all that followed it. Times are seconds since the epoch; None where the source has none."""

    id: str
    messages: list[Message]
    model: str = ""
    started: float | None = None
    sealed: float | None = None
    usage: Usage | None = None
    cut: bool = False

    @property
    def state(self) -> RunState:
        """Completed if the last message is an answer; interrupted otherwise."""
        last = self.messages[-1]
        answered = last.role is Role.ASSISTANT and not last.tool_calls
        return RunState.COMPLETED if answered and not self.cut else RunState.INTERRUPTED


class Conversation(FrozenStruct, kw_only=True):
    """A conversation of the program `source`, known there by `id`; `line` is where it begins (0 in a database)."""

    source: str
    id: str
    turns: tuple[ForeignTurn, ...]
    line: int = 0
    title: str | None = None
    created: float | None = None
    folder: str | None = None
    contents: Mapping[str, bytes] = field(default_factory=dict)


def exported(conversation: Conversation) -> ExportedThread:
    """Return the thread of a conversation, as an export of afk holds one.

    Raises:
        ForeignError: it has no turn, or cannot be recorded.
    """
    if not conversation.turns:
        raise ForeignError("it has no message")
    created = next(
        (at for at in (conversation.created, *(turn.started for turn in conversation.turns)) if at is not None), 0.0
    )
    source, id_ = conversation.source, conversation.id
    title = title_of(clean_text(conversation.title or conversation.turns[0].messages[0].text))
    key, begun = derived_uuid7(created, source, id_), rfc3339(created)
    thread = ThreadInfo(
        key=key,
        name=_slug(title or "") or f"{source}-{_slug(id_) or key[:8]}",
        created=begun,
        used=begun,
        title=title,
        folder=conversation.folder,
    )
    records: list[Record] = []
    before = created
    try:
        for number, turn in enumerate(conversation.turns, 1):
            sealed = fitted(_sealed(turn, number, source, id_, before))
            record = next_record(thread, RecordKind.SEAL, number, turn_to_json(sealed))
            records.append(record)
            thread = replace(advance(thread, record), turns=number, model=sealed.model or thread.model)
            thread = after_seal(thread, sealed)
            before = _first(turn.sealed, turn.started, before)
    except JsonError as error:
        raise ForeignError(f"it cannot be recorded: {error}") from None
    return ExportedThread(
        line=conversation.line,
        thread=thread,
        records=tuple(records),
        contents=conversation.contents,
        may_extend=True,
    )


def _sealed(turn: ForeignTurn, number: int, source: str, id_: str, before: float) -> SealedTurn:
    started = _first(turn.started, before)
    state = turn.state
    usage = turn.usage if turn.usage is not None else Usage(unknown=("input_tokens", "output_tokens"))
    return SealedTurn(
        turn=number,
        run_id=derived_uuid7(started, source, id_, turn.id, str(number)),
        state=state,
        reason=None,
        error=None,
        error_kind=None,
        agent=source,
        model=turn.model,
        started=rfc3339(started),
        sealed=rfc3339(max(started, _first(turn.sealed, started))),
        messages=tuple(turn.messages),
        usage=usage,
        cost_usd=None,
        steps=sum(message.role is Role.ASSISTANT for message in turn.messages),
    )


def _first(*times: float | None) -> float:
    return next((at for at in times if at is not None), 0.0)


def derived_uuid7(seconds: float, *parts: str) -> str:
    """Return the UUIDv7 of the time `seconds` whose other bits follow from `parts`."""
    digest = hashlib.sha256(dumps(["afk", *map(clean_text, parts)]).encode()).digest()
    random = int.from_bytes(digest[:10], "big")
    milliseconds = min(max(0, int(seconds * 1000)), (1 << 48) - 1)
    random_a, random_b = (random >> 62) & 0xFFF, random & ((1 << 62) - 1)
    text = f"{milliseconds << 80 | 0x7 << 76 | random_a << 64 | 0b10 << 62 | random_b:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _slug(text: str) -> str:
    """Return `text` as a name of letters, digits and hyphens; "" where it has no letter and no digit."""
    slug = _NOT_IN_SLUG.sub("-", text.casefold()).strip("-")
    if len(slug) > _SLUG_CHARS:
        slug = slug[: _SLUG_CHARS + 1].rpartition("-")[0] or slug[:_SLUG_CHARS]
    return slug if slug.isprintable() else ""


def time_of(value: object) -> float | None:
    """Return the seconds since the epoch of a time in ISO 8601 (UTC where it has no zone); None if it is not one."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        at = datetime.fromisoformat(value)
        seconds = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds <= _LATEST else None


def model_name(name: str) -> str:
    """Return `provider/model` where the name of a model says whose it is; else the name as it is."""
    name = clean_text(name)[:200]
    if "/" in name:
        return name
    if _OPENAI.match(name):
        return f"openai/{name}"
    return f"anthropic/{name}" if name.startswith("claude") else name


class Parts:
    """Makes the parts of messages, and holds the contents of one conversation.

    Args:
        notes: counts what cannot be imported.
    """

    def __init__(self, notes: Notes) -> None:
        self.contents: dict[str, bytes] = {}
        self._notes = notes
        self._size = 0

    def text(self, text: str) -> TextPart:
        """Return a part of text."""
        self.count(len(text))
        return TextPart(text=clean_text(text))

    def count(self, size: int) -> None:
        """Count so many characters or bytes; `TooLargeError` if the conversation has too many."""
        self._size += size
        if self._size > MAX_BYTES:
            raise TooLargeError(f"it is larger than {in_mb(MAX_BYTES)}")

    def attachment(self, data: bytes, name: str) -> Part:
        """Return the part of an image, a PDF or a text; a note for the model if it is none of these, or too large."""
        try:
            attachment = Attachment(data=data, name=name)
        except UsageError:
            return self.missing("attachments of a type or a size that afk does not take", name)
        self.count(len(data))
        self.contents[attachment.part.sha256] = data
        return attachment.part

    def missing(self, what: str, name: str) -> TextPart:
        """Count an attachment that is not imported, and return the note for the model in its place."""
        self._notes.add(what)
        return TextPart(text=f"[{clean_text(name)[:200]} was attached here; it was not imported]\n\n")

    def call(self, id_: str, name: str, arguments: Json) -> ToolCallPart:
        """Return the part of a tool call; `arguments` is an object, or what the model sent in place of one."""
        id_, name = clean_text(id_)[:200], tool_name(name)
        if isinstance(arguments, str):
            self.count(len(arguments))
            try:
                arguments = loads(arguments)
            except JsonError:
                return ToolCallPart(id=id_, name=name, arguments={}, invalid_arguments=clean_text(str(arguments)))
        try:
            text = dumps([[[[[[[[arguments]]]]]]]])  # a record nests it no deeper
        except JsonError:
            return ToolCallPart(id=id_, name=name, arguments={}, invalid_arguments=clean_text(str(arguments)))
        self.count(len(text))
        if not isinstance(arguments, dict):
            return ToolCallPart(id=id_, name=name, arguments={}, invalid_arguments=text[8:-8])
        return ToolCallPart(id=id_, name=name, arguments=arguments)

    def result(self, id_: str, name: str, parts: Iterable[Part], *, is_error: bool = False) -> ToolResultPart:
        """Return the part of a tool's result."""
        return ToolResultPart(
            id=clean_text(id_)[:200],
            name=tool_name(name),
            parts=tuple(parts) or (TextPart(text=""),),
            is_error=is_error,
        )


def tool_name(name: str) -> str:
    """Return the name of a tool in the characters that the APIs take."""
    return _NOT_IN_TOOL_NAME.sub("_", name)[:64] or "tool"


def question(parts: Iterable[Part]) -> Message:
    """Return the user's message; one without any content says that it is empty."""
    kept = tuple(part for part in parts if not isinstance(part, TextPart) or part.text)
    return Message(role=Role.USER, parts=kept or (TextPart(text=EMPTY),))
