"""The fold of a thread's records: changes of the thread, damage by name, interrupted turns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afkcli.core.contract.errors import ErrorKind, UnsupportedRecordError
from afkcli.core.contract.events import message_to_json
from afkcli.core.contract.jsonform import JsonError, dumps, loads_object
from afkcli.core.contract.messages import (
    ReasoningPart,
    Role,
    text_message,
)
from afkcli.core.contract.protocols import Record, RecordKind, ThreadInfo
from afkcli.core.contract.result import RunState, Usage
from afkcli.core.run.config import unknown_owner
from afkcli.core.thread.history import fold, load_history
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.operations import fork, rename, seal_interrupted
from afkcli.core.thread.records import advance, next_record
from afkcli.core.thread.sending import messages_to_send
from afkcli.core.thread.turns import SealedTurn, after_seal, turn_from_json, turn_to_json
from afkcli.testing.store_steps import save, save_turn, with_journal, with_question
from tests.core.thread.made_turns import QUESTION, answers, asks, info, leased, said, sealed, three_turns


class TestSeals:
    @given(
        state=st.sampled_from(RunState),
        kind=st.none() | st.sampled_from(ErrorKind),
        text=st.text(st.characters(codec="utf-8")),
        cost=st.none() | st.floats(0, 1e6),
        tokens=st.integers(0, 2**53),
    )
    def test_a_turn_survives_its_json_form(
        self, state: RunState, kind: ErrorKind | None, text: str, cost: float | None, tokens: int
    ) -> None:
        turn = replace(
            sealed(state, kind, text_message(Role.USER, text), asks("1"), answers("1", text=text)),
            cost_usd=cost,
            usage=Usage(input_tokens=tokens),
            steps=2,
            parent_run_id=text or None,
        )
        assert turn_from_json(loads_object(dumps(turn_to_json(turn)))) == turn

    def test_fields_that_are_not_known_are_ignored(self) -> None:
        turn = sealed(RunState.COMPLETED, None, QUESTION)
        assert turn_from_json({**loads_object(dumps(turn_to_json(turn))), "later": 1}) == turn

    @pytest.mark.parametrize(
        "change", [{"state": "nope"}, {"messages": None}, {"messages": [1]}, {"error_kind": "nope"}, {"turn": ...}]
    )
    def test_an_invalid_seal_is_refused(self, change: dict[str, Any]) -> None:
        form = {**loads_object(dumps(turn_to_json(sealed(RunState.COMPLETED, None, QUESTION)))), **change}
        form = {name: value for name, value in form.items() if value is not ...}
        with pytest.raises(JsonError):
            turn_from_json(form)

    def test_totals_add_up_and_an_unknown_cost_stays_unknown(self) -> None:
        turn = replace(sealed(RunState.COMPLETED, None), cost_usd=0.5, usage=Usage(input_tokens=3))
        once = after_seal(info(), turn)
        twice = after_seal(once, turn)
        assert (twice.cost_usd, twice.usage.input_tokens, twice.last_state) == (1.0, 6, "completed")
        assert after_seal(after_seal(twice, replace(turn, cost_usd=None)), turn).cost_usd is None


class TestChangesOfTheThread:
    def with_meta(self, **body: Any) -> tuple[ThreadInfo, list[Record]]:
        _, thread, records = three_turns()
        record = next_record(thread, RecordKind.META, 3, body)
        return advance(thread, record), [*records, record]

    def test_are_part_of_the_history(self) -> None:
        store = MemoryStore()
        lease = save_turn(store, leased(store), "question", "answer")
        thread = rename(store, lease, "new")
        (change,) = load_history(store, thread).changes
        assert (change.turn, change.fields) == (1, {"name": "new"})

    @pytest.mark.parametrize(
        ("body", "named"),
        [
            ({"v": 1, "kind": "merged", "turns": [2]}, "kind 'merged', version 1"),
            ({"v": 2, "changes": {"name": "new"}}, "kind 'changed', version 2"),
            ({"v": 2, "kind": "compacted"}, "kind 'compacted', version 2"),
            ({"changes": {"name": "new"}}, "version None"),
            ({"v": 1, "kind": None, "changes": {}}, "kind None"),
            ({"v": 1, "changes": {"retention_days": 3}}, "a change of 'retention_days'"),
        ],
    )
    def test_of_an_unknown_kind_or_version_are_refused(self, body: dict[str, Any], named: str) -> None:
        with pytest.raises(UnsupportedRecordError) as error:
            fold(*self.with_meta(**body))
        assert str(error.value).startswith("record 9 of thread 't' was written by a newer afk")
        assert named in str(error.value)
        assert "upgrade afk" in str(error.value)

    def test_that_are_damaged_are_named_like_every_damaged_record(self) -> None:
        thread, records = self.with_meta(v=2, kind="undone")
        records[-1] = replace(records[-1], body="{}")
        assert "checksum" in fold(thread, records).damage[0]
        assert "cannot be read" in fold(*self.with_meta(v=1, changes=[])).damage[0]

    def test_of_a_newer_schema_refuse_the_thread(self) -> None:
        _, thread, records = three_turns()
        with pytest.raises(UnsupportedRecordError, match="schema version 3"):
            fold(replace(thread, schema=3), records)

    def test_that_are_unknown_keep_the_thread_from_being_renamed_or_forked(self) -> None:
        store = MemoryStore()
        lease = save_turn(store, leased(store), "question", "answer")
        record = next_record(lease.thread, RecordKind.META, 1, {"v": 1, "kind": "merged"})
        lease = save(store, lease, (advance(lease.thread, record), record))
        for change in (
            lambda: rename(store, lease, "new"),
            lambda: fork(store, lease.thread, "copy", unknown_owner("other")),
        ):
            with pytest.raises(UnsupportedRecordError):
                change()
        assert [info.name for info in store.list()] == ["t"]
        assert store.find("t") == lease.thread


class TestDamage:
    def test_intact_records_have_no_damage(self) -> None:
        _, thread, records = three_turns()
        history = fold(thread, records)
        assert history.damage == ()
        assert [turn.turn for turn in history.turns] == [1, 2, 3]

    @pytest.mark.parametrize("position", range(3))
    @pytest.mark.parametrize(
        "change", [{"body": "{}"}, {"turn": 9}, {"index": 99}, {"prev": "0" * 64}, {"hash": "0" * 64}]
    )
    def test_of_a_record_is_found_and_named_and_the_rest_is_kept(self, position: int, change: dict[str, Any]) -> None:
        _, thread, records = three_turns()
        records[position] = replace(records[position], **change)
        history = fold(thread, records)
        assert "checksum" in history.damage[0]
        assert "thread 't'" in history.damage[0]
        assert [turn.turn for turn in history.turns] == [turn for turn in (1, 2, 3) if turn != position + 1]

    @pytest.mark.parametrize(("position", "named"), [(0, "before turn 2"), (1, "before turn 3"), (2, "last record")])
    def test_a_record_that_is_missing_is_named(self, position: int, named: str) -> None:
        _, thread, records = three_turns()
        del records[position]
        history = fold(thread, records)
        assert len(history.damage) == 1
        assert named in history.damage[0]
        assert len(history.turns) == 2

    def test_a_record_of_another_thread_is_damage(self) -> None:
        _, thread, records = three_turns()
        other = three_turns()[2]
        assert fold(thread, [records[0], other[1], records[2]]).damage

    def test_an_invalid_seal_with_a_correct_checksum_is_named(self) -> None:
        thread = info()
        for body in ({"v": 1}, {"v": 1, "messages": "x"}):
            record = next_record(thread, RecordKind.SEAL, 1, body)
            assert "cannot be read" in fold(advance(thread, record), [record]).damage[0]

    @pytest.mark.parametrize("missing", [0, 1, 2, 3])
    def test_of_the_turn_that_is_open_is_named_too(self, missing: int) -> None:
        store = MemoryStore()
        lease = save(store, leased(store), with_question(leased_thread(store), "hi"))
        for text in ("a", "b", "c"):
            lease = save(store, lease, with_journal(lease.thread, text))
        records = list(store.load(lease.thread.key))
        del records[missing]
        history = fold(lease.thread, records)
        assert len(history.damage) == 1
        assert ("last record" if missing == 3 else "before turn 1") in history.damage[0]

    @given(st.data())
    def test_no_change_of_a_byte_goes_unnoticed(self, data: st.DataObject) -> None:
        _, thread, records = three_turns()
        position = data.draw(st.integers(0, 2))
        body = records[position].body
        at = data.draw(st.integers(0, len(body) - 1))
        other = data.draw(st.characters(codec="utf-8").filter(lambda character: character != body[at]))
        records[position] = replace(records[position], body=body[:at] + other + body[at + 1 :])
        assert fold(thread, records).damage


def leased_thread(store: MemoryStore) -> ThreadInfo:
    found = store.find("t")
    assert found is not None
    return found


class TestInterruptedTurns:
    def sealed_after(self, *steps: dict[str, Any]) -> tuple[SealedTurn, MemoryStore]:
        """A run wrote a question and journal records, and died; the next reader seals the turn."""
        store = MemoryStore()
        lease = leased(store)
        lease = save(store, lease, with_question(lease.thread, "hi"))
        for body in steps:
            record = next_record(lease.thread, RecordKind.JOURNAL, 1, {"v": 1, **body})
            lease = save(store, lease, (advance(lease.thread, record), record))
        lease, history = seal_interrupted(store, lease, load_history(store, lease.thread))
        again = load_history(store, lease.thread)
        assert again.turns == history.turns
        assert again.damage == ()
        assert lease.thread.open_turn is None
        assert seal_interrupted(store, lease, history) == (lease, history)
        return history.turns[0], store

    def test_keep_the_question_when_nothing_was_said(self) -> None:
        turn, _ = self.sealed_after()
        assert (turn.state, said(turn.messages), turn.steps) == (RunState.INTERRUPTED, [("user", "hi")], 0)
        assert (turn.agent, turn.model, turn.run_id) == ("agent", "model", "run-1")

    def test_keep_the_text_that_was_streamed(self) -> None:
        turn, _ = self.sealed_after({"text": "one ", "reasoning": "hm "}, {"text": "two", "reasoning": "so"})
        assert said(turn.messages)[1:] == [("assistant", "one two")]
        assert turn.messages[1].parts[0] == ReasoningPart(text="hm so")
        assert messages_to_send(turn)[1].text == "one two[This answer was cut off here: the program was interrupted.]"

    def test_keep_whole_messages_in_place_of_their_text(self) -> None:
        step, result = message_to_json(asks("1")), message_to_json(answers("1"))
        turn, _ = self.sealed_after({"text": "le"}, {"messages": [step, result], "text": "and th"}, {"text": "en"})
        assert [str(message.role) for message in turn.messages] == ["user", "assistant", "tool", "assistant"]
        assert turn.messages[3].text == "and then"
        assert turn.steps == 2

    def test_are_sealed_even_if_a_record_cannot_be_understood(self) -> None:
        later = {"role": "assistant", "parts": [{"type": "hologram"}]}
        turn, _ = self.sealed_after({"messages": [later], "text": "a"}, {"text": None})
        assert turn.messages[1].text.startswith("a")

    def test_drop_their_question_and_journal_once_they_are_sealed(self) -> None:
        _, store = self.sealed_after({"text": "a"})
        assert [record.kind for record in store.load(leased_thread(store).key)] == [RecordKind.SEAL]

    def test_are_sealed_without_a_question_that_is_damaged(self) -> None:
        store = MemoryStore()
        lease = leased(store)
        lease = save(store, lease, with_question(lease.thread, "hi"))
        lease = save(store, lease, with_journal(lease.thread, "a"))
        question, journal = store.load(lease.thread.key)
        history = fold(lease.thread, [replace(question, body="{}"), journal])
        lease, history = seal_interrupted(store, lease, history)
        assert said(history.turns[0].messages) == [("assistant", "a")]
        assert "checksum" in history.damage[0]

    @given(st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=8))
    def test_lose_nothing_of_the_journal(self, pieces: list[str]) -> None:
        turn, _ = self.sealed_after(*({"text": piece} for piece in pieces))
        assert "".join(message.text for message in turn.messages[1:]) == "".join(pieces)
