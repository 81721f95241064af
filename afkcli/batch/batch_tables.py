"""The tables of the file of one batch, and their rows as the records of an engine."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from afkcli.core.contract.batch_totals import BatchTotals, PromptUse
from afkcli.core.contract.engine import BatchInfo, BatchLimits, PromptState, SettledPrompt
from afkcli.core.contract.jsonform import JsonObject, dumps, loads_object
from afkcli.core.contract.structs import msgspec
from afkcli.host.files import private_file

VERSION = 1
"""Of the tables below; a file of a greater version is refused."""

STATES = tuple(PromptState)
NUMBER = {state: number for number, state in enumerate(STATES)}
QUEUED, RUNNING, PARKED, CANCELLED, SENT = 0, 1, 4, 5, 6
"""The places of states in `PromptState`, by which files have them. SQLite uses a partial index for literals only."""
TABLES = """
PRAGMA page_size = 4096;
PRAGMA journal_mode = WAL;
CREATE TABLE batch (
  one INTEGER PRIMARY KEY CHECK (one = 1), name TEXT NOT NULL, created TEXT NOT NULL,
  settings TEXT NOT NULL, limits TEXT NOT NULL, paused TEXT, totals BLOB NOT NULL
);
CREATE TABLE prompts (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, place INTEGER NOT NULL, digest TEXT NOT NULL,
  state INTEGER NOT NULL, worker TEXT, claim TEXT, sent INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0,
  reserved_usd REAL NOT NULL DEFAULT 0, used_usd REAL NOT NULL DEFAULT 0,
  reserved_tokens INTEGER NOT NULL DEFAULT 0, reserved_at INTEGER NOT NULL DEFAULT 0,
  cost_usd REAL, sequence INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE requests (number INTEGER PRIMARY KEY, request TEXT NOT NULL);
CREATE TABLE results (number INTEGER PRIMARY KEY, result TEXT NOT NULL);
CREATE INDEX by_place ON prompts (place);
CREATE INDEX queued ON prompts (place) WHERE state = 0;
CREATE INDEX running ON prompts (worker) WHERE state = 1;
CREATE INDEX by_sequence ON prompts (sequence) WHERE sequence > 0;
PRAGMA user_version = 1;
"""


class Totals(BatchTotals):
    """What is counted of the batch, and how many claims were made, by which each gets its number."""

    claims: int = 0


TOTALS = msgspec.json.Decoder(Totals)
LIMITS = msgspec.json.Decoder(BatchLimits)
encoded = msgspec.json.Encoder().encode


INFO = "SELECT name, created, settings, limits, paused, totals FROM batch"


def info_of(row: Sequence[Any]) -> BatchInfo:
    name, created, settings, limits, paused, totals = row
    return TOTALS.decode(totals).info(
        name=name,
        created=created,
        settings=loads_object(settings),
        limits=LIMITS.decode(limits),
        paused=paused,
    )


def use_of(row: sqlite3.Row) -> PromptUse:
    return PromptUse(
        reserved_usd=row["reserved_usd"],
        used_usd=row["used_usd"],
        reserved_tokens=row["reserved_tokens"],
        reserved_at=row["reserved_at"],
    )


def columns_of(use: PromptUse) -> tuple[float, float, int, int]:
    return use.reserved_usd, use.used_usd, use.reserved_tokens, use.reserved_at


SETTLED = (
    "SELECT p.sequence, p.id, p.place, p.digest, p.state, p.attempts, r.result, p.cost_usd"
    " FROM prompts p JOIN results r USING (number)"
)


def settled_of(row: Sequence[Any]) -> SettledPrompt:
    sequence, id_, place, digest, state, attempts, result, cost = row
    return SettledPrompt(
        sequence=sequence,
        id=id_,
        index=place,
        digest=digest,
        state=STATES[state],
        attempts=attempts,
        result=loads_object(result),
        cost_usd=cost,
    )


def create_file(path: Path, name: str, created: str, settings: JsonObject, limits: BatchLimits) -> None:
    """Make the file of a new batch, 0600, whole or not at all; nothing happens if there is one by now.

    Raises:
        sqlite3.Error, OSError: it cannot be written.
    """
    making = path.with_name(f".{path.name}.{os.getpid()}")
    os.close(private_file(making))
    try:
        db = sqlite3.connect(making, isolation_level=None)
        try:
            db.executescript(TABLES)
            row = (name, created, dumps(settings), encoded(limits).decode(), encoded(Totals()))
            db.execute("INSERT INTO batch VALUES (1, ?, ?, ?, ?, NULL, ?)", row)
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            db.close()
        with open(making, "rb") as file:  # noqa: PTH123
            os.fsync(file.fileno())
        try:
            os.link(making, path)
        except FileExistsError:
            return
    finally:
        for suffix in ("", "-wal", "-shm"):
            making.with_name(making.name + suffix).unlink(missing_ok=True)
