"""The older tables of `llm`: a conversation, and its responses, each with its prompt."""

from __future__ import annotations

from afkcli.core.contract.messages import Message, Part, ReasoningPart, Role
from afkcli.foreign.conversation import ForeignError, ForeignTurn, Notes, Parts, model_name, question
from afkcli.foreign.fields import added, text_in
from afkcli.foreign.llm_database import LlmDatabase, Row, end_of, row_time
from afkcli.foreign.llm_parts import attachment, count_settings, fragment, usage_in

_RESPONSE = (
    "id",
    "model",
    "prompt",
    "system",
    "options_json",
    "response",
    "reasoning",
    "conversation_id",
    "duration_ms",
    "datetime_utc",
    "input_tokens",
    "output_tokens",
    "token_details",
    "schema_id",
)


class OlderTables:
    """Reads them, if the database has them.

    Args:
        database: an open one.
        notes: counts what has no counterpart.
    """

    def __init__(self, database: LlmDatabase, notes: Notes) -> None:
        self._database = database
        self._notes = notes

    def names(self) -> list[tuple[str, str]]:
        """Return the id and the name of each conversation."""
        if not self._database.has_older:
            return []
        found = {str(row["id"]): str(row["name"] or "") for row in self._database.rows("conversations", ("id", "name"))}
        for row in self._database.rows("responses", ("conversation_id", "id")):
            if row["conversation_id"] is not None:
                found.setdefault(str(row["conversation_id"]), "")
        return list(found.items())

    def turns(self, id_: str, parts: Parts) -> list[ForeignTurn]:
        """Return the turns of a conversation, in order.

        Raises:
            ForeignError: something in it has a wrong type.
        """
        if not self._database.has_older:
            return []
        turns: list[ForeignTurn] = []
        system = ""
        rows = self._database.rows("responses", _RESPONSE, "conversation_id", id_)
        for row in sorted(rows, key=lambda row: str(row["datetime_utc"] or "")):
            try:
                system = self._take(row, turns, parts, system)
            except ForeignError as error:
                raise type(error)(f"response {str(row['id'])[:80]}: {error}") from None
        return turns

    def _take(self, row: Row, turns: list[ForeignTurn], parts: Parts, system: str) -> str:
        """Add a response to the turns, and return the system prompt that is in force after it."""
        results = self._results(row, parts)
        asked = self._prompt(row, parts)
        said = self._system(row)
        started = row_time(row)
        if not (results and turns and not asked):
            turns.append(ForeignTurn(id=str(row["id"]), messages=[question(asked)], started=started))
            if said and said != system:
                turns[-1].messages.append(Message(role=Role.SYSTEM, parts=(parts.text(said),)))
            if results:
                self._notes.add("results of tools without their call", len(results))
        else:
            turns[-1].messages.append(Message(role=Role.TOOL, parts=results))
        turn = turns[-1]
        turn.model = model_name(text_in(row, "model"))
        turn.sealed = end_of(started, row["duration_ms"])
        usage = usage_in(row)
        turn.usage = turn.usage if usage is None else added(turn.usage, usage)
        count_settings(row, self._notes)
        answer = self._answer(row, parts)
        if answer:
            turn.messages.append(Message(role=Role.ASSISTANT, parts=answer))
        return said or system

    def _prompt(self, row: Row, parts: Parts) -> list[Part]:
        """Return what was asked: attachments, then the fragments and the text."""
        order = self._database.rows("prompt_attachments", ("attachment_id",), "response_id", row["id"], "order")
        asked = [attachment(self._database, item["attachment_id"], parts) for item in order]
        text = "\n".join(filter(None, (*self._fragments("prompt_fragments", row), text_in(row, "prompt"))))
        return [*asked, parts.text(text)] if text else asked

    def _system(self, row: Row) -> str:
        return "\n\n".join(filter(None, (*self._fragments("system_fragments", row), text_in(row, "system"))))

    def _fragments(self, table: str, row: Row) -> list[str]:
        order = self._database.rows(table, ("fragment_id",), "response_id", row["id"], "order")
        return [fragment(self._database, item["fragment_id"]) for item in order]

    def _answer(self, row: Row, parts: Parts) -> tuple[Part, ...]:
        answer: list[Part] = []
        if reasoning := text_in(row, "reasoning"):
            answer.append(ReasoningPart(text=parts.text(reasoning).text))
        if text := text_in(row, "response"):
            answer.append(parts.text(text))
        calls = self._database.rows("tool_calls", ("id", "name", "arguments", "tool_call_id"), "response_id", row["id"])
        for call in calls:
            call_id = text_in(call, "tool_call_id") or f"call-{call['id']}"
            answer.append(parts.call(call_id, text_in(call, "name"), text_in(call, "arguments") or "{}"))
        return tuple(answer)

    def _results(self, row: Row, parts: Parts) -> tuple[Part, ...]:
        """Return the results that were sent with a prompt."""
        wanted = ("id", "name", "output", "tool_call_id", "exception")
        results: list[Part] = []
        for result in self._database.rows("tool_results", wanted, "response_id", row["id"]):
            order = self._database.rows(
                "tool_results_attachments", ("attachment_id",), "tool_result_id", result["id"], "order"
            )
            shown = [attachment(self._database, item["attachment_id"], parts) for item in order]
            failed = bool(text_in(result, "exception"))
            text = parts.text(text_in(result, "output"))
            call_id = text_in(result, "tool_call_id")
            results.append(parts.result(call_id, text_in(result, "name"), [text, *shown], is_error=failed))
        return tuple(results)
