"""Chat Completions: the chunks of its streams, and what its servers demand of a request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tests.dialects.dialect import (
    ANSWER,
    CALLS,
    INPUT_TOKENS,
    INSTRUCTIONS,
    OUTPUT_TOKENS,
    REASONING,
    WIRE_TOOL,
    Check,
    Json,
    Reply,
    body,
    stream,
)

CREATED = 1_790_000_000
MESSAGE_FIELDS = frozenset({"role", "content", "tool_calls", "tool_call_id"})
CALL_FIELDS = frozenset({"id", "type", "function"})
USAGE = {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS, "total_tokens": 58}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """Makes the chunks of one server: `extra` is beside the API's own fields of each, `choice` in each choice."""

    model: str
    id: str = "chatcmpl-b1"
    extra: Mapping[str, Json] = field(default_factory=dict)
    choice: Mapping[str, Json] = field(default_factory=dict)

    def delta(self, finish: str | None = None, /, **delta: Json) -> Json:
        """Return a chunk with a delta."""
        return self.whole(choices=[{"index": 0, "delta": delta, "finish_reason": finish, **self.choice}])

    def end(self, finish: str, beside: Mapping[str, Json], **delta: Json) -> Json:
        """Return a chunk with a finish reason, and with more fields in its choice."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish, **self.choice}
        return self.whole(choices=[{**choice, **beside}])

    def whole(self, **fields: Json) -> Json:
        """Return a chunk with these fields."""
        head = {"id": self.id, "object": "chat.completion.chunk", "created": CREATED, "model": self.model}
        return {**head, **self.extra, **fields}

    def texts(self, texts: Iterable[str] = ANSWER) -> list[Json]:
        return [self.delta(content=text) for text in texts]

    def thoughts(self, name: str) -> list[Json]:
        return [self.delta(**{name: text}) for text in REASONING]

    def usage(self, **more: Json) -> Json:
        """Return the chunk with the token counts, which has no choice."""
        return self.whole(choices=[], usage={**USAGE, **more})


def call(id: str | None, n: int, arguments: str | None = None, **more: Json) -> Json:  # noqa: A002  (the API's name)
    """Return the n-th call in one piece; with other arguments, or None for those of the conversation."""
    function = {"name": WIRE_TOOL, "arguments": CALLS[n] if arguments is None else arguments}
    return {"index": n, "id": id, "type": "function", "function": function, **more}


def pieces(chunks: Chunks, ids: Sequence[str]) -> list[Json]:
    """Return the chunks of both calls as OpenAI sends them: the name first, the arguments in fragments."""
    found = []
    for n, id_ in enumerate(ids):
        found.append(chunks.delta(tool_calls=[call(id_, n, "")]))
        text = CALLS[n]
        found += [
            chunks.delta(tool_calls=[{"index": n, "function": {"arguments": piece}}])
            for piece in (text[:4], text[4:11], text[11:])
        ]
    return found


def error(
    words: str, kind: str | None, status: int, code: Json = None, headers: Mapping[str, str] | None = None
) -> Reply:
    """Return an error in OpenAI's form."""
    value = {"error": {"message": words, "type": kind, "param": None, "code": code}}
    return body(value, status, **(headers or {}))


def final(chunks: Chunks) -> Reply:
    """Return the answer to the turn after the one that is judged."""
    return Reply(stream(chunks.delta(role="assistant", content="Seven."), chunks.delta("stop")))


# what a server demands


def offers_tool(request: Mapping[str, Any]) -> str | None:
    """Tools are functions with a name of letters, digits, `_` and `-`."""
    for tool in request.get("tools", ()):
        name = tool["function"]["name"]
        if tool["type"] != "function" or not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
            return f"Invalid 'tools[0].function.name': {name!r}"
    return None


