"""Scripted models and small runners for the tests of the core: no network, no disk, nothing that depends on time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from afkcli.core.contract.agent import Agent
from afkcli.core.contract.errors import ErrorKind, ProviderError
from afkcli.core.contract.events import Completed, Event, ToolCompleted
from afkcli.core.contract.messages import (
    FinishReason,
    Message,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    ReasoningPart,
    Role,
    TextDelta,
    TextPart,
    ToolCallPart,
)
from afkcli.core.contract.protocols import Capabilities, ModelInfo, Price
from afkcli.core.contract.result import AgentResult, Usage
from afkcli.core.contract.tools import Tool, tool
from afkcli.core.run.handle import RunHandle
from afkcli.core.run.runner import Runner
from afkcli.core.thread.memory_store import MemoryStore

USAGE = Usage(input_tokens=10, output_tokens=5, total_tokens=15)
Action = ModelEvent | BaseException | asyncio.Event | Callable[[], Awaitable[None]]
Script = Sequence[Action] | Callable[[ModelRequest], AsyncIterator[ModelEvent]]


def call(name: str, id_: str = "c1", **arguments: Any) -> ToolCallPart:
    return ToolCallPart(id=id_, name=name, arguments=arguments)


def response(
    text: str = "",
    *calls: ToolCallPart,
    finish: FinishReason | None = None,
    usage: Usage | None = USAGE,
    reasoning: str = "",
) -> ModelResponse:
    parts = [*([ReasoningPart(text=reasoning)] if reasoning else []), *([TextPart(text=text)] if text else []), *calls]
    why = finish or (FinishReason.TOOL_CALLS if calls else FinishReason.STOP)
    return ModelResponse(message=Message(role=Role.ASSISTANT, parts=tuple(parts)), finish_reason=why, usage=usage)


def answer(*pieces: str, usage: Usage | None = USAGE, finish: FinishReason | None = None) -> list[Action]:
    """A whole answer, streamed in `pieces`."""
    return [*(TextDelta(piece) for piece in pieces), response("".join(pieces), usage=usage, finish=finish)]


def calls(*parts: ToolCallPart, text: str = "") -> list[Action]:
    """A step that asks for tools."""
    return [*([TextDelta(text)] if text else []), response(text, *parts)]


def forever(reached: asyncio.Event, *pieces: str) -> list[Action]:
    """An answer that never ends; `reached` is set once its pieces were streamed."""

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    return [*(TextDelta(piece) for piece in pieces), hang]


class Scripted:
    """A provider that plays one script a call: an error is raised, an event waited for, a function called."""

    default_model: str | None = "small"

    def __init__(
        self,
        *scripts: Script,
        name: str = "fake",
        price: Price | None = None,
        input_tokens: int = 1,
        structured_output: bool | None = None,
    ) -> None:
        self.name = name
        self.structured_output = structured_output
        self.scripts = list(scripts)
        self.price = price
        self.input_tokens = input_tokens
        self.requests: list[ModelRequest] = []
        self.closed = 0

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.requests.append(request)
        script = self.scripts.pop(0)
        try:
            if callable(script):
                async for event in script(request):
                    yield event
                return
            for action in script:
                if isinstance(action, BaseException):
                    raise action
                if isinstance(action, asyncio.Event):
                    await action.wait()
                elif callable(action):
                    await action()
                else:
                    yield action
        finally:
            self.closed += 1

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(price=self.price, structured_output=self.structured_output)

    async def list_models(self) -> Sequence[ModelInfo]:
        return ()

    async def count_tokens(self, request: ModelRequest) -> int:
        return self.input_tokens

    async def prepare(self) -> None: ...

    async def aclose(self) -> None: ...

    def said(self, number: int = -1) -> list[tuple[str, str]]:
        """The role and text of each message of a request; of tool results the text of their parts."""
        return [(str(message.role), text_of(message)) for message in self.requests[number].messages]


def text_of(message: Message) -> str:
    if message.role is not Role.TOOL:
        return message.text
    return "|".join(part.text for result in message.parts for part in getattr(result, "parts", ()))


def runner_of(provider: Scripted, *others: Scripted, **options: Any) -> Runner:
    options.setdefault("store", MemoryStore())
    return Runner(providers={item.name: item for item in (provider, *others)}, **options)


def agent(**fields: Any) -> Agent:
    return Agent(**{"name": "tester", "model": "fake/small", **fields})


async def collect(handle: RunHandle) -> list[Event]:
    return [event async for event in handle]


def events_of(provider: Scripted, chosen: Agent | None = None, **options: Any) -> list[Event]:
    """Run one turn to its end in a loop of its own and return the events."""

    async def run() -> list[Event]:
        async with runner_of(provider, **options) as runner:
            handle = await runner.run_stream(chosen or agent(), user_message="hi", thread_id="t")
            return await collect(handle)

    return asyncio.run(run())


def streamed(events: Sequence[Event]) -> str:
    """The text of the answer as it was streamed."""
    return "".join(event.text_delta for event in events if event.type == "text_delta")


def types(events: Sequence[Event]) -> list[str]:
    return [event.type for event in events]


def failure(kind: ErrorKind, **fields: Any) -> ProviderError:
    return ProviderError(f"it failed ({kind})", kind=kind, **fields)


def result_of(events: list[Event]) -> AgentResult:
    last = events[-1]
    assert isinstance(last, Completed)
    return last.result


def one_turn(provider: Scripted, chosen: Agent | None = None, **options: Any) -> AgentResult:
    return result_of(events_of(provider, chosen, **options))


@tool
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def completed(events: list[Event]) -> list[ToolCompleted]:
    return [event for event in events if isinstance(event, ToolCompleted)]


def run_tool(function: Any, **arguments: Any) -> ToolCompleted:
    """Have a model call one tool once, and return how that was reported."""
    name = function.name if isinstance(function, Tool) else function.__name__
    events = events_of(Scripted(calls(call(name, **arguments)), answer("ok")), agent(tools=[function]))
    assert types(events)[-1] == "completed"
    assert types(events).count("tool_started") == 1
    return completed(events)[0]
