"""Structured output: an answer that has to fit a schema is checked, asked for once more, and then it is an error."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import json
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from afkcli.core.contract.agent import Agent
from afkcli.core.contract.errors import ErrorKind, ProviderError, UsageError
from afkcli.core.contract.events import Completed, Event, Warned, event_to_json
from afkcli.core.contract.limits import FailSafeConfig
from afkcli.core.contract.messages import FinishReason, Message, ModelRequest
from afkcli.core.contract.result import AgentResult, RunState, exit_code
from afkcli.core.contract.structured import MAX_SCHEMA_BYTES, unfenced
from afkcli.core.contract.tools import tool
from afkcli.core.run.answer import StructuredOutput
from afkcli.core.run.request_hash import RequestHash
from afkcli.core.thread.history import load_history
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.sending import messages_to_send
from afkcli.core.thread.turns import SealedTurn
from tests.core.scripted import Scripted, agent, answer, call, calls, collect, events_of, forever, runner_of, types

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "size": {"type": "integer"}},
    "required": ["city"],
}
BERN = '{"city": "Bern", "size": 3}'


class City(BaseModel):
    city: str
    founded: datetime.date | None = None


def told(output_type: Any = CITY, **fields: Any) -> Agent:
    return agent(output_type=output_type, **fields)


def result_of(events: list[Event]) -> AgentResult:
    last = events[-1]
    assert isinstance(last, Completed)
    return last.result


def run(provider: Scripted, chosen: Agent, store: MemoryStore | None = None) -> AgentResult:
    """Run one turn of the thread `t` and return what the caller gets."""

    async def turn() -> AgentResult:
        async with runner_of(provider, store=store or MemoryStore()) as runner:
            return await runner.run(chosen, user_message="hi", thread_id="t")

    return asyncio.run(turn())


def last_turn(store: MemoryStore) -> SealedTurn:
    thread = store.find("t")
    assert thread is not None
    return load_history(store, thread).turns[-1]


def spoken(messages: tuple[Message, ...]) -> list[tuple[str, str]]:
    return [(str(message.role), message.text) for message in messages]


class TestAnAnswerThatFits:
    def test_is_the_output_and_in_the_last_event(self) -> None:
        events = events_of(Scripted(answer(BERN)), told())
        assert result_of(events).output == {"city": "Bern", "size": 3}
        assert result_of(events).state is RunState.COMPLETED
        assert json.loads(event_to_json(events[-1]))["result"]["output"] == {"city": "Bern", "size": 3}

    def test_is_an_object_of_the_type_for_the_caller_and_json_in_the_events(self) -> None:
        said = '{"city": "Bern", "founded": "1191-01-01"}'
        result = run(Scripted(answer(said)), told(City))
        assert result.output == City(city="Bern", founded=datetime.date(1191, 1, 1))
        events = events_of(Scripted(answer(said)), told(City))
        assert result_of(events).output == {"city": "Bern", "founded": "1191-01-01"}

    @pytest.mark.parametrize(
        ("output_type", "said", "output"),
        [
            (list[int], "[1, 2]", [1, 2]),
            (int | None, "null", None),
            ({"type": "boolean"}, "true", True),
            ({}, '"anything"', "anything"),
        ],
    )
    def test_may_be_of_any_type_that_has_a_schema(self, output_type: Any, said: str, output: Any) -> None:
        result = run(Scripted(answer(said)), told(output_type))
        assert (result.state, result.output) == (RunState.COMPLETED, output)

    def test_may_be_a_dataclass(self) -> None:
        @dataclasses.dataclass
        class Point:
            x: int

        assert run(Scripted(answer('{"x": 1}')), told(Point)).output == Point(x=1)

    @pytest.mark.parametrize(
        "said", [f"```json\n{BERN}\n```", f"```\n{BERN}```", f"\n ```JSON  \r\n{BERN}\r\n```\n", f"  {BERN}\n"]
    )
    def test_may_be_inside_one_code_fence(self, said: str) -> None:
        assert run(Scripted(answer(said)), told()).output == json.loads(BERN)

    @pytest.mark.parametrize("said", [f"Sure!\n```json\n{BERN}\n```", f"```json\n{BERN}\n```\n```json\n{BERN}\n```"])
    def test_is_the_whole_answer(self, said: str) -> None:
        assert run(Scripted(answer(said), answer(said)), told()).error_kind is ErrorKind.INVALID_OUTPUT

    def test_only_the_last_step_is_checked(self) -> None:
        @tool
        def look() -> str:
            """Look."""
            return "seen"

        provider = Scripted(calls(call("look"), text="let me look"), answer(BERN))
        result = run(provider, told(tools=[look]))
        assert (result.output, result.steps) == (json.loads(BERN), 2)


class TestAnAnswerThatDoesNotFit:
    def test_is_requested_once_more_with_the_reason(self) -> None:
        provider = Scripted(answer('{"city": 1}'), answer(BERN))
        events = events_of(provider, told())
        assert result_of(events).output == json.loads(BERN)
        assert (result_of(events).steps, len(provider.requests)) == (2, 2)
        warning = next(event for event in events if event.type == "warning")
        assert warning.code == "invalid_output"
        line = "the answer of fake/small does not fit the schema: city: 1 is not of type 'string'; asking once more"
        assert warning.message == line
        role, text = provider.said()[-1]
        assert role == "user"
        assert "city: 1 is not of type 'string'" in text
        assert provider.said()[-2] == ("assistant", '{"city": 1}')

    def test_twice_fails_the_run_and_both_answers_are_kept(self) -> None:
        store = MemoryStore()
        provider = Scripted(answer("no"), answer("[]"), answer("fine"))
        result = run(provider, told(), store)
        assert (result.state, result.error_kind, exit_code(result)) == (RunState.FAILED, ErrorKind.INVALID_OUTPUT, 4)
        assert result.error == "the answer of fake/small does not fit the schema: the value: [] is not of type 'object'"
        assert result.output is None
        assert result.final_text == "[]"
        assert [role for role, _ in spoken(last_turn(store).messages)] == ["user", "assistant", "user", "assistant"]
        assert messages_to_send(last_turn(store)) == last_turn(store).messages
        run(provider, agent(), store)
        assert [text for role, text in provider.said() if role == "assistant"] == ["no", "[]"]
        assert not [text for _, text in provider.said() if "cut off" in text]

    @pytest.mark.parametrize(
        ("said", "why"),
        [
            ("", "the answer is empty"),
            ("I cannot\nsay that.", "it begins with 'I cannot say that.'"),
            ('{"city": NaN}', "NaN"),
            ("[" * 100 + "]" * 100, "nested deeper"),
            ("{}", "'city' is a required property"),
        ],
    )
    def test_is_named_in_one_line(self, said: str, why: str) -> None:
        result = run(Scripted(answer(said), answer(said)), told())
        assert result.error is not None
        assert why in result.error
        assert "\n" not in result.error

    def test_names_the_fields_of_a_pydantic_model(self) -> None:
        class Even(BaseModel):
            n: int

            @field_validator("n")
            @classmethod
            def even(cls, n: int) -> int:
                if n % 2:
                    raise ValueError("n is odd")
                return n

        provider = Scripted(answer('{"n": 1}'), answer('{"n": 2}'))
        assert run(provider, told(Even)).output == Even(n=2)
        assert "n: Value error, n is odd" in provider.said()[-1][1]

    def test_names_the_error_of_a_validator_of_the_caller(self) -> None:
        class Broken(BaseModel):
            n: int

            @field_validator("n")
            @classmethod
            def broken(cls, n: int) -> int:
                raise RuntimeError("out of order")

        result = run(Scripted(answer('{"n": 1}'), answer('{"n": 1}')), told(Broken))
        assert result.error_kind is ErrorKind.INVALID_OUTPUT
        assert "RuntimeError: out of order" in str(result.error)

    def test_is_requested_only_once_more_also_after_a_tool_call(self) -> None:
        @tool
        def look() -> str:
            """Look."""
            return "seen"

        provider = Scripted(answer("no"), calls(call("look")), answer(BERN))
        store = MemoryStore()
        assert run(provider, told(tools=[look]), store).output == json.loads(BERN)
        assert [role for role, _ in spoken(last_turn(store).messages)] == [
            "user",
            "assistant",
            "user",
            "assistant",
            "tool",
            "assistant",
        ]

    @pytest.mark.parametrize(
        ("limits", "reason"), [({"max_steps": 1}, "max_steps"), ({"max_llm_calls": 1}, "max_llm_calls")]
    )
    def test_is_requested_again_within_the_limits(self, limits: dict[str, int], reason: str) -> None:
        provider = Scripted(answer("no"))
        result = run(provider, told(fail_safe=FailSafeConfig(**limits)))  # type: ignore[arg-type]
        assert (result.state, result.reason, result.output) == (RunState.DEGRADED, reason, None)
        assert len(provider.requests) == 1

    def test_is_not_requested_again_if_it_was_cut(self) -> None:
        provider = Scripted(answer('{"city": "Be', finish=FinishReason.LENGTH))
        result = run(provider, told())
        assert (result.state, result.reason, result.output) == (RunState.DEGRADED, "length", None)

    def test_then_a_provider_error_ends_the_run_with_that_error(self) -> None:
        provider = Scripted(answer("no"), [ProviderError("refused", kind=ErrorKind.AUTH)])
        assert run(provider, told()).error_kind is ErrorKind.AUTH

    def test_the_run_can_be_cancelled_while_it_is_requested_again(self) -> None:
        store, reached = MemoryStore(), asyncio.Event()
        provider = Scripted(answer("no"), forever(reached, '{"ci'), answer("fine"))

        async def turn() -> None:
            async with runner_of(provider, store=store) as runner:
                handle = await runner.run_stream(told(), user_message="hi", thread_id="t")
                reading = asyncio.ensure_future(collect(handle))
                await reached.wait()
                await handle.cancel()
                await reading

        asyncio.run(turn())
        run(provider, agent(), store)
        assert [role for role, _ in provider.said()] == ["user", "assistant", "user", "assistant", "user"]
        assert provider.said()[3][1].startswith('{"ci[This answer was cut off here')

    def test_can_be_resumed_with_the_reason(self) -> None:
        store = MemoryStore()
        provider = Scripted(answer("no"), answer("[]"), answer(BERN))
        run(provider, told(), store)

        async def resume() -> AgentResult:
            async with runner_of(provider, store=store) as runner:
                return await runner.resume(told(), thread_id="t")

        assert asyncio.run(resume()).output == json.loads(BERN)
        assert "[] is not of type 'object'" in provider.said()[-1][1]
        assert [role for role, _ in spoken(messages_to_send(last_turn(store)))] == [
            "user",
            "assistant",
            "user",
            "assistant",
            "user",
            "assistant",
        ]


class TestTheRequest:
    @pytest.mark.parametrize(("native", "in_words"), [(True, False), (None, True), (False, True)])
    def test_has_the_schema_in_words_unless_the_provider_enforces_it(self, native: bool | None, in_words: bool) -> None:
        provider = Scripted(answer(BERN), structured_output=native)
        run(provider, told(instructions="Be brief."))
        request = provider.requests[0]
        first = request.messages[0].text
        assert first.startswith("Be brief.")
        assert (json.dumps(CITY, separators=(",", ":")) in first) is in_words
        assert request.output_schema == (None if native is False else CITY)

    def test_has_instructions_even_if_the_agent_has_none(self) -> None:
        provider = Scripted(answer(BERN))
        run(provider, told())
        assert [role for role, _ in provider.said()] == ["system", "user"]

    def test_without_an_output_type_is_unchanged(self) -> None:
        provider = Scripted(answer("hello"))
        assert run(provider, agent()).output is None
        assert provider.said() == [("user", "hi")]
        assert provider.requests[0].output_schema is None

    def test_of_the_next_turn_has_no_schema(self) -> None:
        store = MemoryStore()
        provider = Scripted(answer(BERN), answer("hello"))
        run(provider, told(), store)
        assert run(provider, agent(), store).final_text == "hello"
        assert [role for role, _ in provider.said()] == ["user", "assistant", "user"]

    def test_hash_differs_only_if_there_is_a_schema(self) -> None:
        plain = ModelRequest(model="m", messages=[])
        assert RequestHash().of(plain) != RequestHash().of(dataclasses.replace(plain, output_schema=CITY))
        assert RequestHash().of(plain) == RequestHash().of(dataclasses.replace(plain, output_schema=None))

    def test_is_made_anew_for_a_fallback_model(self) -> None:
        first = Scripted([ProviderError("gone", kind=ErrorKind.NOT_FOUND)], structured_output=True)
        second = Scripted(answer(BERN), name="other")
        chosen = told(fail_safe=FailSafeConfig(fallback_models=("other/small",)))

        async def turn() -> AgentResult:
            async with runner_of(first, second) as runner:
                return await runner.run(chosen, user_message="hi")

        assert asyncio.run(turn()).output == json.loads(BERN)
        assert [role for role, _ in first.said()] == ["user"]
        assert [role for role, _ in second.said()] == ["system", "user"]


class Opaque:
    pass


class TestInvalidOutputTypes:
    @pytest.mark.parametrize(
        ("output_type", "why"),
        [
            ({"type": "text"}, "not a usable JSON Schema: type"),
            ({"$ref": "http://127.0.0.1:9/x"}, "nothing is fetched"),
            ({"pattern": 5}, "not a usable JSON Schema: pattern"),
            ({"$ref": "#"}, "cannot be applied: RecursionError"),
            ({"$dynamicRef": "#nowhere"}, "cannot be applied"),
            ({"const": float("nan")}, "not JSON"),
            ({"enum": {1}}, "not JSON"),
            ({"description": "x" * MAX_SCHEMA_BYTES}, "longer than 256 KiB"),
            (Opaque, "Opaque has no JSON Schema"),
            (Opaque(), "has no JSON Schema"),
            ("NoSuchType", "has no JSON Schema"),
            (["city"], "has no JSON Schema"),
        ],
    )
    def test_are_refused_before_the_run(self, output_type: Any, why: str) -> None:
        store, provider = MemoryStore(), Scripted()
        with pytest.raises(UsageError, match=why) as caught:
            run(provider, told(output_type), store)
        assert "\n" not in str(caught.value)
        assert not provider.requests
        assert store.find("t") is None

    def test_a_schema_is_copied(self) -> None:
        schema: dict[str, Any] = {"type": "object"}
        output = StructuredOutput(schema)
        schema["type"] = "array"
        assert output.schema == {"type": "object"}


class TestCodeFence:
    @pytest.mark.parametrize(
        ("text", "inside"),
        [
            ("```json\n{}\n```", "{}"),
            ("```\n[1,\n2]\n```", "[1,\n2]"),
            ("{}", "{}"),
            ("```{}```", "```{}```"),
            ("```json\n{}", "```json\n{}"),
            ("", ""),
        ],
    )
    def test_around_the_whole_answer_is_removed(self, text: str, inside: str) -> None:
        assert unfenced(text) == inside


def warned(schema: object, text: str) -> tuple[AgentResult, list[str]]:
    """Return the result of a turn that is answered with `text`, and its warnings of what was not checked."""
    events = events_of(Scripted(answer(text)), told(schema))
    return result_of(events), [e.message for e in events if isinstance(e, Warned) and e.code == "schema_unchecked"]


class TestUncheckedParts:
    def test_unknown_pattern_and_format_are_reported_once_and_the_answer_is_valid(self) -> None:
        schema = {"properties": {"a": {"pattern": "(?i)^x"}, "b": {"format": "date"}}}

        result, warnings = warned(schema, '{"a": "y", "b": "z"}')

        assert (result.state, result.output) == (RunState.COMPLETED, {"a": "y", "b": "z"})
        [line] = warnings
        assert "the pattern '(?i)^x' is not checked" in line
        assert "the format 'date' is not checked" in line

    def test_a_unicode_property_is_checked_without_a_warning(self) -> None:
        result, warnings = warned({"properties": {"a": {"pattern": r"^\p{L}+$"}}}, '{"a": "Zoë"}')

        assert (result.state, warnings) == (RunState.COMPLETED, [])

    def test_a_pattern_that_backtracks_does_not_block_the_run(self) -> None:
        result, warnings = warned({"properties": {"a": {"pattern": "^(a|aa)+$"}}}, json.dumps({"a": "a" * 99 + "!"}))

        assert result.state is RunState.COMPLETED
        assert "takes longer than" in warnings[0]

    def test_what_pydantic_checks_is_not_reported(self) -> None:
        result, warnings = warned(City, '{"city": "Bern", "founded": "1191-01-01"}')

        assert (result.state, warnings) == (RunState.COMPLETED, [])


def test_events_of_an_answer_that_is_requested_again() -> None:
    events = events_of(Scripted(answer("no"), answer(BERN)), told())
    assert types(events) == [
        "run_started",
        "step_started",
        "text_delta",
        "step_completed",
        "warning",
        "step_started",
        "text_delta",
        "step_completed",
        "completed",
    ]
    assert [event.seq for event in events] == list(range(len(events)))


def test_handle_result_has_the_object() -> None:
    async def turn() -> tuple[Any, Any]:
        async with runner_of(Scripted(answer('{"city": "Bern"}'))) as runner:
            handle = await runner.run_stream(told(City), user_message="hi")
            events = await collect(handle)
            return result_of(events).output, handle.result.output

    assert asyncio.run(turn()) == ({"city": "Bern"}, City(city="Bern"))
