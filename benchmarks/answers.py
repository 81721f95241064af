"""The streamed answers of the scripted server, made beforehand, in each API that the measured programs speak."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

MODEL = "gpt-5.2-mini"
CLAUDE_MODEL = "claude-sonnet-5-5"
INPUT_TOKENS = 12

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Answer:
    """One answer, whose deltas are `texts`, in every API.

    The HTTP response of an API is made when it is first asked for, which is in the round that does not count.
    """

    def __init__(self, texts: Sequence[str], *, events_per_chunk: int = 1) -> None:
        self._texts = texts
        self._events_per_chunk = events_per_chunk
        self._made: dict[str, bytes] = {}

    def response(self, path: str) -> bytes | None:
        """Return the whole HTTP response to a POST to `path`, or None where no API has that path."""
        path = path.partition("?")[0]
        api = next((ending for ending in APIS if path.endswith(ending)), None)
        if api is None:
            return None
        if api not in self._made:
            self._made[api] = _response(APIS[api](self._texts), self._events_per_chunk)
        return self._made[api]


def answer(deltas: int, *, events_per_chunk: int = 1) -> Answer:
    """Return an answer of `deltas` words.

    Args:
        deltas: how many deltas of text it has.
        events_per_chunk: how many events share one chunk of the HTTP body; model servers send each in its own.
    """
    return Answer([f"word{number % 1000} " for number in range(deltas)], events_per_chunk=events_per_chunk)


def pieces(texts: Sequence[str]) -> Answer:
    """Return an answer whose deltas are `texts`, with all events in one chunk of the HTTP body."""
    return Answer(texts, events_per_chunk=len(texts) + 100)


def chat_events(texts: Sequence[str]) -> list[bytes]:
    """Return the events of Chat Completions."""

    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _data({**common, "choices": [choice], "usage": None})

    common = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1780000000, "model": MODEL}
    tokens = len(texts)
    usage = {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": tokens,
        "total_tokens": INPUT_TOKENS + tokens,
    }
    return [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": text}) for text in texts),
        chunk({}, finish="stop"),
        _data({**common, "choices": [], "usage": usage}),
        b"data: [DONE]\n\n",
    ]


def messages_events(texts: Sequence[str]) -> list[bytes]:
    """Return the events of Anthropic's Messages API."""
    message: dict[str, object] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": CLAUDE_MODEL,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": INPUT_TOKENS, "output_tokens": 1},
    }
    return [
        _named({"type": "message_start", "message": message}),
        _named({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        *(
            _named({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})
            for text in texts
        ),
        _named({"type": "content_block_stop", "index": 0}),
        _named(
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": len(texts)},
            }
        ),
        _named({"type": "message_stop"}),
    ]


def responses_events(texts: Sequence[str]) -> list[bytes]:
    """Return the events of the Responses API."""
    response = {"id": "resp_1", "object": "response", "created_at": 1780000000, "model": MODEL, "error": None}
    item = {"id": "msg_1", "type": "message", "role": "assistant"}
    part = {"type": "output_text", "annotations": [], "logprobs": []}
    whole = {**part, "text": "".join(texts)}
    whole_item = {**item, "status": "completed", "content": [whole]}
    usage = {
        "input_tokens": INPUT_TOKENS,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": len(texts),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": INPUT_TOKENS + len(texts),
    }
    in_item = {"item_id": "msg_1", "output_index": 0}
    in_part = {**in_item, "content_index": 0}
    begun = {**response, "status": "in_progress", "output": []}
    events: list[dict[str, object]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**item, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **in_part, "part": {**part, "text": ""}},
        *({"type": "response.output_text.delta", **in_part, "delta": text, "logprobs": []} for text in texts),
        {"type": "response.output_text.done", **in_part, "text": whole["text"], "logprobs": []},
        {"type": "response.content_part.done", **in_part, "part": whole},
        {"type": "response.output_item.done", "output_index": 0, "item": whole_item},
        {
            "type": "response.completed",
            "response": {**response, "status": "completed", "output": [whole_item], "usage": usage},
        },
    ]
    return [_named({**event, "sequence_number": number}) for number, event in enumerate(events)]


APIS: dict[str, Callable[[Sequence[str]], list[bytes]]] = {
    "/chat/completions": chat_events,
    "/messages": messages_events,
    "/responses": responses_events,
}
"""The events of an API by the end of its path."""


def _response(events: Sequence[bytes], events_per_chunk: int) -> bytes:
    groups = (events[start : start + events_per_chunk] for start in range(0, len(events), events_per_chunk))
    chunks = (b"".join(group) for group in groups)
    return _HEAD + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def _named(event: dict[str, object]) -> bytes:
    """Return an event that is named by its own type."""
    return b"event: %b\n%b" % (str(event["type"]).encode(), _data(event))


def _data(event: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"
