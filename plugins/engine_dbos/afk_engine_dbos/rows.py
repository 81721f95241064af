"""A batch and its prompts as they are in the tables, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from afkcli.plugin import (
    BatchInfo,
    BatchLimits,
    BatchTotals,
    PromptInfo,
    PromptState,
    PromptUse,
    SettledPrompt,
    Struct,
    loads_object,
)

STATES: Final = (
    PromptState.QUEUED,
    PromptState.RUNNING,
    PromptState.DONE,
    PromptState.FAILED,
    PromptState.PARKED,
    PromptState.CANCELLED,
    PromptState.SENT,
)
"""The states by the numbers that the tables have."""
NUMBER: Final = {state: number for number, state in enumerate(STATES)}
QUEUED, RUNNING, DONE, FAILED, PARKED, CANCELLED, SENT = range(len(STATES))

COLUMNS: Final = (
    "number, id, place, digest, state, round, worker, claim, sent, attempts, reserved_usd, used_usd, reserved_tokens,"
    " reserved_at, cost_usd, sequence"
)
USE: Final = ("reserved_usd", "used_usd", "reserved_tokens", "reserved_at")
"""Those of them that `PromptUse` has."""
INFO: Final = "number, name, created, afk, settings, limits, paused, totals"


TOTALS = msgspec.json.Decoder(BatchTotals)
LIMITS = msgspec.json.Decoder(BatchLimits)
encoded = msgspec.json.Encoder().encode


class Row(Struct):
    """A prompt. `was` is its state as the tables have it, so that its workflow can follow at the end."""

    number: int
    id: str
    place: int
    digest: str
    state: int
    round: int
    worker: str | None
    claim: str | None
    sent: bool
    attempts: int
    use: PromptUse
    cost_usd: float | None
    sequence: int
    was: int = 0
    result: str | None = None
    changed: bool = False


def row_of(values: Sequence[Any]) -> Row:
    number, id_, place, digest, state, *rest = values
    round_, worker, claim, sent, attempts, *use, cost_usd, sequence = rest
    held = PromptUse(**dict(zip(USE, use, strict=True)))
    row = Row(
        number, _text(id_), place, _text(digest), state, round_, worker, claim, sent, attempts, held, cost_usd, sequence
    )
    row.was = state
    return row


def to_bytes(text: str) -> bytes:
    """Return a text as the tables have it: text of PostgreSQL cannot hold NUL characters."""
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return bytes(data).decode("utf-8", "surrogatepass")


def info_of(values: Sequence[Any]) -> BatchInfo:
    _, name, created, _, settings, limits, paused, totals = values
    return TOTALS.decode(totals).info(
        name=_text(name),
        created=created,
        settings=loads_object(settings),
        limits=LIMITS.decode(limits),
        paused=paused_of(paused),
    )


def paused_of(text: str | None) -> str | None:
    return None if text is None else str(msgspec.json.decode(text))


def prompt_info_of(row: Row) -> PromptInfo:
    return PromptInfo(
        id=row.id,
        index=row.place,
        digest=row.digest,
        state=STATES[row.state],
        attempts=row.attempts,
        sequence=row.sequence,
    )


def settled_of(row: Row, result: str | None) -> SettledPrompt:
    return SettledPrompt(
        sequence=row.sequence,
        id=row.id,
        index=row.place,
        digest=row.digest,
        state=STATES[row.state],
        attempts=row.attempts,
        result=loads_object(result) if result else {},
        cost_usd=row.cost_usd,
    )
