"""The metadata of a thread whose row is damaged or missing, from what its records tell."""

from __future__ import annotations

from collections.abc import Sequence

from afkcli.core.contract.ids import rfc3339
from afkcli.core.contract.jsonform import JsonError, loads_object
from afkcli.core.contract.protocols import OpenTurn, Record, RecordKind, ThreadInfo
from afkcli.core.contract.structs import replace
from afkcli.core.thread.names import title_of
from afkcli.core.thread.records import advance
from afkcli.core.thread.turns import SealedTurn, after_seal, turn_from_json


def info_from_records(key: str, name: str, records: Sequence[Record]) -> ThreadInfo:
    """Return the metadata that `records` tell of. Folder, tags and parent are not in them and are lost. Since: 0.2."""
    created = _created(key)
    info = ThreadInfo(key=key, name=name, created=created, used=created)
    for record in records:
        info = replace(advance(info, record), turns=max(info.turns, record.turn))
        if record.kind is RecordKind.SEAL:
            info = _with_seal(info, record)
        elif record.kind is RecordKind.QUESTION:
            info = _with_question(info, record)
    return info


def _with_seal(info: ThreadInfo, record: Record) -> ThreadInfo:
    try:
        turn = turn_from_json(loads_object(record.body))
    except JsonError:
        return info
    info = after_seal(info, turn)
    return replace(info, agent=turn.agent, model=turn.model, title=info.title or _title(turn))


def _with_question(info: ThreadInfo, record: Record) -> ThreadInfo:
    try:
        run_id = str(loads_object(record.body).get("run_id", ""))
    except JsonError:
        run_id = ""
    opened = OpenTurn(turn=record.turn, run_id=run_id, index=record.index, started=_created(run_id))
    return replace(info, open_turn=opened, used=opened.started)


def _title(turn: SealedTurn) -> str | None:
    return title_of(turn.messages[0].text) if turn.messages else None


def _created(identity: str) -> str:
    """Return the time in a UUIDv7 (its first 48 bits are milliseconds since the epoch; RFC 9562, section 5.7)."""
    try:
        return rfc3339(int(identity.replace("-", "")[:12], 16) / 1000)
    except (ValueError, OSError, OverflowError):
        return rfc3339(0)
