"""Undo, redo, retry and fork: what is seen of a thread afterwards, against a list that changes in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from afkcli.core.contract.errors import UnsupportedRecordError, UsageError
from afkcli.core.contract.ids import uuid7
from afkcli.core.contract.messages import ProviderData, Role, text_message
from afkcli.core.contract.protocols import THREAD_SCHEMA, Lease, RecordKind, ThreadInfo
from afkcli.core.contract.result import RunState, Usage
from afkcli.core.run.config import unknown_owner
from afkcli.core.thread.batch import make_alone
from afkcli.core.thread.changes import Compaction, compacted_body, spans
from afkcli.core.thread.compactions import INTRODUCTION, compaction_of, with_compaction
from afkcli.core.thread.exchange import ExportedThread, end_line, read_lines, thread_lines
from afkcli.core.thread.history import fold, load_history
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.operations import fork, tag
from afkcli.core.thread.records import advance, next_record
from afkcli.core.thread.resuming import beginning_again
from afkcli.core.thread.sending import sent_turns, turns_to_send
from afkcli.core.thread.turns import turn_to_json
from afkcli.core.thread.undoing import redo, undo
from afkcli.core.thread.writer import TurnWriter
from afkcli.testing.store_steps import acquired, save_turn
from tests.core.thread.made_turns import leased, sealed, three_turns

MOMENT = "2026-01-01T00:00:00.000Z"


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
    make_alone(writer.open(beginning, agent="a", model="m", now="2026-01-01T00:00:00.000Z"))
    answer = text_message(Role.ASSISTANT, "another answer")
    turn = replace(
        sealed(RunState.COMPLETED, None, *beginning.messages, answer), turn=writer.turn, run_id=writer.run_id
    )
    make_alone(writer.seal(turn))
    return acquired(store, lease.thread.name)


def numbers(store: MemoryStore, thread: ThreadInfo) -> list[int]:
    return [turn.turn for turn in load_history(store, thread).seen]


def compaction(covered: Sequence[int], summary: str, **fields: Any) -> Compaction:
    usage = Usage(input_tokens=100, output_tokens=10, total_tokens=110)
    said = {"id": uuid7(), "covers": spans(covered), "summary": summary, "model": "fake/small", "usage": usage}
    return Compaction(**{**said, "started": MOMENT, "ended": MOMENT, "cost_usd": 0.25, **fields})


def compacted(store: MemoryStore, lease: Lease, made: Compaction, turn: int | None = None) -> Lease:
    """Record a compaction, after the last turn or in the run of the next one."""
    thread, record = with_compaction(lease.thread, made, lease.thread.turns if turn is None else turn)
    store.append(thread, [record], lease.thread.head, lease)
    return replace(lease, thread=thread)


def sent(store: MemoryStore, thread: ThreadInfo) -> tuple[str | None, list[int]]:
    """Return the summary that the next turn sends, and the numbers of the turns after it."""
    turns = [turn for turn in sent_turns(load_history(store, thread)) if not turn.is_native]
    if not turns or turns[0].compaction is None:
        return None, [turn.turn for turn in turns]
    [message] = turns[0].messages
    assert message.text.startswith(INTRODUCTION)
    return message.text.partition("<summary>\n")[2].removesuffix("\n</summary>"), [turn.turn for turn in turns[1:]]


@dataclass
class Model:
    """A thread as a list of the numbers that are seen, with what was seen before and after each turn was asked."""

    seen: list[int] = field(default_factory=list)
    before: dict[int, list[int]] = field(default_factory=dict)
    after: dict[int, list[int]] = field(default_factory=dict)
    undone: list[list[int]] = field(default_factory=list)
    turns: int = 0
    compactions: list[Compacted] = field(default_factory=list)
    undone_compactions: list[list[Compacted]] = field(default_factory=list)

    def ask(self, *, again: bool) -> None:
        self.turns += 1
        self.before[self.turns] = self.seen
        self.seen = self.after[self.turns] = [*(self.seen[:-1] if again else self.seen), self.turns]
        self.undone, self.undone_compactions = [], []

    def undo(self, count: int) -> None:
        self.undone.append(self.seen)
        self.seen, gone = self.undoing(count) or ([], [])
        self.undone_compactions.append(gone)
        self.compactions = [compaction for compaction in self.compactions if compaction not in gone]

    def redo(self) -> None:
        self.seen = self.undone.pop()
        self.compactions = sorted([*self.compactions, *self.undone_compactions.pop()], key=lambda made: made.made)

    def undoing(self, count: int) -> tuple[list[int], list[Compacted]] | None:
        """What is seen after an undo of `count` changes, and the compactions that go; None if there are fewer."""
        seen, gone = self.seen, list[Compacted]()
        for _ in range(count):
            last = seen[-1] if seen else 0
            asked_for = [item for item in self.compactions if item.by_hand and item.after >= last and item not in gone]
            if asked_for:
                gone.append(asked_for[-1])
            elif seen:
                seen = self.before[last]
            else:
                return None
        return seen, gone

    def compactions_until(self, number: int) -> list[Compacted]:
        """The compactions of turns up to `number` that were made before its end."""
        return [item for item in self.compactions if item.after < number + (not item.by_hand)]

    def sent(self) -> tuple[str | None, list[int]]:
        """The summary that is sent, and the turns after it: the last one that says what the first turns say."""
        for compaction in reversed(self.compactions):
            if self.seen[: len(compaction.covered)] == compaction.covered:
                return compaction.summary, self.seen[len(compaction.covered) :]
        return None, self.seen


@dataclass(frozen=True)
class Compacted:
    """A compaction in the model: the turns that it covered when it was made, in the run of a turn or after it."""

    made: int
    covered: list[int]
    after: int
    by_hand: bool

    @property
    def summary(self) -> str:
        return f"summary {self.made}"


class ThreadMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store, self.model, self.forks, self.made = MemoryStore(), Model(), 0, 0
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

    @precondition(lambda self: self.model.seen)
    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        through = data.draw(st.sampled_from(self.model.seen))
        self._compact([number for number in self.model.seen if number <= through], by_hand=True)

    @precondition(lambda self: self.model.seen)
    @rule(data=st.data())
    def ask_and_compact(self, data: st.DataObject) -> None:
        """A run compacts what was seen before its turn."""
        covered = self.model.seen[: data.draw(st.integers(1, len(self.model.seen)))]
        self.model.turns += 1
        self._compact(covered, by_hand=False)
        self.model.turns -= 1
        self.ask()

    def _compact(self, covered: list[int], *, by_hand: bool) -> None:
        self.made += 1
        self.model.compactions.append(Compacted(self.made, covered, self.model.turns, by_hand))
        made = compaction(covered, f"summary {self.made}", run_id=None if by_hand else "run")
        self.lease = compacted(self.store, self.lease, made, self.model.turns)

    @rule(count=st.integers(1, 3))
    def undo(self, count: int) -> None:
        if self.model.undoing(count) is not None:
            self.lease = undo(self.store, self.lease, count).lease
            self.model.undo(count)
        else:
            with pytest.raises(UsageError):
                undo(self.store, self.lease, count)

    @rule()
    def redo(self) -> None:
        if self.model.undone:
            self.lease = redo(self.store, self.lease).lease
            self.model.redo()
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
        assert sent(self.store, copy.thread)[0] in (None, *(made.summary for made in self.model.compactions_until(at)))

    @precondition(lambda self: self.model.seen)
    @rule()
    def fork(self) -> None:
        self.forks += 1
        copy = fork(self.store, self.lease.thread, f"fork {self.forks}", unknown_owner("other"))
        assert sent(self.store, copy.thread) == self.model.sent()
        assert copy.thread.usage == Usage()

    @invariant()
    def what_is_seen_is_what_the_list_has(self) -> None:
        history = load_history(self.store, self.lease.thread)
        assert history.damage == ()
        assert [turn.turn for turn in history.seen] == self.model.seen
        assert sent(self.store, self.lease.thread) == self.model.sent()
        loaded = load_history(self.store, self.lease.thread, turns_to_send)
        assert sent_turns(loaded) == sent_turns(history)
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
            {"v": 1, "kind": "undone", "turns": [], "compactions": ["2"]},
            {"v": 1, "kind": "compacted"},
            {**compacted_body(compaction([1, 2], "short")), "covers": [[1, 9]]},
            {**compacted_body(compaction([1, 2], "short")), "covers": [[2, 1]]},
            {**compacted_body(compaction([1, 2], "short")), "covers": [[1]]},
            {**compacted_body(compaction([1, 2], "short")), "covers": []},
            {**compacted_body(compaction([1, 2], "short")), "summary": None},
        ],
    )
    def test_a_record_that_does_not_say_what_it_has_to_is_named_and_the_turns_are_kept(
        self, body: dict[str, object]
    ) -> None:
        _, thread, records = three_turns()
        record = next_record(thread, RecordKind.META, 3, body)
        history = fold(advance(thread, record), [*records, record])
        assert "cannot be read: " in history.damage[0]
        assert [turn.turn for turn in history.seen] == [1, 2, 3]
        assert [turn.turn for turn in sent_turns(history)] == [1, 2, 3]

    def test_of_a_newer_version_is_refused(self) -> None:
        _, thread, records = three_turns()
        record = next_record(thread, RecordKind.META, 3, {"v": 2, "kind": "undone", "turns": [3]})
        with pytest.raises(UnsupportedRecordError, match="upgrade afk"):
            fold(advance(thread, record), [*records, record])


class TestCompaction:
    """A compaction of turns 1 and 2 of three."""

    def made(self) -> tuple[MemoryStore, Lease]:
        store, lease = three_asked()
        return store, compacted(store, lease, compaction([1, 2], "short"))

    def test_is_sent_in_place_of_its_turns_which_stay(self) -> None:
        store, lease = self.made()
        assert sent(store, lease.thread) == ("short", [3])
        assert numbers(store, lease.thread) == [1, 2, 3]
        wanted = load_history(store, lease.thread, turns_to_send).turns
        assert [len(turn.messages) for turn in wanted] == [0, 0, 2]

    def test_counts_in_the_cost_and_raises_the_schema_of_its_thread(self) -> None:
        store, before = three_asked()
        thread = compacted(store, before, compaction([1], "short")).thread
        assert (thread.cost_usd, thread.usage.total_tokens) == (0.75 + 0.25, before.thread.usage.total_tokens + 110)
        assert (thread.schema, thread.turns) == (THREAD_SCHEMA, 3)

    def test_is_undone_before_the_last_question_and_redone(self) -> None:
        store, lease = self.made()
        changed = undo(store, lease)
        assert ([made.summary for made in changed.gone_compactions], changed.gone) == (["short"], ())
        assert sent(store, changed.lease.thread) == (None, [1, 2, 3])
        assert changed.lease.thread.cost_usd == lease.thread.cost_usd
        back = redo(store, changed.lease)
        assert [made.summary for made in back.back_compactions] == ["short"]
        assert sent(store, back.lease.thread) == ("short", [3])

    def test_that_a_run_made_stays_when_its_turn_is_undone(self) -> None:
        store, lease = three_asked()
        lease = asked(store, compacted(store, lease, compaction([1, 2], "short", run_id="run-4"), 4), "fourth")
        changed = undo(store, lease)
        assert ([turn.turn for turn in changed.gone], changed.gone_compactions) == ([4], ())
        assert sent(store, changed.lease.thread) == ("short", [3])

    def test_of_a_turn_that_is_asked_again_is_not_used_until_that_is_undone(self) -> None:
        store, lease = three_asked()
        lease = asked_again(store, compacted(store, lease, compaction([1, 2, 3], "all")))
        assert sent(store, lease.thread) == (None, [1, 2, 4])
        assert sent(store, undo(store, lease).lease.thread) == ("all", [])

    def test_of_a_turn_that_is_resumed_is_not_used(self) -> None:
        store = MemoryStore()
        lease = interrupted(store, asked(store, leased(store), "first"), resumed=False)
        lease = interrupted(store, compacted(store, lease, compaction([1, 2], "both")), resumed=True)
        assert sent(store, lease.thread) == (None, [1, 3])

    def test_where_the_last_one_is_undone_the_one_before_is_used(self) -> None:
        store, lease = self.made()
        lease = compacted(store, lease, compaction([1, 2, 3], "all"))
        assert sent(store, lease.thread) == ("all", [])
        assert sent(store, undo(store, lease).lease.thread) == ("short", [3])

    def test_is_used_where_a_turn_that_it_covers_is_damaged(self) -> None:
        store, lease = self.made()
        records = [
            replace(record, body="{}") if record.kind is RecordKind.SEAL and record.turn == 2 else record
            for record in store.load(lease.thread.key)
        ]
        history = fold(lease.thread, records)
        assert [turn.turn for turn in history.seen] == [1, 3]
        assert history.compaction is not None

    def test_without_a_text_is_not_used_by_just_any_model(self) -> None:
        store, lease = three_asked()
        opaque = ProviderData(provider="fake", api="chat", model="small", payload={"blob": "x"})
        lease = compacted(store, lease, compaction([1, 2], "", provider_data=opaque))
        history = load_history(store, lease.thread)
        assert (history.compaction, sent(store, lease.thread)) == (None, (None, [1, 2, 3]))
        behind = [(turn.turn, turn.is_native) for turn in sent_turns(history)]
        assert behind == [(1, False), (2, False), (2, True), (3, False)]
        used = compaction_of(history.seen, history.set_aside, history.changes, lambda made: True)
        assert used is not None
        assert used.provider_data == opaque

    def test_is_taken_over_by_a_fork_of_its_turns_alone(self) -> None:
        store, lease = self.made()
        lease = asked(store, lease, "fourth")
        for at, summary in ((None, "short"), (4, "short"), (3, None), (1, None)):
            copy = fork(store, lease.thread, f"fork at {at}", unknown_owner("other"), at=at)
            assert sent(store, copy.thread)[0] == summary
            assert copy.thread.schema == (THREAD_SCHEMA if summary else 1)


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
        make_alone(writer.open(beginning, agent="a", model="m", now="2026-01-01T00:00:00.000Z"))
        assert numbers(store, writer.thread) == [1, 2]
        seal = replace(sealed(RunState.INTERRUPTED, None, *beginning.messages), turn=4, run_id="again")
        make_alone(writer.seal(seal))
        assert numbers(store, writer.thread) == [1, 2, 4]
        changed = undo(store, acquired(store, lease.thread.name))
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
