"""JSON-Schema-Test-Suite: no schema of it makes afk fail, and each wrong verdict has a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.schema_suite.suite import OTHER_DOCUMENT, OWN_DIALECT, cases_of, installed, play

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folder() -> Path:
    return installed()


def test_every_required_verdict_is_right_or_has_a_reason(folder: Path) -> None:
    outcome = play(cases_of(folder))

    assert outcome.cases > 5_000
    assert outcome.crashes == []
    assert set(outcome.wrong) <= {OTHER_DOCUMENT, OWN_DIALECT}
    assert sum(map(len, outcome.wrong.values())) <= 80


def test_the_optional_cases_make_nothing_fail(folder: Path) -> None:
    outcome = play(cases_of(folder, optional=True))

    assert outcome.cases > 1_000
    assert outcome.crashes == []
