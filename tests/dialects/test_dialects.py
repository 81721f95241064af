"""What each server sends is shown, stored and sent back as it should be. See `python -m tests.dialects`."""

from __future__ import annotations

import pytest

from tests.dialects.__main__ import table
from tests.dialects.dialect import Dialect, Turn
from tests.dialects.play import play
from tests.dialects.servers import DIALECTS


@pytest.mark.parametrize("turn", Turn, ids=lambda turn: turn.value)
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_dialect_is_shown_stored_and_sent_as_it_should_be(dialect: Dialect, turn: Turn) -> None:
    played = play(dialect, turn)
    assert not played.problems, f"\n{table([played])}"
