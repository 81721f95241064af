"""Reads a session file of `claude` (`~/.claude/projects/**/*.jsonl`).

Each line is an entry. Those of type `user` and `assistant` hold a message in the form of the Messages API
(https://platform.claude.com/docs/en/api/messages), the id of the entry (`uuid`) and of the one before it
(`parentUuid`): a tree, in which the last entry ends the conversation as it was left. One answer of the model may be
spread over several entries with the same `message.id`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from afkcli.core.contract.jsonform import Json, JsonObject, dumps
from afkcli.core.contract.messages import Message, Part, ReasoningPart, Role, ToolResultPart
from afkcli.core.contract.result import Usage, whole_count
from afkcli.core.contract.structs import Struct, field
from afkcli.core.thread.exchange import Incomplete
from afkcli.foreign.conversation import (
    Conversation,
    ForeignError,
    ForeignTurn,
    Notes,
    Parts,
    TooLargeError,
    model_name,
    question,
    time_of,
)
from afkcli.foreign.fields import added, from_base64, object_in, objects_in, text_in, usage_of
from afkcli.foreign.session import BadLines, Line, objects

_INTERRUPTED = "[Request interrupted by user"
_BY_CLAUDE = re.compile(
    r"\s*(<(command-name|command-message|local-command-|bash-|system-reminder|task-notification)|Caveat: )"
)
"""How the texts begin that the program writes itself in the name of the user."""
_BOOKKEEPING = frozenset(
    {"summary", "file-history-snapshot", "queue-operation", "last-prompt", "mode", "system", "progress"}
)


class _Link(Struct, kw_only=True):
    """An entry with an id: where it is among all, its parent, and its line if it holds a message."""

    position: int
    parent: str | None
    line: Line | None = None


class _Session(Struct, kw_only=True):
    """The entries of one session, by their ids, in their order."""

    first_line: int
    links: dict[str, _Link] = field(default_factory=dict)
    title: str | None = None
    folder: str | None = None


def read_claude(lines: Iterable[bytes], notes: Notes) -> Iterator[Conversation | Incomplete]:
    """Yield the conversations in the lines of a session file (usually one), and what cannot be read of it.

    Args:
        lines: of the file.
        notes: counts what has no counterpart.
    """
    bad = BadLines()
    sessions: dict[str, _Session] = {}
    for line in objects(lines, bad):
        try:
            _collect(line, sessions, notes)
        except ForeignError as error:
            bad.add(line.number, error)
    for id_, session in sessions.items():
        if any(link.line is not None for link in session.links.values()):
            yield _Reading(id_, session, notes, bad).conversation()
    yield from bad.all()


def _collect(line: Line, sessions: dict[str, _Session], notes: Notes) -> None:
    form = line.form
    if form.get("isSidechain") is True:
        notes.add("messages of subagents")
        return
    kind, id_ = text_in(form, "type"), text_in(form, "sessionId")
    if not id_:
        if kind in ("user", "assistant"):
            raise ForeignError("the message has no sessionId")
        return
    session = sessions.setdefault(id_, _Session(first_line=line.number))
    cwd = form.get("cwd")
    if session.folder is None and isinstance(cwd, str) and 0 < len(cwd) <= 4096:
        session.folder = cwd
    if kind in ("custom-title", "ai-title"):
        session.title = text_in(form, "customTitle") or text_in(form, "aiTitle") or session.title
    elif kind not in ("user", "assistant"):
        _count(kind, form, notes)
    _link(line, kind, session)


def _link(line: Line, kind: str, session: _Session) -> None:
    """Put an entry into the tree of its session."""
    uuid = text_in(line.form, "uuid")
    if uuid in session.links:
        raise ForeignError(f"the id {uuid[:60]!r} is that of an earlier line")
    kept = line if kind in ("user", "assistant") else None
    if kept is not None:
        uuid = uuid or f"line {line.number}"
    if uuid:
        parent = text_in(line.form, "parentUuid") or text_in(line.form, "logicalParentUuid") or None
        session.links[uuid] = _Link(position=len(session.links), parent=parent, line=kept)


def _count(kind: str, form: JsonObject, notes: Notes) -> None:
    """Count an entry that is no message, unless it is only for the program's own use."""
    if form.get("subtype") == "compact_boundary":
        notes.add("summaries of claude's compactions")
    elif kind == "attachment":
        notes.add("pieces of context that claude added")
    elif kind not in _BOOKKEEPING:
        notes.add(f"entries of the type {kind[:60]!r}")


