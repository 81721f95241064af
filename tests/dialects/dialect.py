"""What a dialect is: how one server writes its answers and its errors, and what it demands of a request.

Every server plays the same conversation, so that only the form differs. A further server is one file in `servers`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Json = Any
Check = Callable[[Mapping[str, Any]], str | None]
"""Takes the JSON body of a request; returns what is wrong with it in the server's words, or None."""

KEY = "sk-canary-0123456789"
INSTRUCTIONS = "Answer in one line."
QUESTION = "How much water do the beans and the chard need?"
NEXT_QUESTION = "And the spinach?"

REASONING = ("The garden ", "is dry; I look it up.")
ANSWER = ("The beans need 12 litres,", " the chard 7", " \u2014 a week \U0001f331.")
HALF = ANSWER[:2]

TOOL = "garden.water"
WIRE_TOOL = "garden__water"
CALLS = ('{"plant": "beans"}', '{"plant": "chard"}')
RESULTS = ("beans: 12 litres", "chard: 7 litres")

INPUT_TOKENS = 41
OUTPUT_TOKENS = 17


class Turn(StrEnum):
    """The turns that every server plays."""

    PLAIN = "plain"
    REASONING = "reasoning"
    TOOLS = "tools"
    REFUSED = "refused"
    WRONG_KEY = "wrong key"
    RATE_LIMITED = "rate limited"
    CUT = "cut"


class Api(StrEnum):
    """The API whose form the requests have."""

    CHAT = "chat"
    RESPONSES = "responses"
    MESSAGES = "messages"


EVENT_STREAM = {"Content-Type": "text/event-stream"}
JSON_BODY = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of a server, byte for byte.

    Attributes:
        body: the body; where it is a stream, it is sent in chunks that cut it anywhere.
        status: of HTTP.
        headers: those besides the length.
        breaks_off: the connection is closed after the body, without the end of the chunked body.
    """

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: EVENT_STREAM)
    breaks_off: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An answer that is a failure, and what a user has to see of it.

    Attributes:
        reply: the answer.
        says: the server's own words, which have to reach the user.
        kind: of the error; None where the run ends without one.
        state, code: how the run ends.
        left_out: whether the next turn sends nothing of it.
    """

    reply: Reply
    says: str
    kind: str | None = None
    state: str = "failed"
    code: int = 4
    left_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One server.

    Attributes:
        name: what the command line and the table call it.
        source: where the forms are documented.
        provider, model, settings: of afk; `{origin}` in `base_url` is the server's scheme, host and port.
        api: the form of its requests.
        path: where the requests have to go, the query included.
        key_header: the header with the key, and its value.
        checks: what it demands of a request; what breaks one is answered by `refuse`.
        refuse: makes its answer to a request that it does not take.
        plain, reasoning, calls, second, final: the answers; `calls` and `second` are the two steps with tools, `final`
            answers the turn after each.
        reasons_before_calls: whether `calls` begins with `REASONING`.
        shows_reasoning: whether `reasoning` has the text of it.
        refused, wrong_key, limited, cut: the failures; `limited` is followed by `plain`.
    """

    name: str
    source: str
    model: str
    path: str
    plain: Reply
    reasoning: Reply
    calls: Reply
    second: Reply
    final: Reply
    refused: Failure
    wrong_key: Failure
    limited: Failure
    cut: Failure
    refuse: Callable[[str], Reply]
    checks: Sequence[Check] = ()
    provider: str = "openai"
    api: Api = Api.CHAT
    base_url: str = "{origin}/v1"
    settings: Mapping[str, Any] = field(default_factory=dict)
    key_header: tuple[str, str] = ("authorization", f"Bearer {KEY}")
    reasons_before_calls: bool = True
    shows_reasoning: bool = True

    def replies(self, turn: Turn) -> tuple[Reply, ...]:
        """Return the answers to the requests of a turn, in order."""
        return {
            Turn.PLAIN: (self.plain,),
            Turn.REASONING: (self.reasoning,),
            Turn.TOOLS: (self.calls, self.second),
            Turn.REFUSED: (self.refused.reply,),
            Turn.WRONG_KEY: (self.wrong_key.reply,),
            Turn.RATE_LIMITED: (self.limited.reply, self.plain),
            Turn.CUT: (self.cut.reply,),
        }[turn]

    def failure(self, turn: Turn) -> Failure | None:
        """Return what fails in a turn, if something does."""
        return {
            Turn.REFUSED: self.refused,
            Turn.WRONG_KEY: self.wrong_key,
            Turn.RATE_LIMITED: self.limited,
            Turn.CUT: self.cut,
        }.get(turn)


def stream(*items: Json, line_end: str = "\n", space: bool = True, done: str | None = "[DONE]") -> bytes:
    """Return a stream of events: objects become `data:` lines, texts stay as they are."""
    colon = "data: " if space else "data:"
    lines = [item if isinstance(item, str) else colon + json.dumps(item, ensure_ascii=False) for item in items]
    if done is not None:
        lines.append(colon + done)
    return "".join(line.replace("\n", line_end) + line_end * 2 for line in lines).encode()


def event(kind: str, value: Json) -> str:
    """Return the lines of an event with a type, for `stream`."""
    return f"event: {kind}\ndata: {json.dumps(value, ensure_ascii=False)}"


def body(value: Json, status: int, **headers: str) -> Reply:
    """Return an answer that is one JSON value; `_` in the names of headers stands for `-`."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply(json.dumps(value).encode(), status, {**JSON_BODY, **named})
