"""The engine of one machine keeps the contract of engines."""

from __future__ import annotations

from pathlib import Path

from afkcli.batch.local_engine import LocalEngine
from afkcli.core.contract.engine import Engine
from afkcli.testing.engine_contract import EngineContract


class TestLocalEngine(EngineContract):
    def make_engine(self, path: Path) -> Engine:
        return LocalEngine(path)
