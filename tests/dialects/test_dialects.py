"""The dialects of the servers that people use are understood. See `python -m tests.dialects`."""

from __future__ import annotations

import pytest

from tests.dialects.play import play
from tests.dialects.servers import DIALECTS, Dialect


@pytest.mark.parametrize("dialect", DIALECTS, ids=[dialect.name for dialect in DIALECTS])
def test_a_dialect_is_understood(dialect: Dialect) -> None:
    assert [problem for played in play(dialect) for problem in played.problems] == []
