"""How the scripted model server's answers look on the wire: one function an API.

Chat Completions: https://developers.openai.com/api/reference/resources/chat/subresources/completions/streaming-events
Responses: https://developers.openai.com/api/reference/resources/responses/streaming-events
Messages: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from afkcli.testing.model_script import Fault, ScriptedCall, ScriptedUsage, Step

Body = Mapping[str, Any]

CREATED = 1_750_000_000


@dataclass(slots=True)
class WireAnswer:
    """The events of one answer, each without its line ends: `deltas` are the places of the deltas in `events`."""

    events: list[bytes] = field(default_factory=list)
    deltas: list[int] = field(default_factory=list)
    tail: list[bytes] = field(default_factory=list)
    done: bytes = b""

    def add(self, event: bytes) -> None:
        self.events.append(event)

    def add_delta(self, event: bytes) -> None:
        self.deltas.append(len(self.events))
        self.events.append(event)


def last_user_text(body: Body) -> str:
    """Return the text of the last user message of a request to any of the APIs; results of tools do not count."""
    said = body.get("messages", body.get("input", ""))
    if isinstance(said, str):
        return said
    for item in reversed(said):
        if item.get("role") == "user" and not _holds_results_only(item.get("content")):
            return _content_text(item.get("content"))
    return ""


def _holds_results_only(content: Any) -> bool:
    return bool(content) and isinstance(content, list) and all(part.get("type") == "tool_result" for part in content)


def chat_answer(step: Step, body: Body, n: int) -> WireAnswer:
    """Return the streamed answer of Chat Completions to request `n`."""
    answer = WireAnswer(done=b"data: [DONE]")
    frame = _ChatFrame(body, n)
    answer.add(frame.chunk({"role": "assistant", "content": ""}))
    for text in step.reasoning_deltas():
        answer.add_delta(frame.chunk({"reasoning_content": text}))
    deltas = step.text_deltas(n, _said(step, body))
    encoded = {text: frame.chunk({"content": text}) for text in set(deltas)}  # a benchmark repeats one text
    for text in deltas:
        answer.add_delta(encoded[text])
    for index, call in enumerate(step.tool_calls):
        answer.add(frame.call(index, {"id": _call_id(call, n, index), "type": "function", "function": _opened(call)}))
        for piece in call.argument_deltas():
            answer.add_delta(frame.call(index, {"function": {"arguments": piece}}))
    answer.tail.append(frame.chunk({}, step.finish()))
    if step.usage is not None and _wants_usage(body):
        answer.tail.append(_data({**frame.base, "choices": [], "usage": chat_usage(step.usage)}))
    return answer


def chat_object(step: Step, body: Body, n: int) -> dict[str, Any]:
    """Return the answer of Chat Completions to a request without `stream`."""
    message: dict[str, Any] = {"role": "assistant", "content": "".join(step.text_deltas(n, _said(step, body)))}
    if step.reasoning_deltas():
        message["reasoning_content"] = "".join(step.reasoning_deltas())
    if step.tool_calls:
        message["tool_calls"] = [
            {
                "id": _call_id(call, n, index),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments_text},
            }
            for index, call in enumerate(step.tool_calls)
        ]
    return {
        **_ChatFrame(body, n).base,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": step.finish()}],
        "usage": chat_usage(step.usage or ScriptedUsage()),
    }


def chat_usage(usage: ScriptedUsage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def responses_usage(usage: ScriptedUsage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.written_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def responses_answer(step: Step, body: Body, n: int) -> WireAnswer:
    """Return the streamed answer of the Responses API to request `n`."""
    stream = _ResponsesStream(step, body, n)
    stream.event("response.created", response=stream.response("in_progress"))
    stream.event("response.in_progress", response=stream.response("in_progress"))
    if step.compaction:
        stream.compaction(step.compaction)
    if step.reasoning_deltas():
        stream.reasoning(step.reasoning_deltas())
    if texts := step.text_deltas(n, _said(step, body)):
        stream.message(texts)
    for index, call in enumerate(step.tool_calls):
        stream.function_call(call, _call_id(call, n, index))
    stream.finish()
    return stream.answer


def responses_object(step: Step, body: Body, n: int) -> dict[str, Any]:
    """Return the answer of the Responses API to a request without `stream`."""
    return json.loads(responses_answer(step, body, n).tail[-1].split(b"data: ", 1)[1])["response"]  # type: ignore[no-any-return]


def messages_answer(step: Step, body: Body, n: int) -> WireAnswer:
    """Return the streamed answer of Anthropic's Messages API to request `n`."""
    stream = _MessagesStream(step, body, n)
    stream.event("message_start", message=stream.message())
    if step.compaction:
        stream.compaction(step.compaction)
    if step.reasoning_deltas():
        stream.thinking(step.reasoning_deltas())
    if texts := step.text_deltas(n, _said(step, body)):
        stream.text(texts)
    for index, call in enumerate(step.tool_calls):
        stream.tool_use(call, call.id or f"toolu_{n}_{index}")
    stream.finish()
    return stream.answer


