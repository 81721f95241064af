"""What the next turn sends of a history: the table of states, cut turns, tool calls with their results."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afkcli.core.contract.errors import REFUSED_KINDS, ErrorKind
from afkcli.core.contract.messages import (
    Message,
    ReasoningPart,
    Role,
    TextPart,
    ToolResultPart,
)
from afkcli.core.contract.result import RunState
from afkcli.core.thread.history import fold
from afkcli.core.thread.sending import history_warnings, mark_cut, messages_to_send, pair_tool_calls
from tests.core.thread.made_turns import ANSWER, QUESTION, answers, asks, info, said, sealed


class TestWhatTheNextTurnSends:
    """The last column of the table of states in ARCHITECTURE.md."""

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


def test_a_complete_step_is_sent_as_the_message_that_it_is() -> None:
    messages = [QUESTION, asks("c1", "c2"), answers("c1", "c2"), asks("c3"), answers("c3")]
    assert all(sent is message for sent, message in zip(pair_tool_calls(messages), messages, strict=True))


def test_a_step_without_a_result_is_completed() -> None:
    messages = [QUESTION, asks("c1", "c2"), answers("c2")]
    sent = list(pair_tool_calls(messages))
    assert [part.id for part in sent[2].parts if isinstance(part, ToolResultPart)] == ["c1", "c2"]
