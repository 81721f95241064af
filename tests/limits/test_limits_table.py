"""Every limit holds in the installed `afk`: the table of `python -m tests.limits`, with a value or two of each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.limits.cases import CASES, Case, rows_of
from tests.limits.table import table
from tests.limits.world import World, world


@pytest.fixture(scope="module")
def made() -> Iterator[World]:
    with world() as found:
        yield found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_limit_holds(made: World, case: Case) -> None:
    rows = rows_of(made, case, short=True)

    assert all(row.held for row in rows), f"\n{table(rows)}"