def messages_object(step: Step, body: Body, n: int) -> dict[str, Any]:
    """Return the answer of the Messages API to a request without `stream`."""
    stream = _MessagesStream(step, body, n)
    content: list[dict[str, Any]] = []
    if step.compaction:
        content.append({"type": "compaction", "content": step.compaction})
    if thought := "".join(step.reasoning_deltas()):
        content.append({"type": "thinking", "thinking": thought, "signature": stream.signature})
    if text := "".join(step.text_deltas(n, _said(step, body))):
        content.append({"type": "text", "text": text})
    for index, call in enumerate(step.tool_calls):
        use = {"type": "tool_use", "id": call.id or f"toolu_{n}_{index}", "name": call.name}
        content.append({**use, "input": json.loads(call.arguments_text or "{}")})
    usage = messages_usage(step.usage or ScriptedUsage()) | _iterations(step)
    said = {"content": content, "stop_reason": stream.stop_reason, "usage": usage, **_applied_edits(step)}
    return {**stream.message(), **said}


def messages_usage(usage: ScriptedUsage) -> dict[str, Any]:
    """Return the token counts in the words of the Messages API, whose `input_tokens` leave out the cached ones."""
    return {
        "input_tokens": usage.input_tokens - usage.cached_tokens - usage.written_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.written_tokens - usage.written_1h_tokens,
            "ephemeral_1h_input_tokens": usage.written_1h_tokens,
        },
        "cache_creation_input_tokens": usage.written_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def _iterations(step: Step) -> dict[str, Any]:
    """Return the counts of the compaction and of the answer, if there was a compaction."""
    if not step.compaction:
        return {}
    made = {"type": "compaction", **messages_usage(step.compaction_usage or ScriptedUsage())}
    said = {"type": "message", **messages_usage(step.usage or ScriptedUsage())}
    for counts in (made, said):
        del counts["output_tokens_details"]
    return {"iterations": [made, said]}


def _applied_edits(step: Step) -> dict[str, Any]:
    """Return what the server says that it cleared, if it did."""
    if not step.cleared_tool_uses:
        return {}
    counts = {"cleared_tool_uses": step.cleared_tool_uses, "cleared_input_tokens": step.cleared_tokens}
    return {"context_management": {"applied_edits": [{"type": "clear_tool_uses_20250919", **counts}]}}


def compacted_object(step: Step, body: Body, n: int) -> dict[str, Any]:
    """Return the answer of the Responses API's endpoint for compactions: the messages of users, then the compaction."""
    users = [item for item in body.get("input", ()) if item.get("role") == "user"]
    output = [_user_item(item, f"msg_{n}_{place}") for place, item in enumerate(users)]
    return {
        "id": f"resp_{n}",
        "object": "response.compaction",
        "created_at": CREATED,
        "output": [*output, _compaction_item(step.compaction or "compacted", n)],
        "usage": responses_usage(step.usage or ScriptedUsage()),
    }


def _user_item(item: Mapping[str, Any], id: str) -> dict[str, Any]:  # noqa: A002  (the field's name)
    said = item.get("content")
    content = [{"type": "input_text", "text": said}] if isinstance(said, str) else said
    return {"id": id, "type": "message", "role": "user", "status": "completed", "content": content}


def _compaction_item(text: str, n: int) -> dict[str, Any]:
    return {"id": f"cmp_{n}", "type": "compaction", "encrypted_content": text}


