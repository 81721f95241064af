"""The short form of the fault suite: every case with small numbers. See `python -m tests.faults --help`."""

from __future__ import annotations

import os
from concurrent.futures import Future

import pytest

from tests.faults.cases import CASES, Case
from tests.faults.conftest import ROWS, SEED
from tests.faults.table import Row, table

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="signals and processes as POSIX has them"),
    pytest.mark.long,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nothing_is_lost(case: Case, found: dict[str, Future[Row]]) -> None:
    row = found[case.name].result()
    ROWS.append(row)
    assert row.whole, f"seed {SEED}\n{table([row])}"
