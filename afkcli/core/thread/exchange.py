"""Threads as lines of JSON: written to the letter for a backup, and checked line by line where they come back.

A thread is a line of type `thread` (its metadata), a line of type `record` for each of its records, and a line of type
`content` (in base64) for each content that they name. A record that is too large for a line is a line of type
`left_out`: its fields without its body, so that the records around it still fit together. A turn that was rescued is a
line of type `rescued_turn`, its contents after it. If the run died before its end, the rest of its turn is in lines of
type `rescued_journal`, each with the contents that it names after it. What is read here is data: it is checked and
returned, nothing of it is run, opened or taken as a permission.

An export ends with a line of type `end` that says how many threads it holds, so that one that was cut is noticed, also
where it was cut between two threads. Exports may stand one behind the other; rescue files have no such line.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from afkcli.core.contract.codecs import thread_info_from_json
from afkcli.core.contract.errors import InvalidNameError, UnsupportedRecordError
from afkcli.core.contract.jsonform import Json, JsonError, JsonObject, dumps, loads_object, to_plain
from afkcli.core.contract.messages import Role
from afkcli.core.contract.protocols import KEPT_KINDS, THREAD_SCHEMA, LargeRecord, Record, RecordKind, ThreadInfo
from afkcli.core.contract.structs import FrozenStruct, field, replace
from afkcli.core.contract.text import collapsed, in_mb
from afkcli.core.contract.typed_json import from_json
from afkcli.core.thread.attachments import contents_named_in
from afkcli.core.thread.changes import read_change
from afkcli.core.thread.contents import is_content
from afkcli.core.thread.fitting import fitted
from afkcli.core.thread.names import check_name
from afkcli.core.thread.records import Chain, Fault
from afkcli.core.thread.turns import SealedTurn, interrupted_turn, journaled_messages, turn_to_json

VERSION = 1
"""The version of a line, but for the first one of a thread: that is the version of what its records mean."""
VERSIONS = range(VERSION, THREAD_SCHEMA + 1)
_KEY = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_MAX_INDEX, _MAX_TURN = 10**12, 10**10
_MAX_METADATA = 64 * 1024


class ExportedThread(FrozenStruct, kw_only=True):
    """A whole thread whose hashes are right; `line` is where it begins (1 is the first).

    `contents` are those of the attachments, by hash; `missing` names what is not in the file: records that the export
    left out, and contents of attachments. `may_extend` is whether turns that follow those of the store are appended: it
    is a conversation that its own program may have continued (since 0.2).
    """

    line: int
    thread: ThreadInfo
    records: tuple[Record, ...]
    contents: Mapping[str, bytes] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    may_extend: bool = False


class RescuedTurn(FrozenStruct, kw_only=True):
    """A turn that could not be saved in the thread of the name `thread_id`; the rest as in `ExportedThread`."""

    line: int
    thread_id: str
    turn: SealedTurn
    contents: Mapping[str, bytes] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


class Refused(FrozenStruct, kw_only=True):
    """Why a line is refused; the thread that it belongs to is refused too."""

    line: int
    what: str


class Incomplete(FrozenStruct, kw_only=True):
    """Why the file is incomplete; what was read of it is valid."""

    line: int
    what: str


Item = ExportedThread | RescuedTurn | Refused | Incomplete


def thread_line(thread: ThreadInfo) -> str:
    """Return the metadata of a thread as a line of JSON, with its newline."""
    return dumps({"v": thread.schema, "type": "thread", "thread": to_plain(thread)}) + "\n"


def record_line(record: Record) -> str | None:
    """Return a record to the letter as a line of JSON, with its newline; None if it is too large for one."""
    if isinstance(record, LargeRecord):
        return None
    try:
        return dumps({"v": VERSION, "type": "record", **to_plain(record)}) + "\n"
    except JsonError:
        return None


def left_out_line(record: Record) -> str:
    """Return the line in place of a record that is too large, with its newline."""
    form = to_plain(replace(record, body=""))
    return dumps({"v": VERSION, "type": "left_out", **form, "size": size_of(record)}) + "\n"


def size_of(record: Record) -> int:
    """Return the size of a record's body, also where it was not read."""
    return record.size if isinstance(record, LargeRecord) else len(record.body)


