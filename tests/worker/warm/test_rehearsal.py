"""A throw-away turn leaves the worker as it was."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from afkcli.host.ending import Ending
from afkcli.host.invocation import Invocation
from afkcli.worker.rehearsal import PARTS, Rehearsal


@pytest.mark.parametrize("module", PARTS)
def test_variables_that_a_turn_sets_or_removes_are_as_before(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LiteLLM is told by variables of its own what not to load."""
    monkeypatch.setenv("KEPT", "yes")
    seen = []

    def command(make: Callable[[], Invocation]) -> Ending:
        seen.append((dict(os.environ), list(make().arguments)))
        os.environ["SET_BY_A_TURN"] = "yes"
        os.environ["KEPT"] = "changed"
        os.environ.pop("HOME", None)
        return Ending(0)

    before = dict(os.environ)
    Rehearsal(command, [module], str(tmp_path)).run(2)

    assert dict(os.environ) == before
    assert seen[0][1][:1] == ["run"]
    assert set(PARTS[module].variables) <= set(seen[0][0])
    assert list(tmp_path.iterdir()) == []


def test_a_provider_that_was_not_used_is_not_rehearsed(tmp_path: Path) -> None:
    def command(make: Callable[[], Invocation]) -> Ending:
        raise AssertionError("a turn was taken")

    Rehearsal(command, ["afkcli.core.run.loop", "sqlite3"], str(tmp_path)).run(3)