def counted_tokens(body: Body) -> dict[str, int]:
    """Return the answer of the Messages API's `count_tokens`: four characters of the request to a token."""
    return {"input_tokens": -(-len(json.dumps(body)) // 4)}


def chat_error(step: Step) -> bytes:
    """Return the event by which Chat Completions reports an error in the stream (`Fault.ERROR_EVENT`)."""
    return _data({"error": _error(step)})


def responses_error(step: Step) -> bytes:
    """Return the event by which the Responses API reports an error in the stream."""
    return b"event: error\n" + _data({**_error(step), "type": "error", "sequence_number": 0})


def messages_error(step: Step) -> bytes:
    """Return the event by which the Messages API reports an error in the stream."""
    default = {"type": "overloaded_error", "message": "Overloaded"}
    error = default | dict(step.body) if isinstance(step.body, Mapping) else default
    return b"event: error\n" + _data({"type": "error", "error": error})


def _error(step: Step) -> dict[str, Any]:
    default = {"message": "The server had an error", "type": "server_error", "code": "server_error", "param": None}
    return default | dict(step.body) if isinstance(step.body, Mapping) else default


def _data(value: Mapping[str, Any]) -> bytes:
    """Return the line of an event; a text with a lone surrogate is written in JSON's escapes, as servers do."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return b"data: " + text.encode()
    except UnicodeEncodeError:
        return b"data: " + json.dumps(value, separators=(",", ":")).encode()


def _said(step: Step, body: Body) -> str:
    return "" if step.text else last_user_text(body)


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or () if isinstance(part, dict))


def _wants_usage(body: Body) -> bool:
    return bool((body.get("stream_options") or {}).get("include_usage"))


def _call_id(call: ScriptedCall, n: int, index: int) -> str:
    return call.id or f"call_{n}_{index}"


def _opened(call: ScriptedCall) -> dict[str, str]:
    return {"name": call.name, "arguments": ""}


class _ChatFrame:
    """Writes the chunks of one answer, which differ in their delta alone."""

    def __init__(self, body: Body, n: int) -> None:
        self.base: dict[str, Any] = {
            "id": f"chatcmpl-{n}",
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": str(body.get("model", "scripted")),
        }

    def chunk(self, delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        return _data({**self.base, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    def call(self, index: int, delta: Mapping[str, Any]) -> bytes:
        return self.chunk({"tool_calls": [{"index": index, **delta}]})


class _ResponsesStream:
    """Writes the events of one response, numbered, and keeps its output items."""

    def __init__(self, step: Step, body: Body, n: int) -> None:
        self.answer = WireAnswer()
        self._step = step
        self._body = body
        self._n = n
        self._number = 0
        self._output: list[dict[str, Any]] = []

    def response(self, status: str, **fields: Any) -> dict[str, Any]:
        return {
            "id": f"resp_{self._n}",
            "object": "response",
            "created_at": CREATED,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": str(self._body.get("model", "scripted")),
            "output": [],
            "store": self._body.get("store", True),
            "usage": None,
            **fields,
        }

    def event(self, kind: str, **fields: Any) -> None:
        self.answer.add(self._encode(kind, fields))

    def delta(self, kind: str, **fields: Any) -> None:
        self.answer.add_delta(self._encode(kind, fields))

    def reasoning(self, texts: Sequence[str]) -> None:
        place = {"item_id": f"rs_{self._n}", "output_index": len(self._output)}
        item: dict[str, Any] = {"id": place["item_id"], "type": "reasoning", "summary": []}
        self.event("response.output_item.added", output_index=place["output_index"], item=dict(item))
        place["summary_index"] = 0
        part = {"type": "summary_text", "text": ""}
        self.event("response.reasoning_summary_part.added", **place, part=part)
        for text in texts:
            self.delta("response.reasoning_summary_text.delta", **place, delta=text)
        part = {"type": "summary_text", "text": "".join(texts)}
        self.event("response.reasoning_summary_text.done", **place, text=part["text"])
        self.event("response.reasoning_summary_part.done", **place, part=part)
        item["summary"] = [part]
        if "reasoning.encrypted_content" in (self._body.get("include") or ()):
            item["encrypted_content"] = f"encrypted-{self._n}"
        self._item_done(item)

    def message(self, texts: Sequence[str]) -> None:
        place = {"item_id": f"msg_{self._n}", "output_index": len(self._output), "content_index": 0}
        item = {"id": place["item_id"], "type": "message", "role": "assistant"}
        added = {**item, "status": "in_progress", "content": []}
        self.event("response.output_item.added", output_index=place["output_index"], item=added)
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        self.event("response.content_part.added", **place, part=part)
        for text in texts:
            self.delta("response.output_text.delta", **place, delta=text, logprobs=[])
        part = {**part, "text": "".join(texts)}
        self.event("response.output_text.done", **place, text=part["text"], logprobs=[])
        self.event("response.content_part.done", **place, part=part)
        self._item_done({**item, "status": self._item_status(), "content": [part]})

    def compaction(self, text: str) -> None:
        item = _compaction_item(text, self._n)
        self.event("response.output_item.added", output_index=len(self._output), item={**item, "encrypted_content": ""})
        self.event("response.compaction.compacting", output_index=len(self._output), item_id=item["id"])
        self._item_done(item)

    def function_call(self, call: ScriptedCall, call_id: str) -> None:
        place = {"item_id": f"fc_{call_id}", "output_index": len(self._output)}
        item = {"id": place["item_id"], "type": "function_call", "call_id": call_id, "name": call.name}
        added = {**item, "arguments": "", "status": "in_progress"}
        self.event("response.output_item.added", output_index=place["output_index"], item=added)
        for piece in call.argument_deltas():
            self.delta("response.function_call_arguments.delta", **place, delta=piece)
        self.event("response.function_call_arguments.done", **place, name=call.name, arguments=call.arguments_text)
        self._item_done({**item, "arguments": call.arguments_text, "status": self._item_status()})

    def finish(self) -> None:
        usage = None if self._step.usage is None else responses_usage(self._step.usage)
        fields: dict[str, Any] = {"output": self._output, "usage": usage}
        status = "completed"
        if self._step.fault is Fault.FAILED:
            status = "failed"
            error = _error(self._step)
            fields["error"] = {"code": error["code"], "message": error["message"]}
        elif self._step.finish() in ("length", "content_filter"):
            status = "incomplete"
            reason = "max_output_tokens" if self._step.finish() == "length" else "content_filter"
            fields["incomplete_details"] = {"reason": reason}
        self.answer.tail.append(self._encode(f"response.{status}", {"response": self.response(status, **fields)}))

    def _item_status(self) -> str:
        return "incomplete" if self._step.finish() in ("length", "content_filter") else "completed"

    def _item_done(self, item: dict[str, Any]) -> None:
        self.event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)

    def _encode(self, kind: str, fields: Mapping[str, Any]) -> bytes:
        event = _data({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: %s\n%s" % (kind.encode(), event)


class _MessagesStream:
    """Writes the events of one answer of the Messages API: content blocks, numbered, each opened and closed."""

    _STOP_REASONS: ClassVar[Mapping[str, str]] = {
        "stop": "end_turn",
        "tool_calls": "tool_use",
        "length": "max_tokens",
        "content_filter": "refusal",
    }

    def __init__(self, step: Step, body: Body, n: int) -> None:
        self.answer = WireAnswer()
        self.signature = f"signature-{n}"
        self.stop_reason = self._STOP_REASONS.get(step.finish(), step.finish())
        self._step = step
        self._usage = None if step.usage is None else messages_usage(step.usage)
        self._model = str(body.get("model", "scripted"))
        self._n = n
        self._index = 0

    def message(self) -> dict[str, Any]:
        message: dict[str, Any] = {
            "id": f"msg_{self._n}",
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }
        if self._usage is not None:
            message["usage"] = {**self._usage, "output_tokens": 1, "output_tokens_details": None}
        return message

    def event(self, kind: str, **fields: Any) -> None:
        self.answer.add(self._encode(kind, fields))

    def thinking(self, texts: Sequence[str]) -> None:
        self._open({"type": "thinking", "thinking": "", "signature": ""})
        self.event("ping")
        for text in texts:
            self._delta({"type": "thinking_delta", "thinking": text})
        delta = {"type": "signature_delta", "signature": self.signature}
        self.event("content_block_delta", index=self._index, delta=delta)
        self._close()

    def text(self, texts: Sequence[str]) -> None:
        self._open({"type": "text", "text": ""})
        for text in texts:
            self._delta({"type": "text_delta", "text": text})
        self._close()

    def compaction(self, text: str) -> None:
        self._open({"type": "compaction", "content": None})
        self.event("content_block_delta", index=self._index, delta={"type": "compaction_delta", "content": text})
        self._close()

    def tool_use(self, call: ScriptedCall, id: str) -> None:  # noqa: A002  (the field's name)
        self._open({"type": "tool_use", "id": id, "name": call.name, "input": {}})
        for piece in call.argument_deltas():
            self._delta({"type": "input_json_delta", "partial_json": piece})
        self._close()

    def finish(self) -> None:
        fields: dict[str, Any] = {"delta": {"stop_reason": self.stop_reason, "stop_sequence": None}}
        if self._usage is not None:
            fields["usage"] = self._usage | _iterations(self._step)
        fields |= _applied_edits(self._step)
        self.answer.tail.append(self._encode("message_delta", fields))
        self.answer.done = self._encode("message_stop", {})

    def _open(self, block: Mapping[str, Any]) -> None:
        self.event("content_block_start", index=self._index, content_block=block)

    def _delta(self, delta: Mapping[str, Any]) -> None:
        self.answer.add_delta(self._encode("content_block_delta", {"index": self._index, "delta": delta}))

    def _close(self) -> None:
        self.event("content_block_stop", index=self._index)
        self._index += 1

    def _encode(self, kind: str, fields: Mapping[str, Any]) -> bytes:
        return b"event: %s\n%s" % (kind.encode(), _data({"type": kind, **fields}))
