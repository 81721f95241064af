"""What goes wrong, and the row of the design's table of states that has to follow from it."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from afkcli.testing.model_server import Fault as Server
from afkcli.testing.model_server import Step
from tests.provider_faults.apis import Api
from tests.provider_faults.raw import Talk

WORDS = "mark-why"
"""What the server says of its error; the line has to pass it on."""
SHORT = 0.6
"""Seconds of a time limit that a server which says nothing more lets pass."""
TEXT = ("one", " two", " three")


class Sent(StrEnum):
    """What the next turn sends of the one that failed."""

    TURN = "the turn"
    CUT = "the turn, marked cut"
    AGAIN = "the question again"
    LEFT_OUT = "the question left out"


class Host(StrEnum):
    """Where the requests go."""

    SCRIPTED = "the scripted server"
    REFUSING = "a port without a listener"
    NAMELESS = "a name that does not exist"
    UNTRUSTED = "a TLS server with a certificate of its own making"
    RAW = "a server of bytes, whose body has no end"
    SILENT = "a port that takes the connection and never shakes hands"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table of states: how a run ends, after how many requests, and what the next turn sends."""

    state: str
    code: int
    requests: int
    sent: Sent


ANSWERED = Row("completed", 0, 1, Sent.TURN)
ANSWERED_AFTER_ONE_MORE = Row("completed", 0, 2, Sent.TURN)
LENGTH = Row("degraded", 3, 1, Sent.CUT)
HOPELESS = Row("failed", 4, 1, Sent.AGAIN)
RETRIED = Row("failed", 4, 5, Sent.AGAIN)
REFUSED = Row("failed", 4, 1, Sent.LEFT_OUT)
BROKEN = Row("failed", 4, 1, Sent.CUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: of the error, None where the run does not fail.
        says: what the line on stderr has to hold.
        steps: what the server does, the last step repeated; nothing for hosts that are not a scripted server.
        raw: what a server of bytes does instead; its runs are measured.
        out: what reaches stdout.
        settings: of the provider.
        arguments: of `afk run`.
        delays: what each wait has to lie between, in seconds.
        fallback: whether the config names a fallback model.
        other_lines: how many lines stderr has besides the retries.
    """

    name: str
    row: Row
    kind: str | None = None
    says: str = ""
    steps: Callable[[Api], Sequence[Step]] = lambda api: ()
    raw: Callable[[Api], Talk] | None = None
    out: str = ""
    host: Host = Host.SCRIPTED
    settings: Mapping[str, float] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    delays: tuple[float, float] = (0.0, 1.0)
    fallback: bool = False
    other_lines: int = 1


def _says(step: Step) -> Callable[[Api], Sequence[Step]]:
    return lambda api: [step]


def _status(status: int, kind: str = "", code: str | None = None, **headers: str) -> Callable[[Api], Sequence[Step]]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda api: [Step(status=status, headers=sent, body=api.error(WORDS, kind, code))]


def _page(status: int) -> Callable[[Api], Sequence[Step]]:
    return _says(Step(status=status, body="<html><body>Bad gateway</body></html>"))


def _then_ok(steps: Callable[[Api], Sequence[Step]]) -> Callable[[Api], Sequence[Step]]:
    return lambda api: [*steps(api), Step(text="ok")]


def _date(seconds: float) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


def _stream(fault: Server, after: int, **fields: object) -> Callable[[Api], Sequence[Step]]:
    return _says(replace(Step(text=TEXT, fault=fault, fault_after=after), **fields))


def _statuses() -> Iterator[Fault]:
    yield Fault(name="400", row=REFUSED, kind="bad_request", says=WORDS, steps=_status(400))
    yield Fault(name="401", row=HOPELESS, kind="auth", says=WORDS, steps=_status(401, "authentication_error"))
    yield Fault(name="403", row=HOPELESS, kind="auth", says=WORDS, steps=_status(403, "permission_error"))
    yield Fault(name="404", row=HOPELESS, kind="not_found", says=WORDS, steps=_status(404, "not_found_error"))
    yield Fault(name="408", row=RETRIED, kind="timeout", says=WORDS, steps=_status(408, "timeout_error"))
    yield Fault(name="409", row=RETRIED, kind="overloaded", says=WORDS, steps=_status(409, "conflict_error"))
    limited = "rate_limit_error"
    yield Fault(name="429", row=RETRIED, kind="rate_limit", says=WORDS, steps=_status(429, limited))
    yield Fault(
        name="429, Retry-After: 0",
        row=RETRIED,
        kind="rate_limit",
        says="tried 5 times",
        steps=_status(429, limited, Retry_After="0"),
        delays=(0.0, 0.0),
    )
    yield Fault(
        name="429, Retry-After: 2, then an answer",
        row=ANSWERED_AFTER_ONE_MORE,
        out="ok",
        steps=_then_ok(_status(429, limited, Retry_After="2")),
        delays=(2.0, 2.0),
        other_lines=0,
    )
    yield Fault(
        name="429, Retry-After: a date that has passed",
        row=RETRIED,
        kind="rate_limit",
        says="tried 5 times",
        steps=lambda api: _status(429, limited, Retry_After=_date(-60))(api),
        delays=(0.0, 0.0),
    )
    yield Fault(
        name="429, Retry-After: a date past --timeout",
        row=HOPELESS,
        kind="rate_limit",
        says="max_wall_time_s=60",
        steps=lambda api: _status(429, limited, Retry_After=_date(115))(api),
        arguments=("--timeout", "60"),
    )
    yield Fault(
        name="429, Retry-After: 3600",
        row=HOPELESS,
        kind="rate_limit",
        says="asks to wait 3600 s",
        steps=_status(429, limited, Retry_After="3600"),
    )
    yield Fault(
        name="429, Retry-After past --timeout",
        row=HOPELESS,
        kind="rate_limit",
        says="max_wall_time_s=100",
        steps=_status(429, limited, Retry_After="110"),
        arguments=("--timeout", "100"),
    )
    yield Fault(name="500", row=RETRIED, kind="overloaded", says=WORDS, steps=_status(500, "api_error"))
    yield Fault(name="502", row=RETRIED, kind="overloaded", says="(502): an HTML page", steps=_page(502))
    yield Fault(name="503", row=RETRIED, kind="overloaded", says="(503)", steps=_says(Step(status=503)))
    yield Fault(name="529", row=RETRIED, kind="overloaded", says=WORDS, steps=_status(529, "overloaded_error"))
    yield Fault(
        name="503, then an answer",
        row=ANSWERED_AFTER_ONE_MORE,
        out="ok",
        steps=_then_ok(_says(Step(status=503))),
        other_lines=0,
    )
    yield Fault(
        name="401, then the fallback model answers",
        row=ANSWERED_AFTER_ONE_MORE,
        out="ok",
        says="continuing with",
        steps=_then_ok(_status(401, "authentication_error")),
        fallback=True,
    )


def _connections() -> Iterator[Fault]:
    yield Fault(
        name="connection refused", row=RETRIED, kind="network", says="refused the connection", host=Host.REFUSING
    )
    yield Fault(name="name not found", row=RETRIED, kind="network", says="cannot find the host", host=Host.NAMELESS)
    yield Fault(name="bad certificate", row=RETRIED, kind="network", says="certificate", host=Host.UNTRUSTED)
    yield Fault(
        name="no connection in time",
        row=RETRIED,
        kind="timeout",
        says=f"within {SHORT:g} s",
        host=Host.SILENT,
        settings={"connect_timeout": SHORT},
    )
    for name, fault in (
        ("closed before the headers", Server.NO_RESPONSE),
        ("reset before the headers", Server.RESET_BEFORE_HEADERS),
    ):
        yield Fault(name=name, row=RETRIED, kind="network", says="cannot reach", steps=_stream(fault, 0))
    yield Fault(
        name="stall before the headers",
        row=RETRIED,
        kind="timeout",
        says=f"did not answer within {SHORT:g} s",
        steps=_stream(Server.HANG_BEFORE_HEADERS, 0),
        settings={"first_byte_timeout": SHORT},
    )


def _streams() -> Iterator[Fault]:
    """Yield what goes wrong within a stream: before the answer began, and after its first two pieces."""
    said = "".join(TEXT[:2])
    yield Fault(
        name="reset before the answer", row=RETRIED, kind="network", steps=_stream(Server.RESET, 0), says="lost"
    )
    yield Fault(
        name="reset in the answer",
        row=BROKEN,
        kind="truncated",
        says="broke off",
        steps=_stream(Server.RESET, 2, fault_waits=True),
        out=said,
    )
    yield Fault(
        name="stall before the answer",
        row=RETRIED,
        kind="timeout",
        says=f" for {SHORT:g} s; try again, or raise the timeouts",
        steps=_stream(Server.HANG, 0),
        settings={"first_byte_timeout": SHORT},
    )
    yield Fault(
        name="stall in the answer",
        row=BROKEN,
        kind="truncated",
        says=f"stalled for {SHORT:g} s",
        steps=_stream(Server.HANG, 2),
        out=said,
        settings={"idle_timeout": SHORT},
    )
    for name, fault, says in (
        ("closed", Server.CUT, "broke off"),
        ("closed within a line", Server.CUT_MID_LINE, "broke off"),
        ("truncated", Server.END, "ended without its end marker"),
        ("malformed event", Server.MALFORMED, "malformed"),
    ):
        before = "" if name == "malformed event" else " before the answer"
        within = "" if name == "malformed event" else " in the answer"
        if before:
            yield Fault(name=f"{name}{before}", row=RETRIED, kind="network", says=says, steps=_stream(fault, 0))
        yield Fault(name=f"{name}{within}", row=BROKEN, kind="truncated", says=says, steps=_stream(fault, 2), out=said)
    yield Fault(
        name="error event before the answer",
        row=RETRIED,
        kind="overloaded",
        says="failed to answer",
        steps=_stream(Server.ERROR_EVENT, 0),
    )
    yield Fault(
        name="error event in the answer",
        row=BROKEN,
        kind="truncated",
        says="broke off",
        steps=_stream(Server.ERROR_EVENT, 2),
        out=said,
    )
    yield Fault(
        name="error event in the answer, with a fallback model",
        row=BROKEN,
        kind="truncated",
        says="broke off",
        steps=_then_ok(_stream(Server.ERROR_EVENT, 2)),
        out=said,
        fallback=True,
    )
    yield Fault(
        name="invalid UTF-8",
        row=ANSWERED,
        steps=_says(Step(text=["one", " two", " thr\ufffd\ufffd"], fault=Server.INVALID_UTF8, fault_after=2)),
        out="one two thr\ufffd\ufffd",
        other_lines=0,
    )


def _answers() -> Iterator[Fault]:
    yield Fault(name="empty answer", row=ANSWERED, says="answered with no text", steps=_says(Step(echo="")))
    yield Fault(
        name="cut by the output limit",
        row=LENGTH,
        says="output limit",
        out="one",
        steps=_says(Step(text="one", finish_reason="length")),
    )
    yield Fault(
        name="content filter, nothing said",
        row=REFUSED,
        kind="content_filter",
        says="content filter",
        steps=_says(Step(echo="", finish_reason="content_filter")),
    )
    yield Fault(
        name="content filter in the answer",
        row=REFUSED,
        kind="content_filter",
        says="content filter",
        out="one",
        steps=_says(Step(text="one", finish_reason="content_filter")),
    )
    yield Fault(
        name="context too long",
        row=REFUSED,
        kind="context_length",
        says="too long",
        steps=lambda api: [
            Step(status=400, body=api.error(_TOO_LONG[api.speaks_messages], code="context_length_exceeded"))
        ],
    )
    yield Fault(
        name="413", row=REFUSED, kind="context_length", says="too long", steps=_status(413, "request_too_large")
    )
    yield Fault(name="200 with a page", row=HOPELESS, kind="not_found", says="text/html", steps=_page(200))


_TOO_LONG = (
    "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.",
    "prompt is too long: 208310 tokens > 200000 maximum",
)

MAX_MEGABYTES = 200
"""Of a run, whatever its server sends."""

IN_A_CONNECTION = (*_statuses(), *_connections())
IN_AN_ANSWER = (*_streams(), *_answers())
FAULTS = (*IN_A_CONNECTION, *IN_AN_ANSWER)
