"""The context policy `native`: the server shortens long conversations by itself, over HTTP and with the SDKs' types."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import afk_provider_anthropic
import afk_provider_openai
import pytest
from openai.types.responses.response_compact_params import ResponseCompactParams

from afkcli.core.contract.agent import Agent
from afkcli.core.contract.context import ContextConfig
from afkcli.core.contract.events import ContextEvent, Event
from afkcli.core.contract.protocols import Price
from afkcli.core.contract.result import RunState
from afkcli.core.contract.tools import tool
from afkcli.core.run.config import Wiring
from afkcli.core.run.models import WindowLookup
from afkcli.core.run.runner import Runner
from afkcli.core.thread.attachments import Attachment
from afkcli.core.thread.history import load_history
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.testing.model_server import Fault, ModelServer, ScriptedCall, ScriptedUsage, Step
from tests.core.scripted import collect, result_of
from tests.e2e.compacting_server import (
    TOOL_RESULT,
    WINDOW,
    WORDS,
    CompactingServer,
    compactions_in,
    questions_in,
    threshold_of,
)
from tests.e2e.eye_tool import TOOL
from tests.e2e.shell import Shell, kill, wait_for_output

MODELS = {"openai": "openai/gpt-5.2-mini", "anthropic": "anthropic/claude-sonnet-5-5"}
NATIVE = ContextConfig(policy="native")


@tool
def look() -> str:
    """Look."""
    return TOOL_RESULT


def provider_of(name: str, server: ModelServer, **settings: Any) -> Any:
    if name == "openai":
        return afk_provider_openai.afk_provider(
            afk_provider_openai.Settings(base_url=server.base_url, api="responses", **settings)
        )
    return afk_provider_anthropic.afk_provider(afk_provider_anthropic.Settings(base_url=server.base_url, **settings))


class Talk:
    """A conversation with the models of one server or several, in one store."""

    def __init__(self, server: ModelServer, window: int = WINDOW) -> None:
        self.server = server
        self.store = MemoryStore()
        self.wiring = Wiring(look_up_window=WindowLookup(dict.fromkeys(MODELS.values(), window)))

    def ask(
        self, name: str, *questions: str, attachments: Sequence[Attachment] = (), **fields: Any
    ) -> list[list[Event]]:
        async def run() -> list[list[Event]]:
            providers = {name: provider_of(name, self.server)}
            turns = []
            async with Runner(providers=providers, store=self.store, wiring=self.wiring) as runner:
                for question in questions:
                    said = {"name": "a", "model": MODELS[name], "context": NATIVE, **fields}
                    handle = await runner.run_stream(
                        Agent(**said), user_message=question, thread_id="t", attachments=attachments
                    )
                    turns.append(await collect(handle))
            return turns

        return asyncio.run(run())

    def turns(self) -> int:
        thread = self.store.find("t")
        assert thread is not None
        return len(load_history(self.store, thread).turns)


def asked(first: int, count: int) -> list[str]:
    return [f"q{number} {WORDS}" for number in range(first, first + count)]


def sent_of(body: dict[str, Any]) -> Sequence[dict[str, Any]]:
    found: Sequence[dict[str, Any]] = body["input"] if "input" in body else body["messages"]
    return found


def warnings(events: Sequence[Event]) -> list[str]:
    return [event.code for event in events if event.type == "warning"]


def contexts(events: Sequence[Event]) -> list[ContextEvent]:
    return [event for event in events if isinstance(event, ContextEvent)]


def unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: unmarked(item) for name, item in value.items() if name != "cache_control"}
    return [unmarked(item) for item in value] if isinstance(value, list) else value


def shared_prefixes(bodies: Sequence[dict[str, Any]]) -> int:
    """Return how many requests begin with all that the one before them sent, cache marks aside."""
    forms = [[json.dumps(item) for item in unmarked(sent_of(body))] for body in bodies]
    return sum(later[: len(earlier)] == earlier for earlier, later in itertools.pairwise(forms))


@pytest.fixture
def server() -> Iterator[CompactingServer]:
    with CompactingServer() as running:
        yield running


@pytest.mark.parametrize("name", MODELS)
class TestBothApis:
    def test_300_turns_go_on_with_the_compactions_of_the_server(self, name: str, server: CompactingServer) -> None:
        talk = Talk(server)
        turns = talk.ask(name, *asked(0, 300))
        assert [result_of(events).state for events in turns] == [RunState.COMPLETED] * 300
        assert (len(server.bodies), server.refused, talk.turns()) == (300, [], 300)
        assert len(server.compacted) > 15
        for number, body in enumerate(server.bodies):
            assert questions_in(sent_of(body)) == list(range(number + 1))
            assert threshold_of(body) == 2400
        assert shared_prefixes(server.bodies) >= 270
        assert {code for events in turns for code in warnings(events)} == set()

    def test_what_the_server_did_is_an_event_in_its_turn_and_said_in_those_after(
        self, name: str, server: CompactingServer
    ) -> None:
        turns = Talk(server).ask(name, *asked(0, 40))
        first = server.compacted[0]
        for number, events in enumerate(turns, start=1):
            said = contexts(events)
            assert len(said) == (number in server.compacted) + (number > first)
            assert all(event.dropped_through is None for event in said)
        [made] = contexts(turns[first - 1])
        assert made.by_server
        assert made.compacted_through == first - 1
        assert made.message.startswith("the server made a compaction, which is sent from now on")
        assert made.tokens_after < made.tokens_before
        [after] = contexts(turns[first])
        assert (after.by_server, after.compacted_through) == (False, first - 1)

    def test_with_tools_no_pair_is_split(self, name: str, server: CompactingServer) -> None:
        turns = Talk(server).ask(name, *asked(0, 60), tools=[look])
        assert {result_of(events).state for events in turns} == {RunState.COMPLETED}
        assert len(server.bodies) == 120
        assert server.compacted
        for place, body in enumerate(server.bodies):
            assert questions_in(sent_of(body)) == list(range(place // 2 + 1))

    def test_a_server_that_does_not_do_it_gets_a_trimmed_conversation(self, name: str) -> None:
        with CompactingServer(compacts=False) as server:
            turns = Talk(server).ask(name, *asked(0, 60))
            assert {result_of(events).state for events in turns} == {RunState.COMPLETED}
            assert server.refused == []
            assert contexts(turns[-1])[0].dropped_through is not None

    @pytest.mark.parametrize(
        "said",
        [
            "context_management: Extra inputs are not permitted",
            "Unknown parameter: 'context_management'.",
            "Unexpected value(s) `compact-2026-01-12` for the `anthropic-beta` header.",
            "context_management.edits.0.compact_20260112: trigger.value must be at least 50000",
            "this model does not support compaction",
            "Bad Request",
            "",
        ],
    )
    def test_a_server_that_refuses_is_asked_once_more_without_it(self, name: str, said: str) -> None:
        refusal = Step(status=400, body={"error": {"message": said, "type": "invalid_request_error"}})
        with ModelServer([refusal, Step(text="first"), Step(text="second")]) as server:
            turns = Talk(server).ask(name, "one", "two")
            assert [result_of(events).final_text for events in turns] == ["first", "second"]
            assert [warnings(events) for events in turns] == [["native_refused"], []]
            assert ["context_management" in body for body in server.bodies] == [True, False, False]
            assert sent_of(server.bodies[0]) == sent_of(server.bodies[1])

    @pytest.mark.parametrize(
        "refusal",
        [
            Step(status=422, body={"detail": [{"loc": ["body", "context_management"], "msg": "extra_forbidden"}]}),
            Step(status=400, body="context_management is not supported"),
            Step(
                fault=Fault.ERROR_EVENT,
                body={
                    "type": "invalid_request_error",
                    "code": "invalid_request_error",
                    "message": "Unknown parameter: 'context_management'.",
                },
            ),
            Step(
                fault=Fault.ERROR_EVENT,
                body={"type": "unknown_parameter", "code": "unknown_parameter", "message": "context_management"},
            ),
        ],
        ids=["details", "text", "event", "unknown parameter"],
    )
    def test_a_refusal_of_another_form_is_one_too(self, name: str, refusal: Step) -> None:
        with ModelServer([refusal, Step(text="first")]) as server:
            [events] = Talk(server).ask(name, "one")
            assert result_of(events).final_text == "first"
            assert warnings(events) == ["native_refused"]
            assert ["context_management" in body for body in server.bodies] == [True, False]

    def test_attachments_of_turns_that_a_compaction_stands_for_are_not_sent(
        self, name: str, server: CompactingServer
    ) -> None:
        talk = Talk(server)
        note = Attachment(data=b"text " * 60, name="note.txt")
        turns = talk.ask(name, *asked(0, 30), attachments=[note])
        assert {result_of(events).state for events in turns} == {RunState.COMPLETED}
        assert server.compacted
        talk.ask(name, *asked(30, 1))
        assert questions_in(sent_of(server.bodies[-1])) == list(range(31))
        assert 0 < json.dumps(sent_of(server.bodies[-1])).count("note.txt") < 20

    def test_another_refusal_stays_one(self, name: str) -> None:
        refusal = Step(status=400, body={"error": {"message": "temperature: must be at most 1"}})
        with ModelServer([refusal]) as server:
            [events] = Talk(server).ask(name, "one")
            assert result_of(events).state is RunState.FAILED
            assert len(server.bodies) == 1

    def test_another_model_gets_the_turns_themselves_and_the_first_one_its_compaction_again(
        self, name: str, server: CompactingServer
    ) -> None:
        talk = Talk(server)
        talk.ask(name, *asked(0, 22))
        assert server.compacted
        other = next(item for item in MODELS if item != name)
        talk.ask(other, *asked(22, 1))
        body = server.bodies[-1]
        assert compactions_in(body) == []
        assert 22 in questions_in(sent_of(body))
        assert len(questions_in(sent_of(body))) > 5
        talk.ask(name, *asked(23, 1))
        assert compactions_in(server.bodies[-1])
        assert questions_in(sent_of(server.bodies[-1])) == list(range(24))

    def test_another_provider_gets_a_summary_of_a_long_conversation_with_tools_and_attachments(
        self, name: str, server: CompactingServer
    ) -> None:
        talk = Talk(server)
        note = Attachment(data=b"text " * 60, name="note.txt")
        talk.ask(name, *asked(0, 30), tools=[look], attachments=[note])
        assert server.compacted
        calls = len(server.bodies)
        other = next(item for item in MODELS if item != name)
        [events, after] = talk.ask(other, *asked(30, 2), tools=[look])
        assert [result_of(found).state for found in (events, after)] == [RunState.COMPLETED] * 2
        summaries = [body for body in server.bodies[calls:] if "[Turn " in json.dumps(body)]
        assert 1 < len(summaries) < len(server.bodies) - calls
        assert "text text" not in json.dumps(summaries)  # attachments by their names
        assert "note.txt" in json.dumps(summaries)
        [said] = contexts(events)
        assert (said.dropped_through, said.compaction_model) == (None, MODELS[other])
        assert said.compacted_through is not None
        for number, body in enumerate(server.bodies[calls + len(summaries) :]):
            assert compactions_in(body) == []
            assert questions_in(sent_of(body)) == list(range(said.compacted_through, 31 + number // 2))
        assert server.refused == []
        assert contexts(after) == []

    def test_another_server_of_the_same_name_gets_the_turns_themselves(
        self, name: str, server: CompactingServer
    ) -> None:
        talk = Talk(server)
        talk.ask(name, *asked(0, 22))
        assert server.compacted
        with CompactingServer(window=100_000) as other:
            talk.server = other
            talk.wiring = Wiring(look_up_window=WindowLookup(dict.fromkeys(MODELS.values(), 100_000)))
            talk.ask(name, *asked(22, 1))
            assert compactions_in(other.bodies[0]) == []
            assert questions_in(sent_of(other.bodies[0])) == list(range(23))

    def test_a_turn_that_is_set_aside_takes_its_compaction_along(self, name: str, server: CompactingServer) -> None:
        talk = Talk(server)
        talk.ask(name, *asked(0, 22))
        last = server.compacted[0]
        assert server.compacted == [last]

        async def undo() -> None:
            providers = {name: provider_of(name, server)}
            async with Runner(providers=providers, store=talk.store, wiring=talk.wiring) as runner:
                await runner.threads.undo("t", 22 - last + 1)

        asyncio.run(undo())
        talk.ask(name, *asked(50, 1))
        assert compactions_in(server.bodies[-1]) == []
        assert questions_in(sent_of(server.bodies[-1])) == [*range(last - 1), 50]

    def test_the_policy_may_change_and_the_compaction_is_still_used(self, name: str, server: CompactingServer) -> None:
        talk = Talk(server)
        talk.ask(name, *asked(0, 22))
        assert server.compacted
        talk.ask(name, *asked(22, 1), context=ContextConfig())
        body = server.bodies[-1]
        assert "context_management" not in body
        assert questions_in(sent_of(body)) == list(range(23))


def test_the_compaction_of_anthropic_is_paid_for() -> None:
    used = {"usage": ScriptedUsage(input_tokens=100, output_tokens=10)}
    made = Step(
        text="b", compaction="[]", compaction_usage=ScriptedUsage(input_tokens=3_000, output_tokens=200), **used
    )
    with ModelServer([made]) as server:
        talk = Talk(server)
        prices = lambda name, capabilities: Price(input=1.0, output=10.0)  # noqa: E731
        talk.wiring = Wiring(look_up_price=prices, look_up_window=WindowLookup({MODELS["anthropic"]: WINDOW}))
        [events] = talk.ask("anthropic", "one")
        result = result_of(events)
        assert (result.usage.input_tokens, result.usage.output_tokens) == (3_100, 210)
        assert result.total_cost_usd == pytest.approx((3_100 * 1 + 210 * 10) / 1_000_000)
        thread = talk.store.find("t")
        assert thread is not None
        [turn] = load_history(talk.store, thread).turns
        assert turn.context is not None
        assert turn.context.tokens == 110


def test_a_compaction_that_failed_changes_nothing() -> None:
    failed = [
        {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 5, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "compaction", "content": None}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "compaction_delta", "content": None}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "a"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in failed)
    stream = Step(body=body, headers={"Content-Type": "text/event-stream"})
    with ModelServer([stream, Step(text="b")]) as server:
        turns = Talk(server).ask("anthropic", "q0 ", "q1 ")
        assert result_of(turns[0]).final_text == "a"
        assert contexts(turns[0]) == []
        assert questions_in(sent_of(server.bodies[-1])) == [0, 1]


def test_results_of_tools_that_the_server_cleared_are_an_event_and_a_line() -> None:
    cleared = Step(text="b", cleared_tool_uses=7, cleared_tokens=1_234)
    with ModelServer([cleared]) as server:
        [events] = Talk(server).ask("anthropic", "one", tools=[look], model="anthropic/claude-sonnet-4-5")
        [said] = contexts(events)
        assert said.by_server
        assert said.message == "the server left out 7 tool results (1,234 tokens)"
        assert said.tokens_before - said.tokens_after == 1_234
        [request] = server.requests
        assert [edit["type"] for edit in request.body["context_management"]["edits"]] == ["clear_tool_uses_20250919"]
        assert request.headers["anthropic-beta"] == "context-management-2025-06-27"


def test_beta_versions_of_the_settings_are_sent_too(server: CompactingServer) -> None:
    headers = {"Anthropic-Beta": "mine-2026-01-01"}
    provider = provider_of("anthropic", server, headers=headers)

    async def run() -> None:
        wiring = Wiring(look_up_window=WindowLookup({MODELS["anthropic"]: WINDOW}))
        async with Runner(providers={"anthropic": provider}, store=MemoryStore(), wiring=wiring) as runner:
            await runner.run(Agent(name="a", model=MODELS["anthropic"], context=NATIVE), user_message="hi")

    asyncio.run(run())
    assert server.requests[0].headers["anthropic-beta"] == "mine-2026-01-01,compact-2026-01-12"


class TestOnTheCommandLine:
    @pytest.fixture
    def keyed(self, shell: Shell, server: CompactingServer) -> Shell:
        """A shell whose models of both APIs are those of the server, with its window and the policy in the config."""
        config = shell.home / "afk" / "config" / "config.toml"
        config.parent.mkdir(parents=True)
        windows = "".join(f'"{model}" = {WINDOW}\n' for model in MODELS.values())
        config.write_text(f'[context]\npolicy = "native"\n[providers.openai]\napi = "responses"\n[windows]\n{windows}')
        url = server.base_url
        shell.env.update(OPENAI_BASE_URL=url, OPENAI_API_KEY="sk-1", ANTHROPIC_BASE_URL=url, ANTHROPIC_API_KEY="sk-2")
        return shell

    def talk(self, shell: Shell, name: str, numbers: Sequence[int]) -> str:
        """Ask, and return the last line on stderr."""
        for number in numbers:
            done = shell.in_process("run", "-m", MODELS[name], "-t", "t", f"q{number} {WORDS}")
            assert done.code == 0, done.err
        return done.err

    @pytest.mark.parametrize("name", MODELS)
    def test_a_thread_that_is_exported_and_imported_goes_on_with_its_compaction(
        self, name: str, keyed: Shell, server: CompactingServer
    ) -> None:
        self.talk(keyed, name, range(21))
        assert server.compacted
        exported = keyed.in_process("threads", "export", "t").out
        assert keyed.in_process("threads", "rm", "t", "--yes").code == 0
        assert keyed.in_process("threads", "import", "-", stdin=exported.encode()).code == 0
        assert keyed.in_process("threads", "export", "t").out == exported
        said = self.talk(keyed, name, [21])
        assert compactions_in(server.bodies[-1])
        assert questions_in(sent_of(server.bodies[-1])) == list(range(22))
        assert f"{MODELS[name]} gets a compaction that its server made, in place of what came before it" in said
        copied = keyed.in_process("threads", "fork", "t", "copy")
        assert copied.code == 0, copied.err
        keyed.in_process("run", "-m", MODELS[name], "-t", "copy", f"q22 {WORDS}")
        assert compactions_in(server.bodies[-1])
        assert questions_in(sent_of(server.bodies[-1])) == list(range(23))

    @pytest.mark.parametrize("name", MODELS)
    def test_a_run_that_is_killed_before_the_end_of_its_answer_has_no_compaction(
        self, name: str, keyed: Shell, server: CompactingServer
    ) -> None:
        self.talk(keyed, name, range(3))
        server.next_steps = [Step(compaction="[]", text=["half ", "x"], fault=Fault.HANG, fault_after=1)]
        process = keyed.start("run", "-m", MODELS[name], "-t", "t", "q3 more")
        wait_for_output(process, b"half ")
        kill(process)
        self.talk(keyed, name, [4])
        assert questions_in(sent_of(server.bodies[-1])) == list(range(5))
        assert compactions_in(server.bodies[-1]) == []

    @pytest.mark.parametrize("name", MODELS)
    def test_a_run_that_is_killed_in_a_later_step_keeps_its_compaction(
        self, name: str, keyed: Shell, server: CompactingServer
    ) -> None:
        (keyed.folder / "eye.py").write_text(TOOL)
        self.talk(keyed, name, range(3))
        made = Step(compaction="[0, 1, 2, 3]", tool_calls=[ScriptedCall(name="eye__look", arguments={"place": "x"})])
        server.next_steps = [made, Step(text=["half ", "x"], fault=Fault.HANG, fault_after=1)]
        tools = ("--plugin", "eye.py", "--tool", "eye.*")
        process = keyed.start("run", "-m", MODELS[name], "-t", "t", *tools, "q3 more")
        wait_for_output(process, b"half ")
        kill(process)
        assert compactions_in(server.bodies[-1])
        self.talk(keyed, name, [4])
        assert questions_in(sent_of(server.bodies[-1])) == list(range(5))
        assert compactions_in(server.bodies[-1])
        assert "eye__look" in json.dumps(sent_of(server.bodies[-1]))  # with a result, as the server checks

    def test_a_thread_is_compacted_by_the_server_when_it_is_asked(self, keyed: Shell, server: CompactingServer) -> None:
        self.talk(keyed, "openai", range(6))
        asked_before = len(server.bodies)
        done = keyed.in_process("threads", "compact", "t", "--json", AFK_MODEL=MODELS["openai"])
        assert done.code == 0, done.err
        [form] = done.events
        assert (form["by_server"], form["summary"], form["covers"]) == (True, "", [[1, 5]])
        assert form["usage"]["input_tokens"] == 12
        assert "a compaction of the server is sent in place of turns 1 to 5 of 't'" in done.err
        request = server.requests[asked_before]
        assert request.path == "/v1/responses/compact"
        assert questions_in(request.body["input"]) == list(range(5))
        assert set(request.body) <= set(ResponseCompactParams.__annotations__)
        said = self.talk(keyed, "openai", [6])
        body = server.bodies[-1]
        assert questions_in(sent_of(body)) == [*range(5), 5, 6]
        assert [item["type"] for item in sent_of(body)[:6]] == [*["message"] * 5, "compaction"]
        assert "gets a compaction that its server made" in said
        self.talk(keyed, "anthropic", [7])
        assert compactions_in(server.bodies[-1]) == []
        assert questions_in(sent_of(server.bodies[-1])) == list(range(8))
        exported = keyed.in_process("threads", "export", "t").out
        assert keyed.in_process("threads", "rm", "t", "--yes").code == 0
        assert keyed.in_process("threads", "import", "-", stdin=exported.encode()).code == 0
        self.talk(keyed, "openai", [8])
        assert questions_in(sent_of(server.bodies[-1])) == list(range(9))
        assert len(compactions_in(server.bodies[-1])) == 1

    def test_a_compaction_that_was_asked_for_is_taken_back_by_undo(
        self, keyed: Shell, server: CompactingServer
    ) -> None:
        self.talk(keyed, "openai", range(4))
        assert keyed.in_process("threads", "compact", "t").code == 0
        again = keyed.in_process("threads", "compact", "t")
        assert again.code == 2
        assert "there is nothing more to summarise" in again.err
        assert keyed.in_process("threads", "undo", "t").code == 0
        self.talk(keyed, "openai", [4])
        assert compactions_in(server.bodies[-1]) == []
        assert questions_in(sent_of(server.bodies[-1])) == list(range(5))
        assert keyed.in_process("threads", "compact", "t", "--keep", "0").code == 0
        self.talk(keyed, "openai", [5, 6])
        assert keyed.in_process("threads", "compact", "t", "--keep", "0").code == 0
        [made] = compactions_in(server.bodies[-1])
        assert len(server.bodies[-1]["input"]) == 5 + 1 + 4  # what was compacted, the compaction, two turns after it
        self.talk(keyed, "openai", [7])
        assert sent_of(server.bodies[-1])[-1]["role"] == "user"
        assert made not in sent_of(server.bodies[-1])

    @pytest.mark.parametrize("name", MODELS)
    def test_a_server_without_such_an_endpoint_gets_the_thread_summarised(
        self, name: str, keyed: Shell, server: CompactingServer
    ) -> None:
        self.talk(keyed, name, range(4))
        refusal = Step(status=404, body={"error": {"message": "Invalid URL (POST /v1/responses/compact)"}})
        server.next_steps = [refusal] * (name == "openai") + [Step(text="They said words.")]
        done = keyed.in_process("threads", "compact", "t")
        assert (done.code, done.out) == (0, "They said words.\n"), done.err
        assert f"the server of {MODELS[name]} makes no compaction" in done.err
        assert "a summary is sent in place of turns 1 to 3 of 't'" in done.err

    def test_chat_completions_has_no_such_thing_which_is_said(self, shell: Shell) -> None:
        with ModelServer([Step(text="yes")]) as chat:
            shell.env.update(OPENAI_BASE_URL=chat.base_url, OPENAI_API_KEY="sk-1")
            done = shell.in_process("run", "--context", "native", "-m", "openai/other", "hi")
            assert "context_management" not in chat.bodies[0]
        assert (done.code, done.out) == (0, "yes\n")
        line = "the server of openai/other cannot shorten a conversation by itself; afk does it where it does not fit"
        assert done.err.count(line) == 1


def test_anthropic_itself_makes_compactions_from_50000_tokens_on() -> None:
    own = afk_provider_anthropic.afk_provider(afk_provider_anthropic.Settings(api_key="k"))
    models = ("claude-sonnet-5-5", "claude-opus-4-6", "claude-sonnet-4-5", "claude-3-5-haiku-20241022", "qwen3-8b")
    assert [own.capabilities(model).native_context_from for model in models] == [50_000, 50_000, 1, None, None]


def test_a_window_that_is_too_small_for_the_server_is_said_once_and_trimmed(server: CompactingServer) -> None:
    talk = Talk(server, window=1_000)
    turns = talk.ask("openai", *asked(0, 20))
    assert [warnings(events) for events in turns] == [["native_unavailable"]] * 20
    said = next(event.message for event in turns[0] if event.type == "warning")
    assert "shortens conversations from 1,000 tokens on, and the window has room for 750" in said
    assert contexts(turns[-1])[0].dropped_through is not None
    assert all("context_management" not in body for body in server.bodies)