class _Reading:
    """Makes the turns of one session."""

    def __init__(self, id_: str, session: _Session, notes: Notes, bad: BadLines) -> None:
        self._id = id_
        self._session = session
        self._notes = notes
        self._bad = bad
        self._parts = Parts(notes)
        self._turns: list[ForeignTurn] = []
        self._names: dict[str, str] = {}  # of the tools, by the id of the call
        self._answers_on_path: set[str] = set()
        self._answer_id: Json = None
        self._told_usage: Usage | None = None

    def conversation(self) -> Conversation:
        """Return the conversation along the path to the last entry."""
        path = self._path()
        for uuid, link in self._session.links.items():
            if link.line is None:
                continue
            try:
                if uuid in path or self._belongs(link.line, path):
                    self._take(link.line)
                else:
                    self._notes.add("messages of branches that were left")
            except TooLargeError:
                raise
            except ForeignError as error:
                self._bad.add(link.line.number, error)
        return Conversation(
            source="claude",
            id=self._id,
            line=self._session.first_line,
            title=self._session.title,
            turns=tuple(self._turns),
            folder=self._session.folder,
            contents=self._parts.contents,
        )

    def _path(self) -> set[str]:
        """Return the ids from the last message back to the first; a link that is missing leads to the entry before."""
        links = self._session.links
        order = list(links)
        uuid: str | None = next(id_ for id_ in reversed(order) if links[id_].line is not None)
        path: set[str] = set()
        while uuid is not None and uuid not in path:
            path.add(uuid)
            link = links[uuid]
            if link.line is not None:
                self._remember(link.line)
            uuid = link.parent
            if uuid is not None and (uuid not in links or links[uuid].position >= link.position):
                uuid = order[link.position - 1] if link.position else None
        return path

    def _remember(self, line: Line) -> None:
        """Note the ids by which other entries belong to one that is on the path."""
        message = line.form.get("message")
        if isinstance(message, dict) and isinstance(message.get("id"), str):
            self._answers_on_path.add(message["id"])

    def _belongs(self, line: Line, path: set[str]) -> bool:
        """Return whether an entry beside the path is a piece of an answer on it, or a result of such a piece."""
        message = line.form.get("message")
        if not isinstance(message, dict):
            return False
        if line.form.get("type") == "assistant":
            return isinstance(message.get("id"), str) and message["id"] in self._answers_on_path
        content = message.get("content")
        blocks = content if isinstance(content, list) else []
        return any(isinstance(block, dict) and block.get("tool_use_id") in self._names for block in blocks)

    def _take(self, line: Line) -> None:
        form = line.form
        message, at = object_in(form, "message"), time_of(form.get("timestamp"))
        if form.get("isCompactSummary") is True or form.get("isMeta") is True:
            self._notes.add("messages that claude wrote in the name of the user")
        elif form.get("isApiErrorMessage") is True:
            self._notes.add("errors of the API")
            self._cut()
        elif form.get("type") == "assistant":
            self._take_answer(message, at)
        else:
            self._take_user(message, at)

    def _cut(self) -> None:
        if self._turns:
            self._turns[-1].cut = True

    def _take_user(self, message: JsonObject, at: float | None) -> None:
        parts = list(self._contents(message.get("content")))
        results = tuple(part for part in parts if isinstance(part, ToolResultPart))
        said = [part for part in parts if not isinstance(part, ToolResultPart)]
        first = next((part.text for part in said if part.type == "text"), "")
        if results:
            self._take_results(results, at)
        if first.startswith(_INTERRUPTED):
            self._cut()
        elif _BY_CLAUDE.match(first):
            self._notes.add("messages that claude wrote in the name of the user")
        elif said or not results:
            self._turns.append(ForeignTurn(id="", messages=[question(said)], started=at, sealed=at))
            self._answer_id = None

    def _take_results(self, results: tuple[ToolResultPart, ...], at: float | None) -> None:
        known = tuple(result for result in results if result.id in self._names)
        if len(known) < len(results):
            self._notes.add("results of tools without their call", len(results) - len(known))
        if not known or not self._turns:
            return
        turn = self._turns[-1]
        turn.sealed = at if at is not None else turn.sealed
        if turn.messages[-1].role is Role.TOOL:
            turn.messages[-1] = Message(role=Role.TOOL, parts=(*turn.messages[-1].parts, *known))
        else:
            turn.messages.append(Message(role=Role.TOOL, parts=known))

    def _take_answer(self, message: JsonObject, at: float | None) -> None:
        parts = tuple(self._contents(message.get("content")))
        if not self._turns:
            self._turns.append(ForeignTurn(id="", messages=[question(())], started=at))
        turn = self._turns[-1]
        turn.cut = False
        turn.model = model_name(text_in(message, "model")) or turn.model
        turn.sealed = at if at is not None else turn.sealed
        self._take_usage(message, turn)
        id_ = message.get("id")
        same = id_ is not None and id_ == self._answer_id
        self._answer_id = id_
        if same and self._add_to_answer(turn, parts):
            return
        if parts:
            turn.messages.append(Message(role=Role.ASSISTANT, parts=parts))

    def _add_to_answer(self, turn: ForeignTurn, parts: tuple[Part, ...]) -> bool:
        """Add a piece to the turn's last answer, whose first results may already have come."""
        for position in (len(turn.messages) - 1, len(turn.messages) - 2):
            message = turn.messages[position]
            if position > 0 and message.role is Role.ASSISTANT:
                turn.messages[position] = Message(role=Role.ASSISTANT, parts=(*message.parts, *parts))
                return True
        return False

    def _take_usage(self, message: JsonObject, turn: ForeignTurn) -> None:
        """Add what an answer used; each of its pieces repeats it, the last one counts."""
        form = object_in(message, "usage")
        if not form:
            return
        usage = _usage(form)
        if message.get("id") is not None and message.get("id") == self._answer_id and self._told_usage is not None:
            counts = {name: getattr(usage, name) - getattr(self._told_usage, name) for name in _COUNTS}
            more = Usage(**{name: max(0, count) for name, count in counts.items()})
            turn.usage = added(turn.usage, more)
        else:
            turn.usage = added(turn.usage, usage)
        self._told_usage = usage

    def _contents(self, content: Json) -> Iterator[Part]:
        if isinstance(content, str):
            yield self._parts.text(content)
            return
        for block in objects_in({"content": content}, "content"):
            part = self._part(block)
            if part is not None:
                yield part

    def _part(self, block: JsonObject) -> Part | None:
        kind = text_in(block, "type")
        if kind == "text":
            return self._parts.text(text_in(block, "text"))
        if kind == "thinking":
            text = text_in(block, "thinking")
            return ReasoningPart(text=self._parts.text(text).text) if text else None
        if kind == "tool_use":
            id_ = text_in(block, "id")
            self._names[id_] = text_in(block, "name")
            return self._parts.call(id_, self._names[id_], block.get("input") or {})
        if kind == "tool_result":
            return self._result(block)
        if kind in ("image", "document"):
            return self._attachment(kind, block)
        self._notes.add(
            "pieces of encrypted reasoning" if kind == "redacted_thinking" else f"parts of the type {kind[:60]!r}"
        )
        return None

    def _result(self, block: JsonObject) -> ToolResultPart:
        id_, content = text_in(block, "tool_use_id"), block.get("content")
        if isinstance(content, (str, list)):
            parts = [part for part in self._contents(content) if not isinstance(part, ToolResultPart)]
        else:
            parts = [self._parts.text("" if content is None else dumps(content))]
        is_error = block.get("is_error") is True
        return self._parts.result(id_, self._names.get(id_, ""), parts, is_error=is_error)

    def _attachment(self, kind: str, block: JsonObject) -> Part:
        source = object_in(block, "source")
        name = text_in(block, "title") or kind
        if source.get("type") == "text":
            return self._parts.attachment(text_in(source, "data").encode(errors="replace"), name)
        data = from_base64(text_in(source, "data")) if source.get("type") == "base64" else None
        if data is None:
            return self._parts.missing("images and files that the session only names by their address", name)
        return self._parts.attachment(data, name)


_COUNTS = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)


def _usage(form: JsonObject) -> Usage:
    """Return the usage; the API counts cached tokens beside the input, afk as a part of it."""
    read, made = (whole_count(form.get(f"cache_{name}_input_tokens")) or 0 for name in ("read", "creation"))
    fresh = whole_count(form.get("input_tokens"))
    return usage_of(
        {
            "input_tokens": None if fresh is None else fresh + read + made,
            "output_tokens": form.get("output_tokens"),
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": made,
        }
    )