def thread_lines(thread: ThreadInfo, records: Iterable[Record]) -> Iterator[str]:
    """Yield a thread as lines of JSON, each with its newline: the metadata, then the records to the letter."""
    yield thread_line(thread)
    for record in records:
        yield record_line(record) or left_out_line(record)


def named_contents(records: Iterable[Record]) -> dict[str, str]:
    """Return the hashes of the attachments in the records, each with its name, in their order."""
    named: dict[str, str] = {}
    for record in records:
        if '"sha256"' in record.body:
            with suppress(JsonError):  # the fold reports a damaged record
                named |= contents_named_in(loads_object(record.body))
    return named


def rescued_journal_line(body: JsonObject) -> str:
    """Return a piece of a rescued turn's journal (the body of a journal record) as a line of JSON with its newline."""
    return dumps({**body, "v": VERSION, "type": "rescued_journal"}) + "\n"


def content_line(sha256: str, data: bytes) -> str:
    """Return a content as a line of JSON, with its newline."""
    form = {"v": VERSION, "type": "content", "sha256": sha256, "data": b64encode(data).decode("ascii")}
    return dumps(form) + "\n"


def rescued_line(thread_id: str, turn: SealedTurn) -> str:
    """Return a turn that could not be saved as a line of JSON, with its newline; as much of it as a record may hold."""
    form = {"v": VERSION, "type": "rescued_turn", "thread_id": thread_id, "turn": turn_to_json(fitted(turn))}
    return dumps(form) + "\n"


def end_line(threads: int) -> str:
    """Return the line that closes an export of that many threads, with its newline."""
    return dumps({"v": VERSION, "type": "end", "threads": threads}) + "\n"


def read_lines(lines: Iterable[bytes]) -> Iterator[Item]:
    """Yield the items in `lines` in order: complete threads, rescued turns, refusals, and what is missing."""
    reader = _Reader()
    number = 0
    for number, line in enumerate(lines, 1):
        if number == 1 and line.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            yield Refused(line=1, what="the file is UTF-16; save it as UTF-8, and import that")
            return
        line = line.removeprefix(BOM_UTF8) if number == 1 else line
        if line.strip():
            yield from reader.take(number, line)
    yield from reader.finish()
    yield from reader.missing_end(number)


