"""A conversation that outgrows the window of its model, with the policy `compact`: a summary is sent for old turns."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from afkcli.core.contract.context import ContextConfig
from afkcli.core.contract.errors import ErrorKind, ProviderError
from afkcli.core.contract.events import Event
from afkcli.core.contract.limits import FailSafeConfig
from afkcli.core.contract.messages import FinishReason, ModelEvent, ModelRequest, Role, TextDelta
from afkcli.core.contract.protocols import Price, ThreadInfo
from afkcli.core.contract.result import RunState, Usage
from afkcli.core.contract.tools import tool
from afkcli.core.run.config import Wiring
from afkcli.core.run.models import WindowLookup
from afkcli.core.run.summariser import INSTRUCTIONS
from afkcli.core.run.transcript import LEFT_OUT_NOTE
from afkcli.core.thread.compactions import INTRODUCTION
from afkcli.core.thread.history import load_history
from afkcli.core.thread.usage import each_usage
from tests.core.run.test_context import WORDS, Talk, Windowed, contexts, form_of, look, shared_prefixes
from tests.core.scripted import agent, response, result_of

COMPACT = ContextConfig(policy="compact")
PRICE = Price(input=1.0, output=2.0)


class Summarising(Windowed):
    """A model with a window that answers a request for a summary with `summary`, which has the number of the request.

    `fails` has what it does instead, one item for each request for a summary: an error to raise, or a response.
    """

    def __init__(self, *, summary: str = "what was said", fails: Sequence[Any] = (), **options: Any) -> None:
        super().__init__(**options)
        self.summary = summary
        self.fails = list(fails)
        self.asked: list[ModelRequest] = []  # for summaries

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        if not request.messages[0].text.startswith(("You summarise", "Summarise!")):
            async for event in super().stream(request):
                yield event
            return
        self.asked.append(request)
        failure = self.fails.pop(0) if self.fails else None
        if isinstance(failure, BaseException):
            raise failure
        tokens = int(len(form_of(request.messages)) / self.characters)
        if tokens > self.window:
            raise ProviderError(
                "too long", kind=ErrorKind.CONTEXT_LENGTH, said=f"maximum context length is {self.window} tokens"
            )
        text = f"{self.summary} {len(self.asked)}"
        usage = Usage(input_tokens=tokens, output_tokens=20, total_tokens=tokens + 20)
        yield TextDelta(text)
        yield failure or response(text, usage=usage)


def summaries(request: ModelRequest) -> list[str]:
    said = [message.text for message in request.messages if message.text.startswith(INTRODUCTION)]
    return [text.partition("<summary>\n")[2].removesuffix("\n</summary>") for text in said]


def warnings(events: Sequence[Event]) -> list[tuple[str, str]]:
    return [(event.code, event.message) for event in events if event.type == "warning"]


def thread_of(talk: Talk) -> ThreadInfo:
    thread = talk.store.find("t")
    assert thread is not None
    return thread


def questions(count: int, first: int = 0) -> list[str]:
    return [f"{number} {WORDS}" for number in range(first, first + count)]


class TestCompact:
    def test_300_turns_fit_into_4000_tokens_and_most_begin_as_the_one_before(self) -> None:
        model = Summarising()
        talk = Talk(model)
        turns = talk.ask(*questions(300), context=COMPACT)
        assert [result_of(events).state for events in turns] == [RunState.COMPLETED] * 300
        assert (len(model.requests), model.refused, talk.turns()) == (300, [], 300)
        assert 10 < len(model.asked) < 60
        assert shared_prefixes(model.requests) == 299 - len(model.asked)
        for number, request in enumerate(model.requests):
            assert request.messages[-1].text.startswith(f"{number} ")
            assert LEFT_OUT_NOTE not in form_of(request.messages)
            assert len(summaries(request)) == (number >= _first(turns))
        assert not any(warnings(events) for events in turns)

    def test_of_tool_calls_keeps_pairs_whole(self) -> None:
        model = Summarising()
        turns = Talk(model).ask(*(f"look 1 {number}" for number in range(80)), tools=[look], context=COMPACT)
        assert {result_of(events).state for events in turns} == {RunState.COMPLETED}
        assert (len(model.requests), model.refused) == (160, [])  # pairs are checked in each request
        assert shared_prefixes(model.requests) >= 159 - 2 * len(model.asked)
        assert "Result of look: seen seen" in model.asked[0].messages[-1].text

    def test_of_attachments_names_them_and_does_not_load_them(self) -> None:
        model = Summarising()
        talk = Talk(model)
        talk.ask(*map(str, range(100)), attachment=b"text " * 100, context=COMPACT)
        assert model.refused == []
        assert "[attached file note.txt, text/plain, 50" in model.asked[0].messages[-1].text
        assert not any("text text" in form_of(request.messages) for request in model.asked)
        loaded: list[str] = []
        read = talk.store.content
        talk.store.content = lambda key, sha256: (loaded.append(sha256), read(key, sha256))[1]  # type: ignore[method-assign]
        talk.ask("more", context=COMPACT)
        sent = sum("text text" in form_of([message]) for message in model.requests[-1].messages)
        assert 0 < len(loaded) == sent < 25

    def test_summarises_the_earlier_summary_with_the_turns_that_came_after_it(self) -> None:
        model = Summarising()
        talk = Talk(model)
        turns = talk.ask(*questions(60), context=COMPACT)
        [first, second, *_] = [event for events in turns for event in contexts(events)]
        assert "<earlier_summary>" not in form_of(model.asked[0].messages)
        asked = model.asked[1].messages[-1].text
        assert "<earlier_summary>\nwhat was said 1\n</earlier_summary>" in asked
        assert f"[Turn {(first.compacted_through or 0) + 1}]" in asked
        assert f"[Turn {second.compacted_through}]" in asked
        assert f"[Turn {first.compacted_through}]" not in asked
        assert summaries(model.requests[-1]) == [f"what was said {len(model.asked)}"]

    def test_says_what_is_summarised_once_and_by_what(self) -> None:
        model = Summarising(name="fake")
        model.price = PRICE
        turns = Talk(model).ask(*questions(32), context=COMPACT)
        [said] = [event for events in turns for event in contexts(events)]
        assert said.message == (
            f"sent as a summary of about 4 tokens: turns 1 to {said.compacted_through}: "
            "the conversation does not fit into the 4,000 tokens of fake/small"
        )
        assert (said.compaction_model, said.dropped_through) == ("fake/small", None)
        assert said.compaction_usage is not None
        assert said.compaction_usage.output_tokens == 20
        assert said.tokens_after < 0.7 * said.tokens_before

    def test_leaves_what_is_stored_as_it_is(self) -> None:
        talk = Talk(Summarising())
        talk.ask(*questions(40), context=COMPACT)
        history = load_history(talk.store, thread_of(talk))
        assert [turn.turn for turn in history.seen] == list(range(1, 41))
        assert [turn.messages[0].text.split()[0] for turn in history.turns] == [str(number) for number in range(40)]
        assert history.damage == ()

    def test_counts_once_in_the_thread_the_run_and_the_usage(self) -> None:
        model = Summarising()
        model.price = PRICE
        talk = Talk(model)
        results = [result_of(events) for events in talk.ask(*questions(32), context=COMPACT)]
        paid = [result.total_cost_usd for result in results]
        assert None not in paid
        total = sum(cost for cost in paid if cost is not None)
        thread = thread_of(talk)
        assert thread.cost_usd == pytest.approx(total)
        assert thread.usage.input_tokens == sum(result.usage.input_tokens for result in results)
        taken = list(each_usage(talk.store, pytest.fail))
        assert sum(item.turns for item in taken) == 32
        assert sum(item.cost_usd or 0 for item in taken) == pytest.approx(total)
        assert [item.turns for item in taken].count(0) == 1 == len(model.asked)
        with_summary = next(result for result in results if result.usage.output_tokens > 60)
        assert with_summary.usage.output_tokens == 50 + 20

    def test_is_used_whatever_the_policy_is_once_it_is_there(self) -> None:
        model = Summarising()
        talk = Talk(model)
        talk.ask(*questions(32), context=COMPACT)
        asked = len(model.asked)
        talk.ask("and now?")
        assert (summaries(model.requests[-1]), len(model.asked)) == ([f"what was said {asked}"], asked)
        assert LEFT_OUT_NOTE not in form_of(model.requests[-1].messages)

    def test_covers_what_was_left_out_before(self) -> None:
        model = Summarising()
        talk = Talk(model)
        talk.ask(*questions(40))
        assert LEFT_OUT_NOTE in form_of(model.requests[-1].messages)
        turns = talk.ask(*questions(32, 40), context=COMPACT)
        [event, *_] = [event for events in turns for event in contexts(events) if event.compacted_through]
        assert "[Turn 1]" in model.asked[0].messages[-1].text
        assert event.dropped_through is None
        assert LEFT_OUT_NOTE not in form_of(model.requests[-1].messages)

    def test_by_a_server_that_counts_more_than_the_estimate(self) -> None:
        model = Summarising(characters=2.5)
        turns = Talk(model).ask(*questions(100), context=COMPACT)
        assert {result_of(events).state for events in turns} == {RunState.COMPLETED}
        assert (model.refused, any(warnings(events) for events in turns)) == ([], False)

    def test_where_the_server_refuses_a_window_that_was_not_known(self) -> None:
        model = Summarising(known=False)
        turns = Talk(model).ask(*questions(60), context=COMPACT)
        assert {result_of(events).state for events in turns} == {RunState.COMPLETED}
        assert len(model.refused) == 1
        assert model.asked
        assert not any(event.dropped_through for events in turns for event in contexts(events))

    def test_inside_a_turn_of_many_calls(self) -> None:
        model = Summarising()
        talk = Talk(model)
        talk.ask(*questions(22), context=COMPACT)
        [events] = talk.ask("look 20 times", tools=[look], context=COMPACT)
        assert result_of(events).state is RunState.COMPLETED
        assert model.refused == []
        assert model.asked

    def test_with_words_of_the_user(self) -> None:
        model = Summarising()
        Talk(model).ask(*questions(32), context=ContextConfig(policy="compact", instructions="Summarise! In verse."))
        assert {request.messages[0].text for request in model.asked} == {"Summarise! In verse."}

    def test_tells_the_model_what_to_do_and_has_no_tools(self) -> None:
        model = Summarising()
        Talk(model).ask(*questions(32), tools=[look], context=COMPACT)
        [request] = model.asked
        assert ([message.role for message in request.messages], request.tools) == ([Role.SYSTEM, Role.USER], ())
        assert request.messages[0].text == INSTRUCTIONS
        assert "in at most " in request.messages[1].text


class TestAnotherModel:
    def talk(self, cheap: Summarising, model: Windowed | None = None, **windows: int) -> tuple[Windowed, Talk]:
        model = model or Windowed()
        talk = Talk(model, wiring=Wiring(look_up_window=WindowLookup(windows)))
        talk.others = (cheap,)
        return model, talk

    def test_makes_the_summary(self) -> None:
        cheap = Summarising(name="cheap")
        cheap.price = Price(input=0.1, output=0.1)
        model, talk = self.talk(cheap)
        turns = talk.ask(*questions(32), context=ContextConfig(policy="compact", model="cheap/tiny"))
        assert {result_of(events).model for events in turns} == {"fake/small"}
        assert ([request.model for request in cheap.asked], summaries(model.requests[-1])) == (
            ["tiny"],
            ["what was said 1"],
        )
        [compacted] = [item for item in each_usage(talk.store, pytest.fail) if item.turns == 0]
        assert (compacted.model, compacted.cost_usd is not None) == ("cheap/tiny", True)

    def test_with_a_smaller_window_gets_pieces(self) -> None:
        cheap = Summarising(name="cheap", window=1_800)
        model, talk = self.talk(cheap)
        turns = talk.ask(*questions(32), context=ContextConfig(policy="compact", model="cheap/tiny"))
        assert len(cheap.asked) > 1
        assert "<earlier_summary>\nwhat was said 1\n" in cheap.asked[1].messages[-1].text
        assert summaries(model.requests[-1]) == [f"what was said {len(cheap.asked)}"]
        assert not any(warnings(events) for events in turns)

    def test_whose_window_is_learnt_from_its_refusal(self) -> None:
        cheap = Summarising(name="cheap", window=1_800, known=False)
        model, talk = self.talk(cheap)
        turns = talk.ask(*questions(32), context=ContextConfig(policy="compact", model="cheap/tiny"))
        assert summaries(model.requests[-1])
        assert not any(warnings(events) for events in turns)

    def test_that_is_not_there_is_refused_at_the_start(self) -> None:
        with pytest.raises(Exception, match="there is no provider 'nowhere'"):
            Talk(Windowed()).ask("hi", context=ContextConfig(policy="compact", model="nowhere/small"))


BROKEN = ProviderError("the server is down", kind=ErrorKind.AUTH)


class TestAFailedSummary:
    @pytest.mark.parametrize(
        ("failure", "said"),
        [
            (BROKEN, "the server is down"),
            (ProviderError("no", kind=ErrorKind.CONTENT_FILTER), "no"),
            (RuntimeError("bug"), "the provider 'fake' failed: RuntimeError: bug"),
            (response(""), "fake/small answered with no text"),
            (response("x" * 8_000), "answered with about 2,000 tokens, and 375 were asked for"),
            (response("half", finish=FinishReason.LENGTH), "was cut at its output limit"),
            (response("no", finish=FinishReason.CONTENT_FILTER), "the content filter of fake/small stopped"),
        ],
    )
    def test_falls_back_to_trimming_and_says_so(self, failure: Any, said: str) -> None:
        model = Summarising(fails=itertools.repeat(failure, 50))  # type: ignore[arg-type]
        talk = Talk(model)
        turns = talk.ask(*questions(32), context=COMPACT)
        assert {result_of(events).state for events in turns} == {RunState.COMPLETED}
        [(code, line), *_] = [warning for events in turns for warning in warnings(events)]
        assert code == "compaction_failed"
        assert line.startswith("turns up to ")
        assert said in line
        assert line.endswith("old turns are left out instead")
        [event, *_] = [event for events in turns for event in contexts(events)]
        assert event.dropped_through is not None
        assert (event.compacted_through, summaries(model.requests[-1])) == (None, [])
        assert model.refused == []

    def test_that_was_paid_for_counts_in_the_turn(self) -> None:
        usage = Usage(input_tokens=1_000, output_tokens=500, total_tokens=1_500)
        model = Summarising(fails=[response("", usage=usage)])
        model.price = PRICE
        talk = Talk(model)
        results = [result_of(events) for events in talk.ask(*questions(32), context=COMPACT)]
        assert max(result.usage.output_tokens for result in results) == 550
        assert thread_of(talk).cost_usd == pytest.approx(sum(result.total_cost_usd or 0 for result in results))

    def test_is_tried_again_when_the_window_is_full_again(self) -> None:
        model = Summarising(fails=[BROKEN])
        turns = Talk(model).ask(*questions(60), context=COMPACT)
        assert len([warning for events in turns for warning in warnings(events)]) == 1
        assert summaries(model.requests[-1])
        assert "[Turn 1]" in model.asked[1].messages[-1].text

    def test_that_failed_before_any_output_is_asked_for_once_more(self) -> None:
        model = Summarising(fails=[ProviderError("busy", kind=ErrorKind.OVERLOADED, retry_after=0)])
        turns = Talk(model).ask(*questions(32), context=COMPACT)
        assert (len(model.asked), summaries(model.requests[-1])) == (2, ["what was said 2"])
        assert not any(warnings(events) for events in turns)

    def test_never_takes_the_last_call_that_is_allowed(self) -> None:
        model = Summarising()
        turns = Talk(model).ask(*questions(32), context=COMPACT, fail_safe=FailSafeConfig(max_llm_calls=1))
        assert {result_of(events).state for events in turns} == {RunState.COMPLETED}
        assert model.asked == []
        assert "max_llm_calls=1 leaves no call for it" in str([warnings(events) for events in turns])

    def test_counts_for_the_limit_of_cost_and_is_kept_for_the_next_run(self) -> None:
        model = Summarising(input_tokens=1_000)
        model.price = PRICE
        talk = Talk(model)
        talk.ask(*questions(22))
        limited = FailSafeConfig(max_total_cost_usd=0.0025)
        turns = talk.ask(*questions(8, 22), context=COMPACT, fail_safe=limited)
        reasons = [result_of(events).reason for events in turns]
        at = reasons.index("max_total_cost_usd")
        assert (reasons.count("max_total_cost_usd"), len(model.asked)) == (1, 1)
        assert 0.001 < (result_of(turns[at]).total_cost_usd or 0) <= 0.0025
        assert summaries(model.requests[-1]) == ["what was said 1"]

    def test_that_is_cancelled_keeps_the_question(self) -> None:
        class Hanging(Summarising):
            async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
                if request.messages[0].text == INSTRUCTIONS:
                    self.reached.set()
                    await asyncio.Event().wait()
                async for event in super().stream(request):
                    yield event

        model = Hanging()
        talk = Talk(model)
        talk.ask(*questions(22))

        async def run() -> Any:
            model.reached = asyncio.Event()
            async with talk.runner() as runner:
                handle = await runner.run_stream(agent(context=COMPACT), user_message=WORDS * 20, thread_id="t")
                await model.reached.wait()
                return await handle.cancel()

        asyncio.run(run())
        last = load_history(talk.store, thread_of(talk)).turns[-1]
        assert (last.state, last.messages[0].text) == (RunState.CANCELLED, WORDS * 20)


def _first(turns: Sequence[Sequence[Event]]) -> int:
    """Return the index of the first turn that sends a summary."""
    return next(number for number, events in enumerate(turns) if contexts(events))


def test_results_of_tools_are_shortened_for_the_summary() -> None:
    @tool
    def look() -> str:
        """Look."""
        return "page " * 800

    model = Summarising()
    Talk(model).ask(*(f"look 1 {number}" for number in range(8)), tools=[look], context=COMPACT)
    text = model.asked[0].messages[-1].text
    assert "Assistant called look {}\nResult of look: page page" in text
    assert "[2,001 bytes left out]" in text
