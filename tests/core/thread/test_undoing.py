"""Undo, redo, retry and fork: what is seen of a thread afterwards, against a list that changes in the same way."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from afkcli.core.contract.errors import UnsupportedRecordError, UsageError
from afkcli.core.contract.messages import Role, text_message
from afkcli.core.contract.protocols import THREAD_SCHEMA, Lease, RecordKind, ThreadInfo
from afkcli.core.contract.result import RunState
from afkcli.core.run.config import unknown_owner
from afkcli.core.thread.exchange import ExportedThread, end_line, read_lines, thread_lines
from afkcli.core.thread.history import fold, load_history
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.operations import fork, tag
from afkcli.core.thread.records import advance, next_record
from afkcli.core.thread.resuming import beginning_again
from afkcli.core.thread.sending import sent_turns
from afkcli.core.thread.turns import turn_to_json
from afkcli.core.thread.undoing import redo, undo
from afkcli.core.thread.writer import TurnWriter
from afkcli.testing.store_steps import save_turn
from tests.core.thread.made_turns import leased, sealed, three_turns


def asked(store: MemoryStore, lease: Lease, question: str) -> Lease:
    return save_turn(store, lease, question, f"answer to {question}")


def three_asked() -> tuple[MemoryStore, Lease]:
    store = MemoryStore()
    lease = leased(store)
    for number in range(3):
        lease = asked(store, lease, f"question {number}")
    return store, lease


def asked_again(store: MemoryStore, lease: Lease) -> Lease:
    """Ask the last question again as a run does: the replacement and the question in one append, then the seal."""
    history = load_history(store, lease.thread)
    writer = TurnWriter(store, lease, f"again-{lease.thread.turns}", lambda error: None)
    beginning = beginning_again(lease.thread, history.seen, "last", None)
    writer.open(beginning, agent="a", model="m", now="2026-01-01T00:00:00.000Z")
    answer = text_message(Role.ASSISTANT, "another answer")
    turn = replace(
        sealed(RunState.COMPLETED, None, *beginning.messages, answer), turn=writer.turn, run_id=writer.run_id
    )
    writer.seal(turn)
    return replace(lease, thread=writer.thread)


def numbers(store: MemoryStore, thread: ThreadInfo) -> list[int]:
    return [turn.turn for turn in load_history(store, thread).seen]


@dataclass
class Model:
    """A thread as a list of the numbers that are seen, with what was seen before and after each turn was asked."""

    seen: list[int] = field(default_factory=list)
    before: dict[int, list[int]] = field(default_factory=dict)
    after: dict[int, list[int]] = field(default_factory=dict)
    undone: list[list[int]] = field(default_factory=list)
    turns: int = 0

    def ask(self, *, again: bool) -> None:
        self.turns += 1
        self.before[self.turns] = self.seen
        self.seen = self.after[self.turns] = [*(self.seen[:-1] if again else self.seen), self.turns]
        self.undone = []

    def undo(self, count: int) -> None:
        self.undone.append(self.seen)
        for _ in range(count):
            self.seen = self.before[self.seen[-1]]

    def can_undo(self, count: int) -> bool:
        seen = self.seen
        for _ in range(count):
            if not seen:
                return False
            seen = self.before[seen[-1]]
        return True


class ThreadMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store, self.model, self.forks = MemoryStore(), Model(), 0
        self.lease = leased(self.store)

    @rule()
    def ask(self) -> None:
        self.lease = asked(self.store, self.lease, f"question {self.model.turns + 1}")
        self.model.ask(again=False)

    @precondition(lambda self: self.model.seen)
    @rule()
    def ask_again(self) -> None:
        self.lease = asked_again(self.store, self.lease)
        self.model.ask(again=True)

    @rule(count=st.integers(1, 3))
    def undo(self, count: int) -> None:
        if self.model.can_undo(count):
            self.lease = undo(self.store, self.lease, count).lease
            self.model.undo(count)
        else:
            with pytest.raises(UsageError):
                undo(self.store, self.lease, count)

    @rule()
    def redo(self) -> None:
        if self.model.undone:
            self.lease = redo(self.store, self.lease).lease
            self.model.seen = self.model.undone.pop()
        else:
            with pytest.raises(UsageError):
                redo(self.store, self.lease)

    @rule()
    def tag(self) -> None:
        self.lease = replace(self.lease, thread=tag(self.store, self.lease, [f"tag{self.lease.thread.next_index}"]))

    @precondition(lambda self: self.model.turns)
    @rule(data=st.data())
    def fork_at(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(1, self.model.turns))
        self.forks += 1
        copy = fork(self.store, self.lease.thread, f"fork {self.forks}", unknown_owner("other"), at=at)
        was = self.model.before[at]
        replaced = any(
            getattr(change, "by", None) == at for change in load_history(self.store, self.lease.thread).changes
        )
        assert numbers(self.store, copy.thread) == [*(was[:-1] if replaced else was), at]

    @invariant()
    def what_is_seen_is_what_the_list_has(self) -> None:
        history = load_history(self.store, self.lease.thread)
        assert history.damage == ()
        assert [turn.turn for turn in history.seen] == self.model.seen
        assert [sent.turn for sent in sent_turns(history)] == self.model.seen
        assert [turn.turn for turn in history.turns] == list(range(1, self.model.turns + 1))
        assert set(history.set_aside) == set(range(1, self.model.turns + 1)) - set(self.model.seen)

    @invariant()
    def an_export_comes_back_with_the_same_fold(self) -> None:
        thread, records = self.lease.thread, self.store.load(self.lease.thread.key)
        if thread.head:
            lines = [line.encode() for line in (*thread_lines(thread, records), end_line(1))]
            [back] = read_lines(lines)
            assert isinstance(back, ExportedThread)
            assert fold(back.thread, back.records) == fold(thread, records)


TestThreadMachine = ThreadMachine.TestCase
TestThreadMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


class TestUndo:
    def test_keeps_numbers_and_money_and_takes_the_state_of_the_turn_before(self) -> None:
        store, lease = three_asked()
        thread = lease.thread
        changed = undo(store, lease)
        after = changed.lease.thread
        assert ([turn.turn for turn in changed.gone], changed.back) == ([3], ())
        assert (after.turns, after.usage, after.cost_usd) == (thread.turns, thread.usage, thread.cost_usd)
        assert after.last_run_id == "run-2"
        assert asked(store, changed.lease, "next").thread.turns == 4

    def test_of_everything_leaves_a_thread_without_a_state(self) -> None:
        store, lease = three_asked()
        changed = undo(store, lease, 3)
        assert (changed.lease.thread.last_state, numbers(store, changed.lease.thread)) == (None, [])

    def test_of_more_than_there_is_changes_nothing(self) -> None:
        store, lease = three_asked()
        records = store.load(lease.thread.key)
        with pytest.raises(UsageError, match="has only 3 questions to undo"):
            undo(store, lease, 4)
        assert store.load(lease.thread.key) == records

    def test_takes_a_turn_with_all_that_it_resumed(self) -> None:
        store = MemoryStore()
        lease = asked(store, leased(store), "first")
        for resumed in (False, True):
            lease = interrupted(store, lease, resumed=resumed)
        changed = undo(store, lease)
        assert [turn.turn for turn in changed.gone] == [2, 3]
        assert numbers(store, changed.lease.thread) == [1]

    def test_raises_the_schema_of_its_thread_alone(self) -> None:
        store, lease = three_asked()
        assert lease.thread.schema == 1
        assert undo(store, lease).lease.thread.schema == THREAD_SCHEMA == 2
        assert leased(store, "other").thread.schema == 1

    @pytest.mark.parametrize(
        "body",
        [
            {"v": 1, "kind": "undone"},
            {"v": 1, "kind": "undone", "turns": ["2"]},
            {"v": 1, "kind": "redone", "undo": True},
            {"v": 1, "kind": "replaced", "turns": [1], "by": None},
        ],
    )
    def test_a_record_without_its_numbers_is_named_and_the_turns_are_kept(self, body: dict[str, object]) -> None:
        _, thread, records = three_turns()
        record = next_record(thread, RecordKind.META, 3, body)
        history = fold(advance(thread, record), [*records, record])
        assert "cannot be read: a meta record has no" in history.damage[0]
        assert [turn.turn for turn in history.seen] == [1, 2, 3]

    def test_of_a_newer_version_is_refused(self) -> None:
        _, thread, records = three_turns()
        record = next_record(thread, RecordKind.META, 3, {"v": 2, "kind": "undone", "turns": [3]})
        with pytest.raises(UnsupportedRecordError, match="upgrade afk"):
            fold(advance(thread, record), [*records, record])


class TestRedo:
    def test_after_another_question_names_the_fork_that_has_what_was_undone(self) -> None:
        store, lease = three_asked()
        lease = asked(store, undo(store, lease).lease, "another")
        with pytest.raises(UsageError, match="`afk threads fork t NEW --at 3`"):
            redo(store, lease)


class TestAskingAgain:
    def test_a_question_by_the_number_of_another_turn_is_refused(self) -> None:
        store, thread, _ = three_turns()
        with pytest.raises(UsageError, match="is turn 3 by now, not 2"):
            beginning_again(thread, load_history(store, thread).seen, 2, None)

    def test_a_replacement_whose_turn_is_damaged_shows_the_old_answer(self) -> None:
        store, lease = three_asked()
        lease = asked(store, asked_again(store, lease), "after")
        records = [
            replace(record, body="{}") if record.kind is RecordKind.SEAL and record.turn == 4 else record
            for record in store.load(lease.thread.key)
        ]
        history = fold(lease.thread, records)
        assert "turn 4" in history.damage[0]
        assert [turn.turn for turn in history.seen] == [1, 2, 3, 5]

    def test_a_run_that_died_before_its_answer_has_replaced_the_turn_and_undo_brings_it_back(self) -> None:
        store, lease = three_asked()
        writer = TurnWriter(store, lease, "again", lambda error: None)
        beginning = beginning_again(lease.thread, load_history(store, lease.thread).seen, "last", None)
        writer.open(beginning, agent="a", model="m", now="2026-01-01T00:00:00.000Z")
        assert numbers(store, writer.thread) == [1, 2]
        seal = replace(sealed(RunState.INTERRUPTED, None, *beginning.messages), turn=4, run_id="again")
        writer.seal(seal)
        assert numbers(store, writer.thread) == [1, 2, 4]
        changed = undo(store, replace(lease, thread=writer.thread))
        assert ([turn.turn for turn in changed.gone], [turn.turn for turn in changed.back]) == ([4], [3])


def interrupted(store: MemoryStore, lease: Lease, *, resumed: bool) -> Lease:
    thread = lease.thread
    number = thread.turns + 1
    turn = replace(
        sealed(RunState.INTERRUPTED, None, text_message(Role.USER, "long")),
        turn=number,
        run_id=f"cut-{number}",
        resumed=resumed,
        parent_run_id=f"cut-{number - 1}" if resumed else None,
    )
    record = next_record(thread, RecordKind.SEAL, number, turn_to_json(turn))
    after = replace(advance(thread, record), turns=number)
    store.append(after, [record], thread.head, lease)
    return replace(lease, thread=after)