class _Reader:
    """Puts threads and turns together from lines. After a line that is refused, what belongs to it is left out."""

    def __init__(self) -> None:
        self._checker: ThreadChecker | _RescueChecker | None = None
        self._skipping = False
        self._threads = 0  # that began since the last end of an export
        self._nothing = True  # no line of any kind came yet

    def take(self, number: int, line: bytes) -> Iterator[Item]:
        is_first, self._nothing = self._nothing, False
        try:
            form = _form_of(line, is_first=is_first)
            version = form.get("v")
            if type(version) is not int or version not in VERSIONS:
                raise JsonError(f"unknown version {version!r}; this afk knows versions up to {VERSIONS[-1]}")
            kind = form.get("type")
            if kind in ("record", "left_out", "content", "rescued_journal"):
                yield from self._add(number, kind, form)
                return
            yield from self.finish()
            if kind == "thread":
                self._threads += 1  # also one that is refused: it is in the file
                self._checker = ThreadChecker(number, form)
                self._skipping = False
            elif kind == "rescued_turn":
                self._checker = _RescueChecker(number, form)
                self._skipping = False
            elif kind == "end":
                yield from self._end(number, form)
            else:
                raise JsonError(f"unknown type {kind!r}")
        except JsonError as error:
            yield from self.finish()
            self._skipping = True
            yield Refused(line=number, what=_shortly(error))

    def finish(self) -> Iterator[Item]:
        """Yield the thread that was being read, or why it is left out."""
        checker, self._checker = self._checker, None
        if checker is not None:
            try:
                yield checker.whole()
            except JsonError as error:
                yield Refused(line=checker.line, what=f"{checker.label} is left out: {_shortly(error)}")

    def missing_end(self, line: int) -> Iterator[Incomplete]:
        """Yield an `Incomplete` if the end of an export is missing; rescue files have no such line."""
        if self._threads or self._nothing:
            yield Incomplete(line=line, what="its closing line is missing: it was cut, or an older afk wrote it")

    def _end(self, number: int, form: JsonObject) -> Iterator[Incomplete]:
        wanted = form.get("threads")
        if type(wanted) is not int or wanted < 0:
            raise JsonError("the closing line has no valid number of threads")
        found, self._threads, self._skipping = self._threads, 0, False
        if found != wanted:
            yield Incomplete(line=number, what=f"it has {found} threads, and its closing line says {wanted}")

    def _add(self, number: int, kind: str, form: JsonObject) -> Iterator[Item]:
        checker = self._checker
        if checker is None:
            if not self._skipping:
                raise JsonError(f"a line of type {kind} comes before any thread")
            return
        try:
            if kind == "record":
                checker.add(form)
            elif kind == "left_out":
                checker.add_left_out(form)
            elif kind == "rescued_journal":
                checker.add_journal(form)
            else:
                checker.add_content(form)
        except JsonError as error:
            self._checker, self._skipping = None, True
            yield Refused(line=number, what=f"{checker.label} is left out: {_shortly(error)}")


def _form_of(line: bytes, *, is_first: bool) -> JsonObject:
    """Return the object in a line; the `JsonError` of a wrong first line also says what a file must be."""
    what = "the file is not an export of `afk`, a database of `llm`, or a session of `codex` or `claude`"
    try:
        form = loads_object(line, exactly=True)
    except JsonError as error:
        raise JsonError(f"not a JSON object ({error}){f'; {what}' if is_first else ''}") from None
    if is_first and not {"v", "type"} & form.keys():
        raise JsonError(what)
    return form


class _Attached:
    """The contents of a thread or a turn while they are read: each has to be named by it."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def add(self, form: JsonObject, named: Mapping[str, str]) -> None:
        """Take the next content; `JsonError` if it is damaged or not one of `named`."""
        sha256, text = form.get("sha256"), form.get("data")
        if not isinstance(sha256, str) or not isinstance(text, str) or sha256 not in named:
            raise JsonError("content does not match any attachment")
        try:
            data = b64decode(text, validate=True)
        except ValueError as error:
            raise JsonError(f"the content of {named[sha256]} is not in base64: {error}") from None
        if not is_content(data, sha256):
            raise JsonError(f"the content of {named[sha256]} is damaged: its hash does not match")
        self.contents[sha256] = data

    def missing(self, named: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(name for sha256, name in named.items() if sha256 not in self.contents)


class _RescueChecker:
    """A rescued turn while its contents are read.

    Raises:
        JsonError: it is not such as afk writes.
    """

    def __init__(self, line: int, form: JsonObject) -> None:
        self._rescued = _rescued_turn(line, form)
        self.line = line
        self.label = f"the turn of the thread {self._rescued.thread_id!r}"
        self._told: list[JsonObject] = []
        self._named = contents_named_in(turn_to_json(self._rescued.turn))
        self._attached = _Attached()

    def add(self, form: JsonObject) -> None:
        """Refuse a record: a turn has none."""
        raise JsonError("it is followed by a record, which can only belong to a thread")

    def add_left_out(self, form: JsonObject) -> None:
        """Refuse a record: a turn has none."""
        self.add(form)

    def add_journal(self, form: JsonObject) -> None:
        """Take the continuation of the turn; `JsonError` if it cannot be one."""
        _with_journal(self._rescued, [form])
        self._told.append(form)
        self._named |= contents_named_in(form)

    def add_content(self, form: JsonObject) -> None:
        """Take the next content; `JsonError` if it is damaged, or not the turn's."""
        self._attached.add(form, self._named)

    def whole(self) -> RescuedTurn:
        """Return the turn with its contents, as far as its run came."""
        rescued = _with_journal(self._rescued, self._told)
        return replace(rescued, contents=self._attached.contents, missing=self._attached.missing(self._named))


