"""Reads a session file of `codex` (`~/.codex/sessions/**/rollout-*.jsonl`).

Each line has a `timestamp`, a `type` and a `payload`. The conversation is in the lines of type `response_item`, in the
form of the Responses API (https://platform.openai.com/docs/api-reference/responses). Lines of type `event_msg` tell
what was shown: they repeat it, and say besides what was used, aborted and rolled back. The first files had no envelope.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from afkcli.core.contract.jsonform import Json, JsonObject, clean_text, dumps
from afkcli.core.contract.messages import Message, Part, ReasoningPart, Role, TextPart, ToolCallPart
from afkcli.core.contract.result import Usage, whole_count
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
from afkcli.foreign.fields import added, from_data_url, object_in, objects_in, text_in, usage_of
from afkcli.foreign.session import BadLines, Line, objects

_BY_CODEX = re.compile(
    r"\s*(<(environment_context|user_instructions|turn_aborted|user_shell_command|skill|subagent_notification|"
    r"permissions instructions|skills_instructions|INSTRUCTIONS)\b|# AGENTS\.md instructions)"
)
"""How the messages begin that codex writes itself in the name of the user."""
_STATE = frozenset(
    {"session_meta", "turn_context", "world_state", "token_usage_record", "event_msg", "compacted", "state"}
)


def read_codex(lines: Iterable[bytes], notes: Notes) -> Iterator[Conversation | Incomplete]:
    """Yield the conversation in the lines of a session file, and what cannot be read of it.

    Args:
        lines: of the file.
        notes: counts what has no counterpart.
    """
    bad = BadLines()
    session = _Session(notes)
    for line in objects(lines, bad):
        try:
            session.take(line)
        except TooLargeError:
            raise
        except ForeignError as error:
            bad.add(line.number, error)
    yield session.conversation()
    yield from bad.all()


class _Session:
    """The turns of a session so far."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._parts = Parts(notes)
        self._turns: list[ForeignTurn] = []
        self._names: dict[str, str] = {}  # of the tools, by the id of the call
        self._meta: JsonObject = {}
        self._model = ""
        self._told_usage: Json = None

    def take(self, line: Line) -> None:
        """Take a line; `ForeignError` if it has a wrong form."""
        form = line.form
        at = time_of(form.get("timestamp"))
        if "payload" not in form and (
            "role" in form or str(form.get("type")).endswith(("_call", "_output", "reasoning"))
        ):
            self._take_item(form, at)
            return
        kind, payload = text_in(form, "type"), object_in(form, "payload")
        if kind == "response_item":
            self._take_item(payload, at)
        elif kind == "event_msg":
            self._take_event(payload)
        elif kind == "session_meta" or (not kind and "id" in form):
            self._begin(payload or form)
        elif kind == "turn_context":
            self._model = text_in(payload, "model") or self._model
        elif kind == "compacted":
            self._notes.add("summaries of codex's compactions")
        elif kind and kind not in _STATE:
            self._notes.add(f"lines of the type {kind[:60]!r}")

    def conversation(self) -> Conversation:
        """Return all of it."""
        meta = self._meta
        id_, cwd = meta.get("id"), meta.get("cwd")
        first = next((turn.started for turn in self._turns if turn.started is not None), None)
        created = time_of(meta.get("timestamp"))
        return Conversation(
            source="codex",
            id=id_ if isinstance(id_, str) and id_ else f"{created or first or 0}",
            line=1,
            turns=tuple(self._turns),
            created=created if created is not None else first,
            folder=cwd if isinstance(cwd, str) and 0 < len(cwd) <= 4096 else None,
            contents=self._parts.contents,
        )

    def _begin(self, payload: JsonObject) -> None:
        if self._meta:
            return  # a fork repeats the beginning of the session that it comes from
        if not text_in(payload, "id"):
            raise ForeignError("the session has no id")
        self._meta = payload
        if payload.get("base_instructions") or payload.get("instructions"):
            self._notes.add("instructions of codex")

    def _take_event(self, payload: JsonObject) -> None:
        kind = payload.get("type")
        if kind == "token_count":
            self._take_usage(object_in(payload, "info"))
        elif kind == "turn_aborted" and self._turns:
            self._turns[-1].cut = True
        elif kind == "thread_rolled_back":
            count = min(whole_count(payload.get("num_turns")) or 0, len(self._turns))
            if count:
                del self._turns[-count:]
                self._notes.add("turns that were rolled back", count)

    def _take_usage(self, info: JsonObject) -> None:
        total = info.get("total_token_usage")
        if not self._turns or not info or total == self._told_usage:
            return  # the same count comes again with news of the limits
        self._told_usage = total
        last = object_in(info, "last_token_usage")
        self._turns[-1].usage = added(self._turns[-1].usage, _usage(last))

    def _take_item(self, item: JsonObject, at: float | None) -> None:
        kind = text_in(item, "type")
        if kind == "message" or (not kind and "role" in item):
            self._take_message(item, at)
        elif kind == "reasoning":
            self._take_reasoning(item, at)
        elif kind in ("function_call", "custom_tool_call", "local_shell_call"):
            self._take_call(kind, item, at)
        elif kind in ("function_call_output", "custom_tool_call_output"):
            self._take_result(item, at)
        else:
            self._notes.add(f"items of the type {kind[:60]!r}")

    def _take_message(self, item: JsonObject, at: float | None) -> None:
        role = text_in(item, "role")
        if role in ("developer", "system"):
            self._notes.add("instructions of codex")
            return
        parts = [*self._contents(item)]
        if role == "assistant":
            self._answer(parts, at)
        elif role == "user":
            first = parts[0].text if parts and isinstance(parts[0], TextPart) else ""
            if _BY_CODEX.match(first):
                self._notes.add("messages that codex wrote in the name of the user")
                return
            self._ask(question(parts), at)
        else:
            raise ForeignError(f"unknown role {role[:40]!r}")

    def _contents(self, item: JsonObject) -> Iterator[Part]:
        content = item.get("content")
        if isinstance(content, str):
            yield self._parts.text(content)
            return
        for block in objects_in(item, "content"):
            kind = block.get("type")
            if kind in ("input_text", "output_text", "text", "refusal"):
                yield self._parts.text(text_in(block, "refusal" if kind == "refusal" else "text"))
            elif kind == "input_image":
                yield self._image(text_in(block, "image_url"))
            else:
                self._notes.add(f"parts of the type {str(kind)[:60]!r}")

    def _image(self, url: str) -> Part:
        data = from_data_url(url)
        if data is None:
            return self._parts.missing("images that the session only names by their address", "an image")
        return self._parts.attachment(data, "image")

    def _take_reasoning(self, item: JsonObject, at: float | None) -> None:
        blocks = [*objects_in(item, "summary"), *objects_in(item, "content")]
        text = "\n\n".join(filter(None, (text_in(block, "text") for block in blocks)))
        if text:
            self._answer([ReasoningPart(text=self._parts.text(text).text)], at)
        elif item.get("encrypted_content"):
            self._notes.add("pieces of encrypted reasoning")

    def _take_call(self, kind: str, item: JsonObject, at: float | None) -> None:
        id_ = text_in(item, "call_id") or text_in(item, "id")
        name = text_in(item, "name") or ("local_shell" if kind == "local_shell_call" else "")
        arguments: Json
        if kind == "function_call":
            arguments = text_in(item, "arguments")
        elif kind == "custom_tool_call":
            arguments = {"input": text_in(item, "input")}
        else:
            arguments = object_in(item, "action")
        self._names[id_] = name
        self._answer([self._parts.call(id_, name, arguments)], at)

    def _take_result(self, item: JsonObject, at: float | None) -> None:
        id_ = text_in(item, "call_id")
        if id_ not in self._names or not self._turns:
            self._notes.add("results of tools without their call")
            return
        output, failed = item.get("output"), False
        if isinstance(output, dict):
            failed = output.get("success") is False
            output = output.get("content")
        parts: list[Part]
        if isinstance(output, list):
            parts = [*self._contents({"content": output})]
        else:
            parts = [self._parts.text(output if isinstance(output, str) else dumps(output))]
        result = self._parts.result(id_, self._names[id_], parts, is_error=failed)
        turn = self._turns[-1]
        if turn.messages[-1].role is Role.TOOL:
            turn.messages[-1] = Message(role=Role.TOOL, parts=(*turn.messages[-1].parts, result))
        else:
            turn.messages.append(Message(role=Role.TOOL, parts=(result,)))
        turn.sealed = at if at is not None else turn.sealed

    def _ask(self, message: Message, at: float | None) -> None:
        self._turns.append(ForeignTurn(id="", messages=[message], model=self._full_model(), started=at, sealed=at))

    def _answer(self, parts: list[Part], at: float | None) -> None:
        """Add to the answer: the items of one call of the model follow each other, reasoning first."""
        if not self._turns:
            self._ask(question(()), at)
        turn = self._turns[-1]
        turn.model = self._full_model() or turn.model
        turn.sealed = at if at is not None else turn.sealed
        last = turn.messages[-1]
        begins = bool(parts) and isinstance(parts[0], ReasoningPart)
        if last.role is Role.ASSISTANT and not (begins and _has_answer(last)):
            turn.messages[-1] = Message(role=Role.ASSISTANT, parts=(*last.parts, *parts))
        elif parts:
            turn.messages.append(Message(role=Role.ASSISTANT, parts=tuple(parts)))

    def _full_model(self) -> str:
        provider = self._meta.get("model_provider")
        if provider == "openai" and self._model and "/" not in self._model:
            return clean_text(f"openai/{self._model}")[:200]
        return model_name(self._model) if provider is None else clean_text(self._model)[:200]


def _has_answer(message: Message) -> bool:
    return any(isinstance(part, (TextPart, ToolCallPart)) for part in message.parts)


def _usage(form: JsonObject) -> Usage:
    return usage_of(
        {
            "input_tokens": form.get("input_tokens"),
            "output_tokens": form.get("output_tokens"),
            "total_tokens": form.get("total_tokens"),
            "cache_read_input_tokens": form.get("cached_input_tokens"),
            "reasoning_output_tokens": form.get("reasoning_output_tokens"),
        }
    )
