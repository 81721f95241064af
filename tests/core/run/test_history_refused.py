"""An API that refuses an earlier turn of the thread: the turn is set aside once, and the new message is not blamed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from afkcli.core.contract.errors import ErrorKind, ProviderError
from afkcli.core.contract.events import Event
from afkcli.core.contract.limits import FailSafeConfig
from afkcli.core.contract.messages import Message, ModelEvent, ModelRequest, Role, TextDelta, text_message
from afkcli.core.contract.result import RunState
from afkcli.core.thread.history import load_history
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.sending import messages_to_send
from afkcli.core.thread.turns import SealedTurn
from tests.core.scripted import Scripted, add, agent, answer, call, calls, collect, response, result_of, runner_of


class Strict(Scripted):
    """A provider that refuses the first message with a word that it does not take, by its index.

    Its scripts are played to the requests that it takes.
    """

    def __init__(self, *scripts: Any, refuses: str = "poison", names_it: bool = True, **options: Any) -> None:
        super().__init__(*scripts, **options)
        self.refuses = refuses
        self.names_it = names_it

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        said = [message for message in request.messages if message.role is not Role.SYSTEM]
        for index, message in enumerate(said):
            if self.refuses and self.refuses in message.text:
                self.requests.append(request)
                named = index if self.names_it else None
                line = f"refused (400): {self.refuses} is bad; change the request"
                raise ProviderError(
                    line, kind=ErrorKind.BAD_REQUEST, said=f"{self.refuses} is bad", message_index=named
                )
        async for event in super().stream(request):
            yield event


def talk(store: MemoryStore, model: Scripted, *questions: str, **fields: Any) -> list[Event]:
    """Ask each question in one thread, and return the events of the last turn."""
    others = fields.pop("others", ())

    async def run() -> list[Event]:
        events: list[Event] = []
        async with runner_of(model, *others, store=store) as runner:
            for question in questions:
                handle = await runner.run_stream(agent(**fields), user_message=question, thread_id="t")
                events = await collect(handle)
        return events

    return asyncio.run(run())


def turns_of(store: MemoryStore) -> tuple[SealedTurn, ...]:
    thread = store.find("t")
    assert thread is not None
    return load_history(store, thread).turns


def warnings(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.code, event.message) for event in events if event.type == "warning"]


def poisoned(*more: Any, first: str = "poison") -> tuple[MemoryStore, Strict]:
    """Return a store whose thread has one turn with a word that its model refuses from now on."""
    store = MemoryStore()
    talk(store, Scripted(answer(first)), "one")
    return store, Strict(*more)


class TestAnEarlierTurnThatIsRefused:
    def test_is_set_aside_with_a_warning_and_the_request_is_made_once_more(self) -> None:
        store, model = poisoned(answer("two"))
        before = turns_of(store)

        events = talk(store, model, "second", instructions="Be brief.")

        assert [event.text_delta for event in events if event.type == "text_delta"] == ["two"]
        assert result_of(events).state is RunState.COMPLETED
        code, line = warnings(events)[0]
        assert [code] == [code for code, _ in warnings(events)] == ["turn_left_out"]
        assert "turn 1 of this thread" in line
        assert "poison is bad" in line
        assert "change the request" not in line
        assert [said for role, said in model.said(0) if role != "system"] == ["one", "poison", "second"]
        assert [said for role, said in model.said(1) if role != "system"] == ["second"]
        assert turns_of(store)[:1] == before
        assert turns_of(store)[1].state is RunState.COMPLETED
        assert [message.text for message in messages_to_send(turns_of(store)[1])] == ["second", "two"]

    def test_is_found_again_by_the_next_turn(self) -> None:
        store, model = poisoned(answer("two"), answer("three"))

        talk(store, model, "second", "third")

        assert [text for _, text in model.said(2)] == ["one", "poison", "second", "two", "third"]
        assert [text for _, text in model.said(3)] == ["second", "two", "third"]

    def test_is_left_out_of_later_steps_of_the_run_without_another_refusal(self) -> None:
        store, model = poisoned(calls(call("add", a=1, b=2)), answer("3"))

        events = talk(store, model, "second", tools=[add])

        assert result_of(events).state is RunState.COMPLETED
        assert [len(request.messages) for request in model.requests] == [4, 2, 4]
        assert [code for code, _ in warnings(events)] == ["turn_left_out"]

    def test_goes_as_a_whole_with_its_tool_calls_and_their_results(self) -> None:
        store = MemoryStore()
        first = Scripted(
            calls(call("add", a=1, b=2), call("add", id_="c2", a=3, b=4)), answer("poison"), answer("fine")
        )
        talk(store, first, "one", "other", tools=[add])
        model = Strict(answer("three"))

        events = talk(store, model, "third", tools=[add])

        assert result_of(events).state is RunState.COMPLETED
        roles = [message.role for message in model.requests[1].messages if message.role is not Role.SYSTEM]
        assert roles == [Role.USER, Role.ASSISTANT, Role.USER]
        assert [text for role, text in model.said(1) if role != "system"] == ["other", "fine", "third"]

    def test_costs_one_call_of_the_limit(self) -> None:
        store, model = poisoned(answer("two"))

        events = talk(store, model, "second", fail_safe=FailSafeConfig(max_llm_calls=2))

        assert result_of(events).state is RunState.COMPLETED
        assert len(model.requests) == 2

    def test_is_not_set_aside_if_no_other_call_may_be_made_and_the_question_is_kept(self) -> None:
        store, model = poisoned(answer("two"))

        events = talk(store, model, "second", fail_safe=FailSafeConfig(max_llm_calls=1))

        assert (result_of(events).state, result_of(events).reason) == (RunState.DEGRADED, "max_llm_calls")
        assert [code for code, _ in warnings(events)] == ["not_retried"]
        assert "turn 1 of this thread" in warnings(events)[0][1]
        assert len(model.requests) == 1
        assert messages_to_send(turns_of(store)[1])[0].text == "second"

    def test_is_sent_to_a_fallback_model(self) -> None:
        store, model = poisoned()
        model.refuses = "o"  # it refuses the first question, then the second one's history as well
        other = Scripted(answer("two"), name="other")

        events = talk(store, model, "second", others=[other], fail_safe=FailSafeConfig(fallback_models=["other/small"]))

        assert result_of(events).state is RunState.COMPLETED
        assert [text for _, text in other.said(0)] == ["one", "poison", "second"]


class TestARefusalThatStays:
    def test_of_two_bad_turns_the_error_names_the_second_and_the_question_is_kept(self) -> None:
        store = MemoryStore()
        talk(store, Scripted(answer("poison 1"), answer("poison 2")), "one", "other")
        model = Strict()

        events = talk(store, model, "third")

        result = result_of(events)
        assert (result.state, result.reason, result.error_kind) == (RunState.FAILED, "history", ErrorKind.BAD_REQUEST)
        assert len(model.requests) == 2
        error = str(result.error)
        assert "turn 2 of this thread (turn 1 was left out already), not the new message: poison is bad" in error
        assert error.endswith("use another model, or start a new thread")
        last = turns_of(store)[2]
        assert [message.text for message in messages_to_send(last)] == ["third"]

        model = Strict(answer("at last"), refuses="")
        events = talk(store, model, "fourth")
        assert result_of(events).state is RunState.COMPLETED
        assert warnings(events) == []
        assert [text for _, text in model.said(0)][-2:] == ["third", "fourth"]

    @pytest.mark.parametrize("names_it", [True, False])
    def test_of_a_server_that_refuses_every_request_ends_after_two(self, names_it: bool) -> None:
        store, _ = poisoned()

        class Always(Strict):
            async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
                self.requests.append(request)
                named = 0 if names_it or len(self.requests) == 1 else None
                raise ProviderError("no", kind=ErrorKind.BAD_REQUEST, message_index=named)
                yield TextDelta("")

        talk(store, Scripted(answer("fine")), "two")
        model = Always()
        events = talk(store, model, "third")

        assert len(model.requests) == 2
        assert result_of(events).reason == "history"
        assert "turn 1 was left out already" in str(result_of(events).error)

    def test_without_a_name_is_the_new_message_s(self) -> None:
        store, model = poisoned()
        model.names_it = False

        events = talk(store, model, "second")

        assert (result_of(events).reason, len(model.requests)) == ("bad_request", 1)
        assert messages_to_send(turns_of(store)[1]) == ()

    def test_of_the_new_message_leaves_the_history_alone(self) -> None:
        store = MemoryStore()
        talk(store, Scripted(answer("fine")), "one")
        model = Strict()

        events = talk(store, model, "poison", instructions="Be brief.")

        assert (result_of(events).reason, len(model.requests)) == ("bad_request", 1)
        assert str(result_of(events).error) == "refused (400): poison is bad; change the request"
        assert messages_to_send(turns_of(store)[1]) == ()

    def test_of_a_later_step_of_this_turn_leaves_the_history_alone(self) -> None:
        store = MemoryStore()
        talk(store, Scripted(answer("fine")), "one")
        model = Strict([response("poison", call("add", a=1, b=2))])

        events = talk(store, model, "second", tools=[add])

        assert (result_of(events).reason, len(model.requests)) == ("bad_request", 2)

    def test_is_not_retried_once_something_was_shown(self) -> None:
        store, _ = poisoned()

        async def breaks(request: ModelRequest) -> AsyncIterator[ModelEvent]:
            yield TextDelta("par")
            raise ProviderError("no", kind=ErrorKind.BAD_REQUEST, message_index=0)

        model = Scripted(breaks)
        events = talk(store, model, "second")

        assert (result_of(events).reason, len(model.requests)) == ("truncated", 1)


def test_a_question_whose_history_was_refused_can_be_resumed() -> None:
    store = MemoryStore()
    talk(store, Scripted(answer("poison 1"), answer("poison 2")), "one", "other")
    talk(store, Strict(), "third")

    async def resume() -> Message:
        model = Scripted(answer("at last"))
        async with runner_of(model, store=store) as runner:
            handle = await runner.resume_stream(agent(), thread_id="t")
            assert result_of(await collect(handle)).state is RunState.COMPLETED
        return model.requests[0].messages[-1]

    assert asyncio.run(resume()) == text_message(Role.USER, "third")
