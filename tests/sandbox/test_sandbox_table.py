"""The sandbox holds what it has to hold: the table of `python -m tests.sandbox`, a test a column."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sandbox.table import OFF, Column
from tests.sandbox.world import MACHINES, USERS, World, missing, world

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def place() -> Iterator[World]:
    with world() as made:
        yield made


@pytest.mark.parametrize("machine", [*MACHINES, OFF])
@pytest.mark.parametrize("who", USERS)
def test_what_a_command_can_do(place: World, who: str, machine: str) -> None:
    seen = place.attempt(who, "bubblewrap", sandbox=OFF) if machine == OFF else place.attempt(who, machine)

    assert Column(who=who, machine=machine, seen=seen).problems() == []
