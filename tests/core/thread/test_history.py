"""A thread's memory: what the next turn sends, the chain of hashes, damage by name, turns that were cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afkcli.core.contract.errors import REFUSED_KINDS, ErrorKind, InvalidNameError, UnsupportedRecordError
from afkcli.core.contract.events import message_to_json
from afkcli.core.contract.jsonform import JsonError, dumps, loads_object
from afkcli.core.contract.messages import (
    Message,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    text_message,
)
from afkcli.core.contract.protocols import Lease, Record, RecordKind, ThreadInfo
from afkcli.core.contract.result import RunState, Usage
from afkcli.core.run.config import unknown_owner
from afkcli.core.thread.history import fold, load_history
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.names import check_name
from afkcli.core.thread.operations import fork, rename, seal_interrupted
from afkcli.core.thread.records import advance, next_record
from afkcli.core.thread.sending import history_warnings, mark_cut, messages_to_send, pair_tool_calls
from afkcli.core.thread.turns import SealedTurn, after_seal, turn_from_json, turn_to_json
from afkcli.testing.store_steps import save, save_turn, with_journal, with_question

QUESTION = text_message(Role.USER, "hi")
ANSWER = text_message(Role.ASSISTANT, "an answer")


def sealed(state: RunState, kind: ErrorKind | None, *messages: Message, reason: str | None = None) -> SealedTurn:
    return SealedTurn(
        turn=1,
        run_id="run",
        state=state,
        reason=reason or kind,
        error="it failed" if kind else None,
        error_kind=kind,
        agent="a",
        model="m",
        started="2026-01-01T00:00:00.000Z",
        sealed="2026-01-01T00:00:01.000Z",
        messages=messages,
    )


def asks(*ids: str) -> Message:
    return Message(role=Role.ASSISTANT, parts=tuple(ToolCallPart(id=id_, name="f", arguments={}) for id_ in ids))


def answers(*ids: str, text: str = "done") -> Message:
    parts = tuple(ToolResultPart(id=id_, name="f", parts=(TextPart(text=text),)) for id_ in ids)
    return Message(role=Role.TOOL, parts=parts)


def said(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(str(message.role), message.text) for message in messages]


def leased(store: MemoryStore, name: str = "t") -> Lease:
    lease = store.acquire(name, unknown_owner("run"))
    assert lease is not None
    return lease


class TestWhatTheNextTurnSends:
    """The last column of the table of states in design.md."""

    TURN = "the turn"
    CUT = "the turn, marked cut"
    QUESTION = "the question"
    NOTHING = "nothing"

    @pytest.mark.parametrize(
        ("state", "kind", "reason", "sends"),
        [
            (RunState.COMPLETED, None, None, TURN),
            (RunState.DEGRADED, None, "length", CUT),
            (RunState.DEGRADED, None, "max_steps", CUT),
            (RunState.FAILED, ErrorKind.AUTH, None, QUESTION),
            (RunState.FAILED, ErrorKind.NOT_FOUND, None, QUESTION),
            (RunState.FAILED, ErrorKind.RATE_LIMIT, None, QUESTION),
            (RunState.FAILED, ErrorKind.OVERLOADED, None, QUESTION),
            (RunState.FAILED, ErrorKind.NETWORK, None, QUESTION),
            (RunState.FAILED, ErrorKind.TIMEOUT, None, QUESTION),
            (RunState.FAILED, ErrorKind.INTERNAL, None, QUESTION),
            (RunState.FAILED, ErrorKind.BAD_REQUEST, None, NOTHING),
            (RunState.FAILED, ErrorKind.CONTEXT_LENGTH, None, NOTHING),
            (RunState.FAILED, ErrorKind.CONTENT_FILTER, None, NOTHING),
            (RunState.FAILED, ErrorKind.TRUNCATED, None, CUT),
            (RunState.FAILED, ErrorKind.INVALID_OUTPUT, None, TURN),
            (RunState.CANCELLED, None, None, CUT),
            (RunState.INTERRUPTED, None, None, CUT),
        ],
    )
    def test_row(self, state: RunState, kind: ErrorKind | None, reason: str | None, sends: str) -> None:
        sent = messages_to_send(sealed(state, kind, QUESTION, ANSWER, reason=reason))
        cut = len(sent) == 2 and sent[1].text.startswith("an answer[This answer was cut off here: ")
        what = {(): self.NOTHING, (QUESTION,): self.QUESTION, (QUESTION, ANSWER): self.TURN}
        assert (self.CUT if cut else what[tuple(sent)]) == sends

    def test_the_table_has_every_kind(self) -> None:
        rows = self.test_row.pytestmark[0].args[1]  # type: ignore[attr-defined]
        assert {row[1] for row in rows} == {None, *ErrorKind}
        assert {row[0] for row in rows} == set(RunState)

    @pytest.mark.parametrize("kind", sorted(set(ErrorKind) - REFUSED_KINDS - {ErrorKind.INVALID_OUTPUT}))
    def test_what_tools_did_is_never_left_out(self, kind: ErrorKind) -> None:
        sent = messages_to_send(sealed(RunState.FAILED, kind, QUESTION, asks("1"), answers("1")))
        assert sent[:3] == (QUESTION, asks("1"), answers("1"))
        assert "cut off" in sent[3].text

    def test_a_turn_whose_question_is_damaged_sends_nothing(self) -> None:
        assert messages_to_send(sealed(RunState.INTERRUPTED, None)) == ()

    def test_a_refused_question_is_warned_of_by_the_next_turn_only(self) -> None:
        refused = sealed(RunState.FAILED, ErrorKind.BAD_REQUEST, QUESTION)
        done = sealed(RunState.COMPLETED, None, QUESTION, ANSWER)
        for turns, codes in (((refused,), ["question_left_out"]), ((refused, done), []), ((), [])):
            history = replace(fold(info(), ()), turns=turns, damage=())
            assert [code for code, _ in history_warnings(history)] == codes


def info(**fields: Any) -> ThreadInfo:
    return ThreadInfo(**{"key": "k", "name": "t", "created": "", "used": "", **fields})


class TestCutTurns:
    def test_an_answer_that_never_began_gets_the_note_alone(self) -> None:
        assert said(mark_cut([QUESTION], "why")) == [
            ("user", "hi"),
            ("assistant", "[This answer was cut off here: why.]"),
        ]

    def test_reasoning_is_kept_and_empty_text_left_out(self) -> None:
        partial = Message(role=Role.ASSISTANT, parts=(ReasoningPart(text="hm"), TextPart(text="")))
        last = mark_cut([QUESTION, partial], "why")[-1]
        assert [part.type for part in last.parts] == ["reasoning", "text"]
        assert last.text.startswith("[This")

    def test_parallel_calls_cut_in_the_middle_are_all_answered(self) -> None:
        sent = mark_cut([QUESTION, asks("1", "2", "3"), answers("2")], "why")
        assert [str(message.role) for message in sent] == ["user", "assistant", "tool", "assistant"]
        results = [part for part in sent[2].parts if isinstance(part, ToolResultPart)]
        assert [(result.id, result.is_error) for result in results] == [("1", True), ("2", False), ("3", True)]

    def test_ids_that_a_server_repeats_belong_to_their_own_step(self) -> None:
        sent = list(pair_tool_calls([QUESTION, asks("1"), answers("1"), asks("1")]))
        assert [str(message.role) for message in sent] == ["user", "assistant", "tool", "assistant", "tool"]
        last = sent[-1].parts[0]
        assert isinstance(last, ToolResultPart)
        assert last.is_error

    def test_two_calls_of_one_id_each_get_their_own_result(self) -> None:
        both = Message(role=Role.TOOL, parts=(*answers("", text="a").parts, *answers("", text="b").parts))
        assert list(pair_tool_calls([asks("", ""), both])) == [asks("", ""), both]

    def test_results_without_a_call_are_left_out(self) -> None:
        assert list(pair_tool_calls([QUESTION, answers("9"), ANSWER])) == [QUESTION, ANSWER]

    @given(
        st.lists(st.tuples(st.lists(st.sampled_from("ab"), max_size=3), st.lists(st.sampled_from("abc"), max_size=3)))
    )
    def test_every_call_is_followed_by_exactly_its_results(self, steps: list[tuple[list[str], list[str]]]) -> None:
        messages = [QUESTION]
        for calls, results in steps:
            messages += [asks(*calls), *([answers(*results)] if results else [])]
        sent = list(pair_tool_calls(messages))
        for position, message in enumerate(sent):
            if message.tool_calls:
                ids = [part.id for part in sent[position + 1].parts if isinstance(part, ToolResultPart)]
                assert ids == [call.id for call in message.tool_calls]
            elif message.role is Role.TOOL:
                assert sent[position - 1].tool_calls


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
    def test_what_is_no_seal_is_refused(self, change: dict[str, Any]) -> None:
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


def three_turns() -> tuple[MemoryStore, ThreadInfo, list[Record]]:
    store = MemoryStore()
    lease = leased(store)
    for number in range(3):
        lease = save_turn(store, lease, f"question {number}", f"answer {number}")
    return store, lease.thread, list(store.load(lease.thread.key))


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
            ({"v": 1, "kind": "undone", "turns": [2]}, "kind 'undone', version 1"),
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
        with pytest.raises(UnsupportedRecordError, match="schema version 2"):
            fold(replace(thread, schema=2), records)

    def test_that_are_unknown_keep_the_thread_from_being_renamed_or_forked(self) -> None:
        store = MemoryStore()
        lease = save_turn(store, leased(store), "question", "answer")
        record = next_record(lease.thread, RecordKind.META, 1, {"v": 1, "kind": "undone"})
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
    def test_sound_records_have_none(self) -> None:
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

    def test_a_seal_with_a_right_checksum_that_is_no_seal_is_named(self) -> None:
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
    def test_lose_nothing_of_what_was_journaled(self, pieces: list[str]) -> None:
        turn, _ = self.sealed_after(*({"text": piece} for piece in pieces))
        assert "".join(message.text for message in turn.messages[1:]) == "".join(pieces)


class TestForks:
    def test_take_over_the_sealed_turns_with_a_chain_of_their_own(self) -> None:
        store, thread, _ = three_turns()
        lease = fork(store, thread, "copy", unknown_owner("other"))
        history = load_history(store, lease.thread)
        assert history.damage == ()
        assert [turn.turn for turn in history.turns] == [1, 2, 3]
        assert lease.thread.parent is not None
        assert (lease.thread.parent.name, lease.thread.parent.turn, lease.thread.turns) == ("t", 3, 3)


class TestNames:
    @pytest.mark.parametrize("name", ["a", "t-42", "../x", "a b", "Ünï", "日本", "x" * 200, "a/b\\c", "NUL", "."])
    def test_that_may_be_used(self, name: str) -> None:
        assert check_name(name) == name

    @pytest.mark.parametrize(
        "name", ["", " ", "\u3000", "-a", "x" * 201, "a\nb", "a\x1b[0m", "a\u202eb", "a\u200bb", "a\x00", "\ud800"]
    )
    def test_that_may_not(self, name: str) -> None:
        with pytest.raises(InvalidNameError) as error:
            check_name(name)
        assert "1 to 200 printable characters" in str(error.value)
        assert str(error.value).isprintable()

    def test_are_compared_in_nfc(self) -> None:
        assert check_name("e\u0301") == "é"
