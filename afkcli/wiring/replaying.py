"""`--replay FILE`: answers a run from its recording, instead of models and tools."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NoReturn, Protocol

from afkcli.core.contract.agent import Agent
from afkcli.core.contract.errors import AfkError, ErrorKind, LimitReachedError, ProviderError
from afkcli.core.contract.events import (
    ApprovalRequested,
    ApprovalResolved,
    Attached,
    Event,
    ToolCompleted,
    ToolProgress,
    ToolStarted,
)
from afkcli.core.contract.ids import rfc3339
from afkcli.core.contract.jsonform import JsonError, JsonObject
from afkcli.core.contract.messages import (
    Message,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    Role,
    ToolCallPart,
    ToolResultPart,
    part_from_json,
)
from afkcli.core.contract.protocols import Capabilities, ModelInfo, Provider, Record
from afkcli.core.contract.result import RunState, ToolExecution
from afkcli.core.contract.tools import FoundTools, Tool, Tools
from afkcli.core.contract.typed_json import from_json
from afkcli.core.run.outlet import Outlet
from afkcli.core.run.spec import RunSpec
from afkcli.core.run.stopping import Outcome, Stopping
from afkcli.core.run.tape import FindTools, Tape
from afkcli.core.run.tool_calls import ToolCalls
from afkcli.host.secrets import Secrets
from afkcli.wiring.recording_form import (
    capabilities_of,
    each_text,
    error_of,
    estimated_tokens,
    event_of,
    request_form,
)
from afkcli.wiring.request_diff import difference, identity_of

RECORD_AGAIN = "record it again if the change is meant"
_ASIDE = frozenset({"question", "record", "tools", "tools_left_out"})
"""Lines of a run that are not played in their order."""
_PLAYED = frozenset({"count", "request", "event", "error", "ended", "stopped", "tool", "result", "end"})
"""Lines that are. A later afk may add other types, which this one leaves out."""
_OF_TOOLS = frozenset({"tool", "result"})
_FROM_OUTSIDE = frozenset({"max_wall_time_s", "budget_thread", "budget_day"})
"""Reasons for the end of a run that a replay cannot reach by itself: it takes no time and costs nothing."""

_TOOL_EVENTS: Mapping[str, Callable[..., Event]] = {
    kind.__name__: kind for kind in (ToolStarted, ToolProgress, ToolCompleted, ApprovalRequested, ApprovalResolved)
}


class Source(Protocol):
    """What a run needs of the recording as a whole; see `Replay`."""

    path: Path
    secrets: Secrets
    show: Callable[[str], None]
    signal: int | None

    def content(self, sha256: str) -> bytes | None: ...


class RunReplay(Tape):
    """Answers one run from its recording."""

    def __init__(self, replay: Source, lines: Sequence[JsonObject]) -> None:
        self._replay = replay
        self._head = lines[0]
        self._aside = [line for line in lines[1:] if line["type"] in _ASIDE]
        self._lines = [line for line in lines[1:] if line["type"] in _PLAYED]
        self._next = 0
        self._is_damaged = False
        self._messages: list[Any] = []
        self._tools: Any = []
        self._stopping: Stopping | None = None
        self._now = identity_of("", "", "", "")

    @property
    def model(self) -> str:
        """The full name of the model with which the run began."""
        return str(self._head.get("model"))

    def agent(self, agent: Agent) -> Agent:
        """Return the agent without a limit of time: a replay takes none."""
        return dataclasses.replace(agent, fail_safe=dataclasses.replace(agent.fail_safe, max_wall_time_s=None))

    def providers(self, providers: Mapping[str, Provider]) -> Mapping[str, Provider]:
        return _ReplayedProviders(self)

    def find_tools(self, find: FindTools) -> FindTools:
        return self._found

    async def _found(self, names: Sequence[str]) -> FoundTools:
        """Return the recorded tools that fit `names`: no plugin is loaded, and no server is started."""
        forms = [form for line in self._aside for form in line.get("tools") or ()]
        fitting = [form for form in forms if any(fnmatchcase(str(form.get("name")), name) for name in names)]
        problems = [str(problem) for line in self._aside for problem in line.get("problems") or ()]
        return [_tool(form) for form in fitting], problems

    def begin(self, spec: RunSpec, model: str, records: Sequence[Record], outlet: Outlet, stopping: Stopping) -> None:
        self._stopping = stopping
        self._now = identity_of(spec.run_id, spec.thread_id, spec.thread_key, rfc3339(spec.started))

    def tool_calls(self, calls: ToolCalls) -> ToolCalls:
        parts = {name: getattr(calls, name) for name in calls.__struct_fields__}
        return ReplayedToolCalls(**parts, replay=self)

    async def pause(self, seconds: float) -> None:
        """Do not wait."""

    async def see(self, work: Coroutine[Any, Any, Outcome]) -> Outcome:
        """Return how the work ended; an error if it asked for less than was recorded."""
        try:
            outcome = await work
        except (LimitReachedError, ProviderError) as error:
            self._check_rest(error)
            raise
        self._check_rest(None)
        return outcome

    def _check_rest(self, error: AfkError | None) -> None:
        if self._is_damaged:  # which is what the error says
            return
        rest = [line for line in self._lines[self._next :] if line["type"] not in ("end", "count")]
        if rest:
            calls = sum(line["type"] == "request" for line in rest)
            what = f"{calls} more model call(s)" if calls else "more of an answer or of tools"
            line = f"the run asked for less than the recording {self._replay.path} has: {what}; {RECORD_AGAIN}"
            raise ProviderError(line, kind=ErrorKind.BAD_REQUEST) from error

    def capabilities(self, full_name: str) -> Capabilities:
        """Return what was known of a model; nothing if the recorded run did not have it."""
        known = self._head.get("capabilities")
        form = known.get(full_name) if isinstance(known, dict) else None
        try:
            return capabilities_of(form) if form is not None else Capabilities()
        except (JsonError, TypeError, LookupError) as error:
            raise self.damaged(error) from None

    def count(self) -> int | None:
        """Return the tokens of the next request as they were counted; None if they were not."""
        if self._peek() == "count":
            tokens = self._take().get("tokens")
            return tokens if isinstance(tokens, int) else None
        return None

    async def compare(self, full_name: str, request: ModelRequest) -> None:
        """Return if the next request of the recording is `request`; else the run ends, and the diff is shown."""
        if self._peek() == "count":
            self._take()
        if self._peek() != "request":
            await self.end_early("the run asks for more")
        line = self._take()
        kept = line.get("kept")
        self._messages = [*self._messages[: kept if isinstance(kept, int) else 0], *(line.get("messages") or ())]
        self._tools = line.get("tools", self._tools)
        names = ("model", "options", "extra", "output_schema", "native_context_from")
        recorded = {**{name: line.get(name) for name in names}, "messages": self._messages, "tools": self._tools}
        now: Any = each_text(request_form(full_name, request), self._replay.secrets.mask)
        head, path = self._head, self._replay.path
        then = identity_of(*(str(head.get(key) or "") for key in ("run_id", "thread_id", "thread_key", "started")))
        try:
            found = difference(recorded, now, (then, self._now), (f"recorded in {path}", "this run"))
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise self.damaged(error) from None
        if found is not None:
            self._replay.show(found.diff)
            await self.fail(
                f"the request of model call {line.get('call')} differs from the recording {path} in {found.path}; "
                f"{RECORD_AGAIN}"
            )

    async def events(self) -> AsyncIterator[ModelEvent]:
        """Yield the recorded events of a call, or raise its error."""
        try:
            while True:
                kind = self._peek()
                if kind == "event":
                    event = event_of(self._take())
                    yield event
                    if isinstance(event, ModelResponse):
                        return
                elif kind == "error":
                    raise error_of(self._take())
                elif kind == "ended":
                    self._take()
                    return
                else:
                    await self.end_early("the answer is cut")
        except JsonError as error:
            raise self.damaged(error) from None
        except GeneratorExit:  # the run stopped the call, as the recorded one did
            if self._peek() == "stopped":
                self._take()
            raise

    def of_tools(self) -> Iterator[JsonObject]:
        """Yield the lines about the tool calls that come next."""
        while self._peek() in _OF_TOOLS:
            yield self._take()

    def content(self, sha256: str) -> bytes:
        """Return the content of an image that a tool returned; `ProviderError` if it is damaged."""
        data = self._replay.content(sha256)
        if data is None:
            raise self.damaged(JsonError(f"the content {sha256} is missing or damaged"))
        return data

    async def end_early(self, what: str) -> NoReturn:
        """End the run where its recording ends: as it ended then if something from outside stopped it, else failed."""
        if self._peek() == "stopped":
            self._take()
        end = self._lines[self._next] if self._peek() == "end" else None
        path = self._replay.path
        if end is None and self._next == len(self._lines):
            why = "its run was killed, or a disk was full"
            await self.fail(f"the recording {path} is unfinished: {what} ({why}); record it again")
        state, reason = (end or {}).get("state"), (end or {}).get("reason")
        if state == RunState.CANCELLED or reason in _FROM_OUTSIDE:
            number = (end or {}).get("signal")
            self._replay.signal = number if isinstance(number, int) else None
            await self._stop(Outcome(state=RunState(str(state)), reason=reason))
        why = f" (the recorded run ended by {reason})" if reason else ""
        await self.fail(f"the recording {path} ends too early: {what}{why}; {RECORD_AGAIN}")

    async def fail(self, line: str) -> NoReturn:
        """End the run as failed."""
        kind = ErrorKind.BAD_REQUEST
        await self._stop(Outcome(state=RunState.FAILED, reason=kind, error=line, error_kind=kind))

    async def _stop(self, outcome: Outcome) -> NoReturn:
        """End the run, so that no retry and no fallback model follows."""
        assert self._stopping is not None
        self._stopping.stop(outcome)
        await asyncio.get_running_loop().create_future()  # until the run is cancelled
        raise AssertionError("unreachable")

    def damaged(self, error: Exception) -> ProviderError:
        """Return the error for a line of a wrong form."""
        self._is_damaged = True
        line = f"the recording {self._replay.path} is damaged: {error}; record it again"
        return ProviderError(line, kind=ErrorKind.BAD_REQUEST)

    def _peek(self) -> str | None:
        return str(self._lines[self._next]["type"]) if self._next < len(self._lines) else None

    def _take(self) -> JsonObject:
        self._next += 1
        return self._lines[self._next - 1]


class ReplayedToolCalls(ToolCalls, kw_only=True):
    """Gives the recorded events and results of tool calls in their order; no tool runs, and nobody is asked."""

    replay: RunReplay

    async def make(self, calls: Sequence[ToolCallPart], tools: Tools, *, again: bool = False) -> None:
        granted = self.limits.take_tool_calls(len(calls))
        ids = {call.id for call in calls[:granted]}
        results: dict[int, ToolResultPart] = {}
        try:
            for line in self.replay.of_tools():
                if line["type"] == "result":
                    if (taken := self._result(line)) is not None:
                        results[line["position"]] = taken
                elif line["values"].get("tool_call_id") in ids or "tool_call_id" not in line["values"]:
                    await self._event(line)
        except (AttributeError, JsonError, LookupError, TypeError) as error:
            raise self.replay.damaged(error) from None
        finally:
            if results:
                parts = tuple(results[position] for position in sorted(results))
                self.transcript.answer.append(Message(role=Role.TOOL, parts=parts))
        self.transcript.size.check()
        if len(results) < granted:
            await self.replay.end_early("the result of a tool call is missing")
        if granted < len(calls):
            self.limits.refuse_tool_calls()

    def _result(self, line: JsonObject) -> ToolResultPart | None:
        part = part_from_json(line["result"])
        if not isinstance(part, ToolResultPart):
            return None
        contents = {inner.sha256: self.replay.content(inner.sha256) for inner in part.parts if inner.type == "image"}
        self.contents.held.update(contents)
        return self.transcript.add_result(part, contents)

    async def _event(self, line: JsonObject) -> None:
        name, values = line["event"], dict(line["values"])
        if name == "Warned":
            self.outlet.warn(values["code"], values["message"])
            return
        if name == "ApprovalResolved" and values["decision"] in ("deny", "timeout"):
            self.tally.denied += 1
        if name == "ToolCompleted":
            values["attachments"] = tuple(from_json(Attached, item) for item in values["attachments"])
            self.tally.executions.append(
                ToolExecution(**{field: values[field] for field in ToolExecution.__struct_fields__})
            )
        await self.outlet.emit(_TOOL_EVENTS[name], **values)


class _ReplayedProviders(Mapping[str, Provider]):
    """Has a provider of every name, each of which answers from the recording."""

    def __init__(self, replay: RunReplay) -> None:
        self._replay = replay

    def __getitem__(self, name: str) -> Provider:
        return ReplayedProvider(name, self._replay)

    def __iter__(self) -> Iterator[str]:
        return iter((self._replay.model.partition("/")[0],))

    def __len__(self) -> int:
        return 1


class ReplayedProvider:
    """Answers from a recording; no plugin is loaded for it."""

    def __init__(self, name: str, replay: RunReplay) -> None:
        self.name = name
        self._replay = replay

    @property
    def default_model(self) -> str | None:
        provider, _, model = self._replay.model.partition("/")
        return model if provider == self.name else None

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        await self._replay.compare(f"{self.name}/{request.model}", request)
        events = self._replay.events()
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()  # type: ignore[attr-defined]  # it is a generator

    def capabilities(self, model: str) -> Capabilities:
        return self._replay.capabilities(f"{self.name}/{model}")

    async def list_models(self) -> Sequence[ModelInfo]:
        return ()

    async def count_tokens(self, request: ModelRequest) -> int:
        counted = self._replay.count()
        return counted if counted is not None else estimated_tokens(request)

    async def prepare(self) -> None:
        """Prepare nothing."""

    async def aclose(self) -> None:
        """Close nothing."""


def _tool(form: JsonObject) -> Tool:
    """Return a recorded tool, as a model sees it."""

    def call(arguments: JsonObject) -> NoReturn:
        raise AssertionError("a replay calls no tool")

    return Tool(
        name=str(form.get("name")),
        description=str(form.get("description")),
        function=call,
        parameters=form.get("parameters"),
        from_plugin=True,
    )
