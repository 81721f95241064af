"""A conversation that outgrows the window of its model: what is sent, what is said, and what stays the same."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from afkcli.core.contract.context import ContextConfig
from afkcli.core.contract.errors import ErrorKind, ProviderError, UsageError
from afkcli.core.contract.events import ContextEvent, Event, message_to_json
from afkcli.core.contract.jsonform import dumps
from afkcli.core.contract.messages import Message, ModelEvent, ModelRequest, Role, TextDelta, ToolResultPart
from afkcli.core.contract.protocols import Capabilities
from afkcli.core.contract.result import RunState, Usage
from afkcli.core.contract.tools import tool
from afkcli.core.run.config import Wiring
from afkcli.core.run.models import WindowLookup
from afkcli.core.run.runner import Runner
from afkcli.core.run.transcript import LEFT_OUT_NOTE
from afkcli.core.run.window import window_said
from afkcli.core.thread.attachments import Attachment
from afkcli.core.thread.history import load_history
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.trimming import MARK
from tests.core.scripted import Scripted, agent, call, collect, response, result_of, runner_of

WINDOW = 4_000
WORDS = "word " * 40  # 200 characters


class Windowed(Scripted):
    """A model with a window, whose server counts a token for each `characters` and refuses what is too long.

    It calls the tool `look` first where a question asks for it, and answers with 200 characters.
    """

    def __init__(
        self, window: int = WINDOW, *, known: bool = True, characters: float = 4, says: bool = True, **options: Any
    ) -> None:
        super().__init__(**options)
        self.window = window
        self.known = known
        self.characters = characters
        self.says = says
        self.refused: list[int] = []

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(context_tokens=self.window if self.known else None, price=self.price)

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        tokens = int(len(form_of(request.messages)) / self.characters)
        if tokens > self.window:
            self.refused.append(tokens)
            said = f"This model's maximum context length is {self.window} tokens. You requested {tokens} tokens."
            raise ProviderError(
                "too long", kind=ErrorKind.CONTEXT_LENGTH, said=said if self.says else "Please reduce the length."
            )
        self.requests.append(request)
        check_pairs(request.messages)
        last = request.messages[-1]
        calls = 0
        for message in reversed(request.messages):
            if message.role is Role.USER:
                break
            calls += message.role is Role.TOOL
        wanted = int(question_of(request.messages).partition("look ")[2].split(" ")[0] or 0)
        usage = Usage(input_tokens=tokens, output_tokens=50)
        if calls < wanted and last.role is not Role.ASSISTANT:
            yield response("", call("look", f"c{calls}"), usage=usage)
            return
        yield TextDelta(WORDS)
        yield response(WORDS, usage=usage)


def form_of(messages: Sequence[Message]) -> str:
    return "".join(dumps(message_to_json(message)) for message in messages)


def question_of(messages: Sequence[Message]) -> str:
    return next(message.text for message in reversed(messages) if message.role is Role.USER)


def check_pairs(messages: Sequence[Message]) -> None:
    """Every call is followed by its result, and every result follows its call."""
    for before, after in zip(messages, [*messages[1:], None], strict=True):
        asked = [part.id for part in before.tool_calls]
        told = [part.id for part in after.parts if isinstance(part, ToolResultPart)] if after is not None else []
        assert asked == told


@tool
def look() -> str:
    """Look."""
    return "seen " * 400  # 2,000 characters, 500 tokens


class Talk:
    """A conversation: each question with the events of its turn."""

    def __init__(self, model: Scripted, store: MemoryStore | None = None, wiring: Wiring | None = None) -> None:
        self.model = model
        self.store = store or MemoryStore()
        self.wiring = wiring
        self.others: Sequence[Scripted] = ()

    def runner(self) -> Runner:
        return runner_of(self.model, *self.others, store=self.store, wiring=self.wiring)

    def ask(self, *questions: str, attachment: bytes | None = None, **fields: Any) -> list[list[Event]]:
        async def run() -> list[list[Event]]:
            turns = []
            async with self.runner() as runner:
                for number, question in enumerate(questions):
                    files = [Attachment(data=b"%d " % number + attachment, name="note.txt")] if attachment else []
                    handle = await runner.run_stream(
                        agent(**fields), user_message=question, thread_id="t", attachments=files
                    )
                    turns.append(await collect(handle))
            return turns

        return asyncio.run(run())

    def turns(self) -> int:
        thread = self.store.find("t")
        assert thread is not None
        return len(load_history(self.store, thread).turns)


def contexts(events: Sequence[Event]) -> list[ContextEvent]:
    return [event for event in events if isinstance(event, ContextEvent)]


def shared_prefixes(requests: Sequence[ModelRequest]) -> int:
    """Return how many requests begin with all that the one before them sent."""
    forms = [[dumps(message_to_json(message)) for message in request.messages] for request in requests]
    return sum(later[: len(earlier)] == earlier for earlier, later in itertools.pairwise(forms))


class TestTrim:
    def test_300_turns_fit_into_4000_tokens_and_most_begin_as_the_one_before(self) -> None:
        model = Windowed()
        talk = Talk(model)
        turns = talk.ask(*(f"{number} {WORDS}" for number in range(300)))
        assert [result_of(events).state for events in turns] == [RunState.COMPLETED] * 300
        assert (len(model.requests), model.refused, talk.turns()) == (300, [], 300)
        for number, request in enumerate(model.requests):
            assert request.messages[-1].text.startswith(f"{number} ")
        assert shared_prefixes(model.requests) >= 270
        cuts = [event for events in turns for event in contexts(events)]
        assert all(event.window == WINDOW and event.tokens_after <= WINDOW for event in cuts)

    def test_what_is_left_out_is_said_in_each_turn_and_told_to_the_model(self) -> None:
        model = Windowed()
        turns = Talk(model).ask(*(f"{number} {WORDS}" for number in range(60)))
        first = next(number for number, events in enumerate(turns) if contexts(events))
        for number, events in enumerate(turns):
            assert len(contexts(events)) == (number >= first)
            told = [message.text for message in model.requests[number].messages if message.role is Role.SYSTEM]
            assert told == ([LEFT_OUT_NOTE] if number >= first else [])
        [said] = contexts(turns[first])
        assert said.dropped_through is not None
        assert said.message == (
            f"left out of the request: turns 1 to {said.dropped_through}: "
            "the conversation does not fit into the 4,000 tokens of fake/small"
        )

    def test_a_server_that_counts_more_than_the_estimate_is_believed(self) -> None:
        model = Windowed(characters=2.5)
        turns = Talk(model).ask(*(f"{number} {WORDS}" for number in range(100)))
        assert {result_of(events).state for events in turns} == {RunState.COMPLETED}
        assert model.refused == []
        assert shared_prefixes(model.requests) >= 70

    def test_old_results_of_tools_are_left_out_before_turns_are(self) -> None:
        model = Windowed()
        turns = Talk(model).ask(*(f"look 1 {number}" for number in range(40)), tools=[look])
        assert {result_of(events).state for events in turns} == {RunState.COMPLETED}
        first = next(contexts(events)[0] for events in turns if contexts(events))
        assert (first.dropped_through, first.marked_through is not None) == (None, True)
        last = model.requests[-1].messages
        results = [part for message in last for part in message.parts if isinstance(part, ToolResultPart)]
        texts = ["".join(part.text for part in result.parts) for result in results]  # type: ignore[union-attr]
        assert texts[0] == MARK
        assert texts[-1] == look.function()  # type: ignore[attr-defined]
        assert shared_prefixes(model.requests) >= 50

    def test_a_turn_of_many_calls_keeps_its_question_and_its_last_results(self) -> None:
        model = Windowed()
        [events] = Talk(model).ask("look 20 times", tools=[look])
        assert result_of(events).state is RunState.COMPLETED
        assert (len(model.requests), model.refused) == (21, [])
        for request in model.requests:
            assert [message.text for message in request.messages if message.role is Role.USER] == ["look 20 times"]
        assert contexts(events)[-1].own_results > 0
        assert "older tool results of this turn" in contexts(events)[-1].message
        assert shared_prefixes(model.requests) >= 14

    def test_attachments_of_turns_that_are_left_out_are_not_loaded(self) -> None:
        model = Windowed()
        talk = Talk(model)
        talk.ask(*(f"{number}" for number in range(40)), attachment=b"text " * 100)
        last = model.requests[-1].messages
        assert "39 text" in form_of(last)
        assert "0 text text" not in form_of(last[:2])
        loaded: list[str] = []
        read = talk.store.content
        talk.store.content = lambda key, sha256: (loaded.append(sha256), read(key, sha256))[1]  # type: ignore[method-assign]
        talk.ask("more")
        assert 0 < len(loaded) < 25

    def test_an_undone_turn_takes_no_room(self) -> None:
        model = Windowed()
        talk = Talk(model)
        talk.ask(*(f"{number} {WORDS}" for number in range(10)))
        assert len(model.requests[-1].messages) == 19


class TestAQuestionThatIsTooLong:
    def test_is_refused_before_it_is_sent_and_its_size_is_named(self) -> None:
        model = Windowed()
        [events] = Talk(model).ask("x" * 20_000)
        result = result_of(events)
        assert (result.state, result.error_kind, model.requests, model.refused) == (
            RunState.FAILED,
            ErrorKind.CONTEXT_LENGTH,
            [],
            [],
        )
        assert result.error is not None
        assert result.error.startswith("the message has about 5,0")
        assert "fake/small takes 3,000 before its answer; shorten it" in result.error

    def test_its_own_size_is_named_and_not_that_of_the_conversation(self) -> None:
        model = Windowed()
        turns = Talk(model).ask(*(f"{number} {WORDS}" for number in range(15)), "x" * 16_000)
        assert "the message has about 4," in (result_of(turns[-1]).error or "")

    def test_leaves_the_thread_usable(self) -> None:
        model = Windowed()
        talk = Talk(model)
        talk.ask("first", "x" * 20_000, "second")
        assert [message.text for message in model.requests[-1].messages if message.role is Role.USER] == [
            "first",
            "second",
        ]


class TestTheWindow:
    def test_is_learnt_from_a_refusal_and_remembered(self) -> None:
        model = Windowed(known=False)
        talk = Talk(model)
        turns = talk.ask(*(f"{number} {WORDS}" for number in range(60)))
        assert {result_of(events).state for events in turns} == {RunState.COMPLETED}
        assert len(model.refused) == 1
        [refused] = [events for events in turns if any(event.type == "warning" for event in events)]
        codes = [event.code for event in refused if event.type == "warning"]
        assert codes == ["context_refused"]
        assert len(contexts(refused)) == 1
        assert shared_prefixes(model.requests) >= 45

    def test_is_taken_to_be_smaller_where_the_server_does_not_name_it(self) -> None:
        model = Windowed(known=False, says=False)
        turns = Talk(model).ask(*(f"{number} {WORDS}" for number in range(60)))
        assert {result_of(events).state for events in turns} == {RunState.COMPLETED}
        assert len(model.refused) < 4

    def test_that_is_guessed_is_forgotten_after_the_run(self) -> None:
        model = Windowed(known=False, says=False, window=3_000)
        talk = Talk(model)
        talk.ask(*(f"{number} {WORDS}" for number in range(40)))
        assert model.refused
        model.window = 100_000
        [events] = talk.ask("x" * 30_000)
        assert result_of(events).state is RunState.COMPLETED

    def test_a_server_that_refuses_everything_is_asked_twice(self) -> None:
        model = Windowed(known=False, window=10)
        [events] = Talk(model).ask(WORDS)
        assert result_of(events).error_kind is ErrorKind.CONTEXT_LENGTH
        assert len(model.refused) <= 2

    def test_of_the_config_counts_before_that_of_the_provider(self) -> None:
        model = Windowed(window=8_000)
        wiring = Wiring(look_up_window=WindowLookup({"fake/small": 2_000}))
        turns = Talk(model, wiring=wiring).ask(*(f"{number} {WORDS}" for number in range(30)))
        assert max(len(form_of(request.messages)) for request in model.requests) < 8_000
        assert contexts(turns[-1])[0].window == 2_000

    def test_of_a_list_is_looked_up_for_long_conversations_only(self) -> None:
        asked: list[str] = []

        def listed(full_name: str, capabilities: Capabilities) -> int:
            asked.append(full_name)
            return 8_000

        model = Windowed(window=8_000, known=False)
        talk = Talk(model, wiring=Wiring(look_up_window=WindowLookup({}, listed)))
        talk.ask(*(f"{number} {WORDS}" for number in range(10)))
        assert asked == []
        turns = talk.ask(*(f"{number} {WORDS}" for number in range(100)))
        assert asked
        assert model.refused == []
        assert contexts(turns[-1])[0].window == 8_000

    @pytest.mark.parametrize(
        ("said", "window"),
        [
            ("This model's maximum context length is 4096 tokens. However, you requested 5360 tokens (1360 in", 4096),
            ("prompt is too long: 210123 tokens > 200000 maximum", 200_000),
            ("the request exceeds the available context size (8192 tokens), try increasing it", 8192),
            ("The input token count (1300000) exceeds the maximum number of tokens allowed (1048576).", 1_048_576),
            ("input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease", 200_000),
            ("context length exceeded: 12000 tokens, limit 8192", 8192),
            ("Please reduce the length of the messages.", None),
            ("context length 3", None),
            ("", None),
        ],
    )
    def test_is_read_from_the_words_of_servers(self, said: str, window: int | None) -> None:
        assert window_said(said) == window


class TestRefuse:
    def test_ends_the_run_before_anything_is_sent(self) -> None:
        model = Windowed()
        refusing = ContextConfig(policy="refuse")
        turns = Talk(model).ask(*(f"{number} {WORDS}" for number in range(60)), context=refusing)
        states = [result_of(events).state for events in turns]
        assert RunState.FAILED in states
        failed = result_of(turns[states.index(RunState.FAILED)])
        assert failed.error_kind is ErrorKind.CONTEXT_LENGTH
        assert "the conversation has about" in (failed.error or "")
        assert model.refused == []
        assert not any(contexts(events) for events in turns)

    @pytest.mark.parametrize("fields", [{"policy": "cut"}, {"keep": 0.05}, {"keep": 1}])
    def test_a_policy_that_is_not_known_is_refused(self, fields: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            ContextConfig(**fields)
