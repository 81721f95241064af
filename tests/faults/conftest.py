"""The cases that were chosen, run side by side, and their table at the end of the test run.

A failure is repeated with its seed: `AFK_FAULTS_SEED=... pytest tests/faults`, or `python -m tests.faults --seed ...`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.faults.cases import CASES
from tests.faults.table import Row, table

AT_ONCE = 3
"""Most of a case is waiting, so that a few share two cores well."""

ROWS: list[Row] = []
SEED = os.environ.get("AFK_FAULTS_SEED") or secrets.token_hex(4)


@pytest.fixture(scope="session")
def found(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Row]]]:
    """What each case that was chosen finds, by its name."""
    chosen = _chosen(request.session)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {case.name: pool.submit(case.short, SEED) for case in CASES if case.name in chosen}
        pool.shutdown(cancel_futures=True)


def _chosen(session: pytest.Session) -> set[str]:
    callspecs = [getattr(item, "callspec", None) for item in session.items]
    return {spec.id for spec in callspecs if spec is not None and "case" in spec.params}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if ROWS:
        terminalreporter.section(f"faults, seed {SEED}")
        terminalreporter.write_line(table(ROWS))
