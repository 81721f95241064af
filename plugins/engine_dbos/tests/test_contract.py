"""The engine on DBOS keeps the contract of every engine."""

from __future__ import annotations

from pathlib import Path

import msgspec
from afk_engine_dbos.engine import DbosEngine
from afk_engine_dbos.rows import TOTALS

from afkcli.plugin import Engine
from afkcli.testing.engine_contract import EngineContract
from tests.postgres_server import postgres_server, schema_of

DBOS = "shared_dbos"
"""The schema of DBOS's tables in the tests, whose making takes a second."""


def make_engine(path: Path) -> DbosEngine:
    """Open the engine in the schema of a folder."""
    return DbosEngine(postgres_server().url(), schema=schema_of(path), dbos_schema=DBOS, wait_timeout=20, grace=0)


class TestDbosEngine(EngineContract):
    def make_engine(self, path: Path) -> Engine:
        self._path = path
        return make_engine(path)

    def pass_time(self, seconds: float) -> None:
        """Let time pass by the server's clock: what was sent and held lies so much further back."""
        super().pass_time(seconds)
        schema = schema_of(self._path)
        for number, text in postgres_server().execute(f"SELECT number, totals FROM {schema}.batch"):
            totals = TOTALS.decode(text)
            limits = totals.limits
            back = round(seconds)
            limits.requests = {second - back: count for second, count in limits.requests.items()}
            limits.tokens = {second - back: count for second, count in limits.tokens.items()}
            limits.next_at -= seconds
            limits.held = {model: until - seconds for model, until in limits.held.items()}
            postgres_server().execute(
                f"UPDATE {schema}.batch SET totals = %s WHERE number = %s", msgspec.json.encode(totals).decode(), number
            )
