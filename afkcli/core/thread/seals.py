"""Reads the body of a seal: all at once, or without its messages."""

from __future__ import annotations

from typing import Any

from afkcli.core.contract.errors import ErrorKind
from afkcli.core.contract.jsonform import MAX_DEPTH, MAX_LINE_BYTES, loads_object
from afkcli.core.contract.messages import message_from_json
from afkcli.core.contract.result import RunState, usage_from_json
from afkcli.core.contract.structs import msgspec
from afkcli.core.thread.turns import SealedTurn, turn_from_json


class _Seal(msgspec.Struct):
    """The fields of a sealed turn as they are in its JSON, checked but for the messages and the usage."""

    turn: int
    run_id: str
    state: RunState
    reason: str | None
    error: str | None
    error_kind: ErrorKind | None
    agent: str
    model: str
    started: str
    sealed: str
    messages: list[Any]
    usage: Any = None
    cost_usd: float | None = None
    steps: int = 0
    parent_run_id: str | None = None
    resumed: bool = False


_decode = msgspec.json.Decoder(_Seal).decode


def read_seal(body: str) -> SealedTurn:
    """Return the turn in the body of a seal, as `turn_from_json` does.

    Raises:
        JsonError: it is not JSON, or a field is missing or of a wrong type.
    """
    if body.count("[") + body.count("{") <= MAX_DEPTH and len(body) <= MAX_LINE_BYTES:
        try:
            return _turn(_decode(body))
        except ValueError:
            pass  # the other reader says what is wrong
    form = loads_object(body)
    try:
        return _turn(msgspec.convert(form, _Seal))
    except ValueError:
        return turn_from_json(form)


def _turn(seal: _Seal) -> SealedTurn:
    return SealedTurn(
        turn=seal.turn,
        run_id=seal.run_id,
        state=seal.state,
        reason=seal.reason,
        error=seal.error,
        error_kind=seal.error_kind,
        agent=seal.agent,
        model=seal.model,
        started=seal.started,
        sealed=seal.sealed,
        messages=tuple(map(message_from_json, seal.messages)),
        usage=usage_from_json(seal.usage),
        cost_usd=seal.cost_usd,
        steps=seal.steps,
        parent_run_id=seal.parent_run_id,
        resumed=seal.resumed,
    )
