"""Operations on whole threads."""

from __future__ import annotations

from afkcli.core.run.config import unknown_owner
from afkcli.core.thread.history import load_history
from afkcli.core.thread.operations import fork
from tests.core.thread.made_turns import three_turns


class TestForks:
    def test_take_over_the_sealed_turns_with_a_chain_of_their_own(self) -> None:
        store, thread, _ = three_turns()
        lease = fork(store, thread, "copy", unknown_owner("other"))
        history = load_history(store, lease.thread)
        assert history.damage == ()
        assert [turn.turn for turn in history.turns] == [1, 2, 3]
        assert lease.thread.parent is not None
        assert (lease.thread.parent.name, lease.thread.parent.turn, lease.thread.turns) == ("t", 3, 3)
