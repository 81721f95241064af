"""The tables that `llm` has since 0.32: threads that end at a message of a tree, and turns, each a call of a model.

Messages are shared: each names the one before it, and a thread is the path back from its last one. A turn says when its
last message was made, by which model, and what it used.
"""

from __future__ import annotations

from afkcli.core.contract.jsonform import Json, JsonError, JsonObject, loads_object
from afkcli.core.contract.messages import Message, Part, ReasoningPart, Role, ToolResultPart
from afkcli.foreign.conversation import ForeignError, ForeignTurn, Notes, Parts, model_name, question
from afkcli.foreign.fields import added, objects_in, text_in
from afkcli.foreign.llm_database import LlmDatabase, Row, end_of, row_time
from afkcli.foreign.llm_parts import attachment, count_settings, fragment, usage_in

_TURN = (
    "id",
    "thread_id",
    "tip_message_hash",
    "model",
    "options_json",
    "schema_id",
    "input_tokens",
    "output_tokens",
    "token_details",
    "duration_ms",
    "datetime_utc",
)
_MAX_MESSAGES = 1_000_000


class NewerTables:
    """Reads them, if the database has them.

    Args:
        database: an open one.
        notes: counts what has no counterpart.
    """

    def __init__(self, database: LlmDatabase, notes: Notes) -> None:
        self._database = database
        self._notes = notes

    def names(self) -> list[tuple[str, str]]:
        """Return the id and the name of each thread."""
        if not self._database.has_newer:
            return []
        return [(str(row["id"]), str(row["name"] or "")) for row in self._database.rows("threads", ("id", "name"))]

    def turns(self, id_: str, older: list[ForeignTurn], parts: Parts) -> list[ForeignTurn]:
        """Return the turns of a thread, in order.

        Args:
            id_: of the thread.
            older: its turns in the older tables: what comes before the first turn of the newer ones.
            parts: makes the parts of its messages.

        Raises:
            ForeignError: something in it is missing or has a wrong type.
        """
        found = self._database.rows("threads", ("tip_message_hash",), "id", id_) if self._database.has_newer else []
        tip = found[0]["tip_message_hash"] if found else None
        if tip is None:
            return older
        path = self._path(tip)
        logged = {row["tip_message_hash"]: row for row in self._database.rows("turns", _TURN, "thread_id", id_)}
        kept = _Turns(self._notes, parts, self._database, logged)
        for row in path:
            kept.take(row)
        left = logged.keys() - {row["hash"] for row in path}
        if left:
            self._notes.add("answers of branches that were left", len(left))
        if not older:
            return kept.turns
        begins = next((number for number, logged in enumerate(kept.logged) if logged), len(kept.turns))
        return [*older, *kept.turns[begins:]]

    def _path(self, tip: object) -> list[Row]:
        """Return the messages from the first to the one with the hash `tip`."""
        path: list[Row] = []
        seen: set[object] = set()
        hash_: object = tip
        while hash_ is not None:
            found = self._database.rows("messages", ("hash", "parent_hash", "role"), "hash", hash_)
            if not found:
                raise ForeignError(f"its message {str(hash_)[:80]} is missing")
            if hash_ in seen or len(seen) >= _MAX_MESSAGES:
                raise ForeignError(f"its message {str(hash_)[:80]} comes before itself")
            seen.add(hash_)
            path.append(found[0])
            hash_ = found[0]["parent_hash"]
        return path[::-1]