class ThreadChecker:
    """One thread while it is read: every record has to fit those before it.

    Args:
        line: where the thread begins.
        form: its line.
        keep: whether `whole` has the records; without them it checks alone.

    Raises:
        JsonError: the metadata is not such as afk writes.
    """

    def __init__(self, line: int, form: JsonObject, *, keep: bool = True) -> None:
        self.line = line
        self.thread = _thread(form.get("thread"))
        self.label = f"the thread {self.thread.name!r}"
        self._keep = keep
        self._records: list[Record] = []
        self._opened: list[Record] = []
        self._left_out: list[str] = []
        self._last_index = -1
        self._turns = 0
        self._named: dict[str, str] = {}
        self._attached = _Attached()
        self._chain = Chain(self.thread.key)

    def add(self, form: JsonObject) -> None:
        """Take the next record; `JsonError` if it does not fit."""
        record = _record(form)
        label = f"its record {record.index}"
        fault = self._chain.follow(record)
        if fault is Fault.DAMAGED:
            raise JsonError(f"{label} is damaged or belongs to another thread: its hash does not match")
        self._take_place(record, fault, label)
        self._check_body(record, label)
        if self._keep:
            self._records.append(record)
        if record.kind not in KEPT_KINDS:
            self._opened.append(record)
        self._named |= named_contents([record])

    def add_left_out(self, form: JsonObject) -> None:
        """Take the place of a record that was left out; `JsonError` if it does not fit."""
        record = from_json(LargeRecord, {**form, "body": ""})
        self._take_place(record, self._chain.pass_over(record), f"its record {record.index}")
        self._left_out.append(f"turn {record.turn} ({in_mb(record.size)})")

    def _take_place(self, record: Record, fault: Fault | None, label: str) -> None:
        _check_range(record)
        if record.index <= self._last_index:
            raise JsonError(f"{label} is out of order")
        if fault is Fault.GAP:
            raise JsonError(f"a record before {label} is missing")
        self._last_index, self._turns = record.index, max(self._turns, record.turn)

    def _check_body(self, record: Record, label: str) -> None:
        """Raise `JsonError` if a kept record does not say what it has to say, or was written by a newer afk."""
        if record.kind not in KEPT_KINDS:
            return
        body = loads_object(record.body, exactly=True)
        if record.kind is RecordKind.META:
            try:
                read_change(self.thread.name, record, body)
            except UnsupportedRecordError as error:
                raise JsonError(str(error)) from None
        elif _turn(body).turn != record.turn:
            raise JsonError(f"{label} has the number of another turn in its body")

    def add_journal(self, form: JsonObject) -> None:
        """Refuse it: the continuation of a thread's open turn is in its records."""
        raise JsonError("it is followed by a rescued_journal line, which can only belong to a rescued turn")

    def add_content(self, form: JsonObject) -> None:
        """Take the next content; `JsonError` if it is damaged, or not the thread's."""
        self._attached.add(form, self._named)

    def whole(self) -> ExportedThread:
        """Return the thread; `JsonError` if a record of it is missing."""
        thread = self.thread
        if self._last_index < 0 or not self._chain.ends_at(thread):
            raise JsonError("its last record is missing")
        if (thread.next_index, thread.turns) != (self._last_index + 1, self._turns):
            raise JsonError("its metadata does not fit its records")
        _check_open_turn(thread, self._opened)
        return ExportedThread(
            line=self.line,
            thread=thread,
            records=tuple(self._records),
            contents=self._attached.contents,
            missing=(*self._left_out, *self._attached.missing(self._named)),
        )


