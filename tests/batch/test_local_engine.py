"""The engine of one machine keeps the contract of engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from afkcli.batch.local_engine import LocalEngine
from afkcli.core.contract.engine import Engine
from afkcli.testing.engine_contract import EngineContract
from tests.docs.pages import REPOSITORY, blocks


class TestLocalEngine(EngineContract):
    def make_engine(self, path: Path) -> Engine:
        return LocalEngine(path)


def test_the_documented_way_to_test_an_engine_works(tmp_path: Path) -> None:
    page = REPOSITORY / "docs" / "plugins" / "engine.md"
    (block,) = [block for block in blocks(page) if "EngineContract" in block.text]
    names: dict[str, Any] = {"MyEngine": LocalEngine}

    exec(block.text, names)

    assert issubclass(names["TestMyEngine"], EngineContract)
    assert isinstance(names["TestMyEngine"]().make_engine(tmp_path), LocalEngine)
