"""Plays a dialect against the installed plugin, and tells what is shown, stored and sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from afk_provider_openai import Settings, afk_provider

from afkcli.core.contract.agent import Agent
from afkcli.core.contract.events import Event
from afkcli.core.contract.messages import Message, ReasoningPart
from afkcli.core.contract.result import AgentResult, RunState
from afkcli.core.contract.tools import tool
from afkcli.core.run.runner import Runner
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.testing.model_server import ModelServer, Step
from tests.dialects.servers import CUT, TEXT, THOUGHT, Dialect

SITUATIONS = ("plain", "reasoning", "two calls", "refused", "rate limited", "cut")


@dataclass(slots=True)
class Played:
    """What came of one situation; `problems` is what is not as it should be."""

    dialect: str
    situation: str
    problems: list[str] = field(default_factory=list)

    def expect(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.problems.append(f"{what} is {found!r}, not {wanted!r}")


@dataclass(slots=True)
class _Turn:
    result: AgentResult
    events: list[Event]
    bodies: list[Any]

    @property
    def shown(self) -> str:
        return "".join(event.text_delta for event in self.events if event.type == "text_delta")

    @property
    def thought(self) -> str:
        return "".join(event.reasoning_delta for event in self.events if event.type == "reasoning_delta")

    @property
    def stored(self) -> list[Message]:
        return [event.message for event in self.events if event.type == "step_completed"]


@tool
def first(n: int) -> str:
    """Do the first thing."""
    return f"first {n}"


@tool
def second(n: int) -> str:
    """Do the second thing."""
    return f"second {n}"


def play(dialect: Dialect) -> Iterator[Played]:
    """Yield what comes of each situation."""
    for situation, judge in zip(SITUATIONS, _JUDGES, strict=True):
        played = Played(dialect.name, situation)
        judge(dialect, played)
        yield played


def _turn(dialect: Dialect, *steps: Step) -> _Turn:
    with ModelServer(steps) as server:

        async def run() -> _Turn:
            settings = Settings(base_url=server.base_url + dialect.suffix, api_key="k", **dialect.settings)
            provider = afk_provider(settings)
            runner = Runner(providers={provider.name: provider}, store=MemoryStore())
            agent = Agent(name="a", model=f"openai/{dialect.model}", instructions="", tools=[first, second])
            handle = await runner.run_stream(agent, user_message="mark-question", thread_id="t")
            events = [event async for event in handle]
            await runner.aclose()
            return _Turn(events[-1].result, events, server.bodies)

        return asyncio.run(run())


def _plain(dialect: Dialect, played: Played) -> None:
    turn = _turn(dialect, dialect.plain())
    played.expect("state", turn.result.state, RunState.COMPLETED)
    played.expect("what is shown", turn.shown, TEXT)
    played.expect("what is stored", turn.stored[-1].text, TEXT)
    usage = turn.result.usage
    played.expect("usage", (usage.input_tokens, usage.output_tokens, usage.unknown), (12, 7, ()))
    played.expect("what is sent", turn.bodies[0]["messages"][-1], {"role": "user", "content": "mark-question"})


def _reasoning(dialect: Dialect, played: Played) -> None:
    turn = _turn(dialect, dialect.reasoning())
    played.expect("what is shown", (turn.thought, turn.shown), (THOUGHT, TEXT))
    parts = [part.text for part in turn.stored[-1].parts if isinstance(part, ReasoningPart)]
    played.expect("what is stored", (parts, turn.stored[-1].text), ([THOUGHT], TEXT))


def _two_calls(dialect: Dialect, played: Played) -> None:
    turn = _turn(dialect, dialect.tools(), dialect.plain())
    calls = turn.stored[0].tool_calls
    played.expect("state", turn.result.state, RunState.COMPLETED)
    played.expect("what is shown", turn.shown, TEXT)
    played.expect(
        "what is stored", [(call.name, call.arguments) for call in calls], [("first", {"n": 1}), ("second", {"n": 2})]
    )
    sent = [message for message in turn.bodies[-1]["messages"] if message["role"] in ("assistant", "tool")]
    assistant, results = sent[0], sent[1:]
    ids = [call["id"] for call in assistant["tool_calls"]]
    played.expect(
        "results sent",
        [(item["tool_call_id"], item["content"]) for item in results],
        list(zip(ids, ("first 1", "second 2"), strict=True)),
    )
    played.expect("different ids", len(set(ids)), 2)
    if dialect.thought in ("reasoning", "reasoning_content"):
        played.expect("reasoning sent back", assistant.get(dialect.thought), THOUGHT)
    for name, value in dialect.signature.items():
        played.expect("signature sent back", [call.get(name) for call in assistant["tool_calls"]], [value, value])


def _refused(dialect: Dialect, played: Played) -> None:
    turn = _turn(dialect, dialect.refused)
    played.expect("kind", (turn.result.state, turn.result.error_kind), (RunState.FAILED, "auth"))
    played.expect("requests", len(turn.bodies), 1)


def _limited(dialect: Dialect, played: Played) -> None:
    turn = _turn(dialect, dialect.limited, dialect.plain())
    played.expect("what is shown", (turn.result.state, turn.shown), (RunState.COMPLETED, TEXT))
    played.expect("requests", len(turn.bodies), 2)


def _cut(dialect: Dialect, played: Played) -> None:
    turn = _turn(dialect, dialect.cut())
    played.expect("kind", (turn.result.state, turn.result.error_kind), (RunState.FAILED, "truncated"))
    played.expect("what is shown", turn.shown, CUT)
    played.expect("requests", len(turn.bodies), 1)


_JUDGES: tuple[Callable[[Dialect, Played], None], ...] = (_plain, _reasoning, _two_calls, _refused, _limited, _cut)