def _check_open_turn(thread: ThreadInfo, records: list[Record]) -> None:
    """Raise `JsonError` if the question and journal `records` are not those of the turn that is open."""
    opened = thread.open_turn
    if opened is None:
        if records:
            raise JsonError("it has records of a turn that is not open")
        return
    if not records or records[0].kind is not RecordKind.QUESTION or records[0].index != opened.index:
        raise JsonError("the question of its open turn is missing")
    if any(record.turn != opened.turn for record in records):
        raise JsonError("it has records of a turn that is not open")
    try:
        _turn(turn_to_json(interrupted_turn(thread, opened, records)))
    except (KeyError, TypeError, AttributeError) as error:
        raise JsonError(f"its open turn cannot be read: {error}") from None


def _thread(form: Json) -> ThreadInfo:
    if isinstance(form, dict) and isinstance(form.get("schema"), int) and form["schema"] > THREAD_SCHEMA:
        raise JsonError(f"unknown schema version {form['schema']}; this afk knows version {THREAD_SCHEMA}: upgrade afk")
    thread = thread_info_from_json(form)
    if len(dumps(thread)) > _MAX_METADATA:  # it is read and written with every turn
        raise JsonError(f"the metadata of the thread is longer than {_MAX_METADATA:,} characters")
    try:
        name = check_name(thread.name)
    except InvalidNameError as error:
        raise JsonError(str(error)) from None
    if name != thread.name:
        raise JsonError(f"the thread name {thread.name!a} is not in its normal form (NFC)")
    if not _KEY.fullmatch(thread.key):
        raise JsonError("the key of the thread is not a UUIDv7")
    if not (_TIME.fullmatch(thread.created) and _TIME.fullmatch(thread.used)):
        raise JsonError("a time of the thread is not RFC 3339 in UTC")
    return thread


def _record(form: JsonObject) -> Record:
    record = from_json(Record, form)
    _check_range(record)
    loads_object(record.body, exactly=True)
    return record


def _check_range(record: Record) -> None:
    if not (0 <= record.index < _MAX_INDEX and 0 <= record.turn < _MAX_TURN):
        raise JsonError("a record has an index or a turn out of range")


def _rescued_turn(line: int, form: JsonObject) -> RescuedTurn:
    try:
        name = check_name(str(form.get("thread_id", "")))
    except InvalidNameError as error:
        raise JsonError(str(error)) from None
    body = form.get("turn")
    turn = _turn(body if isinstance(body, dict) else {})
    if not turn.messages:
        raise JsonError("the turn has no message")
    return RescuedTurn(line=line, thread_id=name, turn=turn)


def _with_journal(rescued: RescuedTurn, bodies: Sequence[JsonObject]) -> RescuedTurn:
    """Return a rescued turn with what its run said before it died; `JsonError` if that cannot be read."""
    if not bodies:
        return rescued
    turn = rescued.turn
    try:
        said = journaled_messages(bodies)
        steps = turn.steps + sum(message.role is Role.ASSISTANT for message in said)
        form = turn_to_json(replace(turn, messages=(*turn.messages, *said), steps=steps))
    except (KeyError, TypeError, AttributeError) as error:
        raise JsonError(f"its journal cannot be read: {error}") from None
    return replace(rescued, turn=_turn(form))


def _turn(form: JsonObject) -> SealedTurn:
    """Return the turn in the body of a seal, all types of it checked, those of its usage too."""
    return from_json(SealedTurn, form)


def _shortly(error: Exception) -> str:
    return collapsed(str(error), 300)