class _Turns:
    """The turns of a thread so far; `logged` says for each whether a row of the table of turns belongs to it.

    `own` are the rows of the table that are the thread's own, by the hash of their last message.
    """

    def __init__(self, notes: Notes, parts: Parts, database: LlmDatabase, own: dict[object, Row]) -> None:
        self.turns: list[ForeignTurn] = []
        self.logged: list[bool] = []
        self._own = own
        self._notes = notes
        self._parts = parts
        self._database = database
        self._system: list[Message] = []

    def take(self, row: Row) -> None:
        """Take the next message of the path.

        Raises:
            ForeignError: it has a wrong form; the error names it.
        """
        try:
            self._take(text_in(row, "role"), self._read_parts(row["hash"]))
        except ForeignError as error:
            raise type(error)(f"message {str(row['hash'])[:80]}: {error}") from None
        own = self._own.get(row["hash"])  # the same messages may be those of other threads too
        turns = [own] if own is not None else self._database.rows("turns", _TURN, "tip_message_hash", row["hash"])
        if turns and self.turns:
            self._take_log(turns[0])

    def _take(self, role: str, parts: tuple[Part, ...]) -> None:
        if role == "system":
            self._system = [Message(role=Role.SYSTEM, parts=parts)]  # it comes before the question
        elif role == "user":
            self._begin(parts)
        elif role in ("assistant", "tool"):
            if not self.turns:
                self._begin(())
            if parts:
                self.turns[-1].messages.append(Message(role=Role(role), parts=parts))
        else:
            raise ForeignError(f"unknown role {role[:40]!r}")

    def _begin(self, parts: tuple[Part, ...]) -> None:
        results = tuple(part for part in parts if isinstance(part, ToolResultPart))
        if results and self.turns:
            self.turns[-1].messages.append(Message(role=Role.TOOL, parts=results))
            parts = tuple(part for part in parts if not isinstance(part, ToolResultPart))
            if not parts:
                return
        self.turns.append(ForeignTurn(id="", messages=[question(parts), *self._system]))
        self.logged.append(False)
        self._system = []

    def _take_log(self, row: Row) -> None:
        """Take what is known of the call of a model that ended with the last message."""
        turn, started = self.turns[-1], row_time(row)
        if not self.logged[-1]:
            turn.id, turn.started = str(row["id"]), started
        self.logged[-1] = True
        turn.model = model_name(text_in(row, "model"))
        turn.sealed = end_of(started, row["duration_ms"])
        usage = usage_in(row)
        turn.usage = turn.usage if usage is None else added(turn.usage, usage)
        count_settings(row, self._notes)

    def _read_parts(self, hash_: object) -> tuple[Part, ...]:
        wanted = ("id", "type", "tool_name", "text", "payload")
        rows = self._database.rows("parts", wanted, "message_hash", hash_, "position")
        read = (self._read_part(row) for row in rows)
        return tuple(part for part in read if part is not None)

    def _read_part(self, row: Row) -> Part | None:
        kind = text_in(row, "type")
        try:
            payload = loads_object(text_in(row, "payload") or "{}")
        except JsonError as error:
            raise ForeignError(f"payload is not a JSON object: {error}") from None
        if kind == "text":
            return self._parts.text(self._text(row, payload))
        if kind == "reasoning":
            text = self._text(row, payload)
            return ReasoningPart(text=self._parts.text(text).text) if text else None
        if kind == "attachment":
            return self._attachments(row["id"], 1)[0]
        name = text_in(payload, "name") or text_in(row, "tool_name")
        call_id = text_in(payload, "tool_call_id") or name
        if kind == "tool_call":
            return self._parts.call(call_id, name, payload.get("arguments") or {})
        if kind == "tool_result":
            output = self._parts.text(text_in(payload, "output"))
            shown = self._attachments(row["id"], len(objects_in(payload, "attachments")))
            failed = bool(text_in(payload, "exception"))
            return self._parts.result(call_id, name, [output, *shown], is_error=failed)
        self._notes.add(f"parts of the type {kind[:60]!r}")
        return None

    def _attachments(self, part_id: object, least: int) -> list[Part]:
        """Return the attachments of a part; it has at least so many, also where the table has lost them."""
        rows = self._database.rows("part_attachments", ("attachment_id",), "part_id", part_id, "order")
        found = [attachment(self._database, row["attachment_id"], self._parts) for row in rows]
        return found or [attachment(self._database, None, self._parts) for _ in range(least)]

    def _text(self, row: Row, payload: JsonObject) -> str:
        """Return the text of a part, in which fragments may stand for what they hold."""
        if row["text"] is not None:
            return text_in(row, "text")
        if "text_ref" not in payload:
            return text_in(payload, "text")
        return "".join(self._piece(piece) for piece in objects_in(payload, "text_ref"))

    def _piece(self, piece: JsonObject) -> str:
        id_: Json = piece.get("fragment")
        if isinstance(id_, int) and not isinstance(id_, bool):
            return fragment(self._database, id_)
        return text_in(piece, "literal")