def streams(request: Mapping[str, Any]) -> str | None:
    """The answer is asked for as a stream, with its token counts."""
    if request.get("stream") is not True or request.get("stream_options") != {"include_usage": True}:
        return "not a streamed request with usage"
    return None


def takes_turns(request: Mapping[str, Any]) -> str | None:
    """Roles alternate, the system message first, as chat templates demand."""
    roles = [message["role"] for message in request["messages"]]
    if (
        not str(request["messages"][0]["content"]).startswith(INSTRUCTIONS)
        or roles[0] != "system"
        or "system" in roles[1:]
    ):
        return "System message must be at the beginning."
    talk = [role for role in roles[1:] if role != "tool"]
    for before, role in pairwise(talk):
        if before == role == "user":
            return "Conversation roles must alternate user/assistant/user/assistant/..."
    if talk[:1] != ["user"] or roles[-1] not in ("user", "tool"):
        return f"Expected last role User or Tool for serving but got {roles[-1]}"
    return None


def has_content(request: Mapping[str, Any]) -> str | None:
    """No message is empty."""
    for n, message in enumerate(request["messages"]):
        content = message.get("content")
        if not content and not message.get("tool_calls"):
            return f"messages.{n}: content must not be empty"
        if isinstance(content, str) and content and not content.strip():
            return f"messages.{n}: content must not be blank"
    return None


def pairs_calls(request: Mapping[str, Any]) -> str | None:
    """Each call has its result directly behind it, ids are unique, arguments are an object."""
    waiting: list[str] = []
    seen: set[str] = set()
    for n, message in enumerate(request["messages"]):
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                return f"messages.{n}: 'tool' must be a response to a preceding message with 'tool_calls'"
            waiting.remove(message["tool_call_id"])
            continue
        if waiting:
            return f"messages.{n}: these tool_call_ids did not have response messages: {', '.join(waiting)}"
        for made in message.get("tool_calls", ()):
            if not isinstance(json.loads(made["function"]["arguments"]), dict) or made["id"] in seen:
                return f"messages.{n}: invalid tool call {made}"
            waiting.append(made["id"])
            seen.add(made["id"])
    return f"no result for {waiting}" if waiting else None


GENERAL: tuple[Check, ...] = (streams, takes_turns, has_content, pairs_calls, offers_tool)


def only_fields(*, message: Iterable[str] = (), call: Iterable[str] = ()) -> Check:
    """Return a check that refuses fields beyond those of the API and these."""
    messages, calls = MESSAGE_FIELDS | set(message), CALL_FIELDS | set(call)

    def check(request: Mapping[str, Any]) -> str | None:
        for n, sent in enumerate(request["messages"]):
            known = messages if sent["role"] == "assistant" else MESSAGE_FIELDS
            unknown = sent.keys() - known
            unknown |= {name for made in sent.get("tool_calls", ()) for name in made.keys() - calls}
            unknown |= {
                name for made in sent.get("tool_calls", ()) for name in made["function"].keys() - {"name", "arguments"}
            }
            if unknown:
                return f"Unrecognized request argument supplied: messages.{n}.{', '.join(sorted(unknown))}"
        return None

    return check


def own_ids(ids: Sequence[str]) -> Check:
    """Return a check that calls have the ids that this server gave them."""

    def check(request: Mapping[str, Any]) -> str | None:
        for message in request["messages"]:
            made = [call["id"] for call in message.get("tool_calls", ())]
            if made and made != list(ids):
                return f"No tool call found with the ids {made}"
        return None

    return check


def reasoning_back(name: str, words: str) -> Check:
    """Return a check that a message with calls has its reasoning in the field `name`, and no other message has it."""

    def check(request: Mapping[str, Any]) -> str | None:
        for n, message in enumerate(request["messages"]):
            if message.get("tool_calls"):
                if message.get(name) != "".join(REASONING):
                    return words.format(n=n)
            elif name in message:
                return f"messages.{n}: {name} of an answer without tool calls is not taken"
        return None

    return check
