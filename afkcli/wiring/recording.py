"""`--record FILE`: keeps what a run asks its models and tools, and what they answer, in a file."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.events import (
    ApprovalRequested,
    ApprovalResolved,
    RunStarted,
    ToolCompleted,
    ToolProgress,
    ToolStarted,
    Warned,
    message_to_json,
)
from afkcli.core.contract.ids import rfc3339
from afkcli.core.contract.jsonform import JsonError, JsonObject, dumps, loads_object, to_plain
from afkcli.core.contract.messages import (
    Message,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    ReasoningDelta,
    Role,
    TextDelta,
    ToolCallDelta,
    ToolResultPart,
    ToolSpec,
)
from afkcli.core.contract.protocols import Capabilities, Provider, Record, Store
from afkcli.core.contract.structs import replace
from afkcli.core.contract.tools import FoundTools
from afkcli.core.run.outlet import Outlet
from afkcli.core.run.spec import RunSpec
from afkcli.core.run.stopping import Outcome, Stopping
from afkcli.core.run.tape import FindTools, Tape
from afkcli.core.thread.attachments import attached_parts
from afkcli.host.files import private_file
from afkcli.host.secrets import Secrets
from afkcli.version import __version__
from afkcli.wiring.recording_form import (
    HEADER,
    VERSION,
    capabilities_form,
    common_messages,
    each_text,
    error_form,
    event_form,
    request_form,
)
from afkcli.wiring.wrapped_providers import ProviderWrapper, WrappedProviders

TOOL_EVENTS = (ToolStarted, ToolProgress, ToolCompleted, ApprovalRequested, ApprovalResolved, Warned)
"""The events of tool calls that a replay gives again."""

NOT_OF_TOOLS = frozenset({"journal", "not_saved", "recording", "sink_left_out", "stderr_unread", "store_locked"})
"""Warnings that may come while tools run and that a replay raises for itself."""

MOST_HELD_CHARS = 4096
"""How much of a text without a space is held."""


class Recording:
    """A file that takes what the runs of one runner ask and get. It is made for the first run.

    Args:
        path: the file. It must not exist.
        secrets: what is masked in it.

    Raises:
        UsageError: the file exists, or its folder does not.
    """

    def __init__(self, path: str | os.PathLike[str], secrets: Secrets) -> None:
        self.path = Path(path)
        self.secrets = secrets
        self.signal: int | None = None
        self._runs = 0
        self._descriptor: int | None = None
        self._lock = threading.Lock()
        self._kept: set[str] = set()
        self._error: OSError | None = None
        if os.path.lexists(self.path):
            raise self._exists()
        if not self.path.parent.is_dir():
            raise UsageError(f"the recording {path} cannot be written: there is no folder {self.path.parent}")

    is_real = True

    def store(self, opens: Callable[[], Store]) -> Callable[[], Store]:
        """Return `opens`: a recorded run keeps its turn as any other does."""
        return opens

    def tape(self) -> Tape:
        """Return what records the next run; make the file if it is the first one.

        Raises:
            UsageError: the file cannot be made, so no model is asked.
        """
        with self._lock:
            if self._descriptor is None:
                try:
                    self._descriptor = private_file(self.path, new=True)
                except FileExistsError:  # another run was faster
                    raise self._exists() from None
                except OSError as error:
                    raise UsageError(f"the recording {self.path} cannot be written: {error.strerror}") from None
        return RunRecorder(self)

    def begin_run(self) -> int:
        """Return the number of the run that begins, from 1; `OSError` if nothing can be written."""
        with self._lock:
            if self._runs == 0:
                self._write({"type": HEADER, "v": VERSION, "afk": __version__})
            self._runs += 1
            return self._runs

    def write(self, form: JsonObject) -> None:
        """Append one line, its texts without secrets; `OSError` if it cannot be written."""
        with self._lock:
            self._write(form)

    def keep(self, sha256: str, data: bytes) -> None:
        """Append a content, unless it is there."""
        with self._lock:
            if sha256 in self._kept:
                return
            self._kept.add(sha256)
            form: JsonObject = {"type": "content", "sha256": sha256, "size": len(data)}
            shown = self.secrets.mask(data.decode("latin-1")).encode("latin-1")
            if shown != data:
                form["masked"] = True
            self._write({**form, "base64": base64.b64encode(shown).decode()}, is_plain=True)

    def close(self) -> None:
        """Close the file, and delete it if no run began; nothing more is written."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
                if self._runs == 0:
                    with suppress(OSError):
                        self.path.unlink()

    def _exists(self) -> UsageError:
        return UsageError(f"the recording {self.path} exists already; name another file, or delete it first")

    def _write(self, form: JsonObject, *, is_plain: bool = False) -> None:
        if self._descriptor is None:
            return
        if self._error is not None:  # a line may be cut, so no line can follow
            raise self._error
        line = dumps(form if is_plain else each_text(form, self.secrets.mask))
        data = memoryview(f"{line}\n".encode())
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            self._error = error
            raise


class RunRecorder(Tape):
    """Records one run. A recording that cannot be written costs a warning, and not the run."""

    keeps_history = True

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._run = 0
        self._call = 0
        self._broken = False
        self._outlet: Outlet | None = None
        self._early: list[JsonObject] = []
        self._messages: Sequence[Message] = ()
        self._tools: Sequence[ToolSpec] | None = None
        self._held: list[ModelEvent] = []
        self._known: dict[str, Capabilities] = {}
        self._calls_tools = False

    def providers(self, providers: Mapping[str, Provider]) -> Mapping[str, Provider]:
        return WrappedProviders(providers, lambda name: RecordedProvider(providers[name], self))

    def find_tools(self, find: FindTools) -> FindTools:
        def recorded(names: Sequence[str]) -> Coroutine[Any, Any, FoundTools]:
            return self._found(names, find(names))

        return recorded

    async def _found(self, names: Sequence[str], finding: Coroutine[Any, Any, FoundTools]) -> FoundTools:
        tools, problems = await finding
        self._write({"type": "tools", "names": list(names), "tools": [to_plain(tool.spec) for tool in tools]})
        if problems:
            self._write({"type": "tools_left_out", "problems": list(problems)})
        return tools, problems

    def begin(self, spec: RunSpec, model: str, records: Sequence[Record], outlet: Outlet, stopping: Stopping) -> None:
        self._outlet = outlet
        try:
            self._run = self._recording.begin_run()
        except OSError as error:
            self._fail(error)
        self._write(
            {
                "type": "run",
                "started": rfc3339(spec.started),
                "run_id": spec.run_id,
                "thread_id": spec.thread_id,
                "thread_key": spec.thread_key,
                "turn": spec.turn,
                "agent": spec.agent.name,
                "model": model,
                "decider": spec.decider,
                "capabilities": {name: capabilities_form(known) for name, known in self._known.items()},
            }
        )
        for record in records:
            form = {"index": record.index, "kind": record.kind.value, "turn": record.turn}
            with suppress(JsonError):  # it is damaged, and not sent either
                self._write({"type": "record", **form, "body": loads_object(record.body)})
        early, self._early = self._early, []
        for form in early:
            self._write(form)

    def saw(self, kind: type, values: Mapping[str, Any]) -> None:
        if kind is RunStarted:
            self._write({"type": "question", "text": values["message"]})
        if kind is ToolStarted:
            self._calls_tools = True
        if kind in TOOL_EVENTS and self._calls_tools and values.get("code") not in NOT_OF_TOOLS:
            self._write({"type": "tool", "event": kind.__name__, "values": to_plain(dict(values))})

    def took(self, position: int, result: ToolResultPart, contents: Mapping[str, bytes]) -> None:
        for sha256, data in contents.items():
            self._keep(sha256, data)
        form = message_to_json(Message(role=Role.TOOL, parts=(result,)))["parts"][0]
        self._write({"type": "result", "position": position, "result": form})

    def end(self, outcome: Outcome) -> None:
        form: JsonObject = {"type": "end", "state": outcome.state.value, "reason": outcome.reason}
        if outcome.error is not None:
            form |= {"error": outcome.error}
        if self._recording.signal is not None:
            form |= {"signal": self._recording.signal}
        self._write(form)

    def knows(self, full_name: str, capabilities: Capabilities) -> None:
        """Take note of what is known of a model."""
        self._known.setdefault(full_name, capabilities)

    def counted(self, tokens: int | None) -> None:
        """Take note of the tokens of the next request, as the provider counted them; None if it could not."""
        self._write({"type": "count", "tokens": tokens})

    def asks(self, full_name: str, request: ModelRequest) -> None:
        """Take note of a request that is about to be sent: what it has in common with the last one is left out."""
        for part in attached_parts(request.messages):
            try:
                self._keep(part.sha256, request.content(part.sha256))
            except KeyError:  # it is lost, which the request does not change
                continue
        self._calls_tools = False
        self._call += 1
        kept = common_messages(request.messages, self._messages)
        form = request_form(full_name, replace(request, messages=request.messages[kept:]))
        if request.tools == self._tools:
            del form["tools"]
        self._messages, self._tools = list(request.messages), list(request.tools)
        self._write({"type": "request", "call": self._call, "kept": kept, **form})

    def gets(self, event: ModelEvent) -> None:
        """Take note of what the provider yielded.

        A secret may come in pieces, and in any spelling, so the pieces of a word are written when it ends.
        """
        if self._held and not _follows(event, self._held[-1]):
            self._release()
        if not isinstance(event, (TextDelta, ReasoningDelta, ToolCallDelta)):
            self._write({"type": "event", **event_form(event)})
            return
        self._held.append(event)
        text = "".join(map(_text, self._held))
        has_ended = not text or text[-1].isspace() or len(text) > MOST_HELD_CHARS
        if len(text) > 2 * MOST_HELD_CHARS or (has_ended and not self._recording.secrets.may_go_on(text)):
            self._release()

    def fails(self, error: Exception) -> None:
        """Take note of the error of a call."""
        self._release()
        self._write({"type": "error", **error_form(error)})

    def stops(self, what: str) -> None:
        """Take note that a call was `stopped` by the run, or `ended` without its end marker."""
        self._release()
        self._write({"type": what})

    def _release(self) -> None:
        """Write the pieces that were held: as they came, or as one if a secret was in them."""
        held, self._held = self._held, []
        text = "".join(map(_text, held))
        if held and self._recording.secrets.mask(text) != text:
            held = [_with_text(held[-1], text)]
        for event in held:
            self._write({"type": "event", **event_form(event)})

    def _keep(self, sha256: str, data: bytes) -> None:
        if not self._broken:
            try:
                self._recording.keep(sha256, data)
            except OSError as error:
                self._fail(error)

    def _write(self, form: JsonObject) -> None:
        if self._outlet is None:
            self._early.append(form)
        elif not self._broken:
            try:
                self._recording.write({"type": form["type"], "run": self._run, **form})
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        self._broken = True
        line = f"the recording {self._recording.path} is not complete: {error.strerror}; the run goes on without it"
        if self._outlet is not None:
            self._outlet.pending_warnings.append(("recording", line))


def _text(event: ModelEvent) -> str:
    return event.arguments if isinstance(event, ToolCallDelta) else getattr(event, "text", "")


def _with_text(event: ModelEvent, text: str) -> ModelEvent:
    if isinstance(event, ToolCallDelta):
        return replace(event, arguments=text)
    return replace(event, text=text) if isinstance(event, (TextDelta, ReasoningDelta)) else event


def _follows(event: ModelEvent, before: ModelEvent) -> bool:
    """Return whether a piece goes on with the text of the one before it."""
    if type(event) is not type(before):
        return False
    return not isinstance(event, ToolCallDelta) or event.id == getattr(before, "id", None)


class RecordedProvider(ProviderWrapper):
    """A provider whose requests and answers are recorded; all else is the provider's own."""

    def __init__(self, provider: Provider, recorder: RunRecorder) -> None:
        super().__init__(provider)
        self._recorder = recorder

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        recorder = self._recorder
        recorder.asks(f"{self.name}/{request.model}", request)
        events = self._provider.stream(request)
        how: str | None = "stopped"
        try:
            async for event in events:
                recorder.gets(event)
                if isinstance(event, ModelResponse):
                    how = None
                yield event
            how = how and "ended"
        except Exception as error:
            how = None
            recorder.fails(error)
            raise
        finally:
            if how is not None:
                recorder.stops(how)
            close: Callable[[], Coroutine[Any, Any, object]] | None = getattr(events, "aclose", None)
            if close is not None:
                await close()

    def capabilities(self, model: str) -> Capabilities:
        known = self._provider.capabilities(model)
        if isinstance(known, Capabilities):
            self._recorder.knows(f"{self.name}/{model}", known)
        return known

    async def count_tokens(self, request: ModelRequest) -> int:
        tokens = None
        try:
            tokens = await self._provider.count_tokens(request)
        finally:
            self._recorder.counted(tokens)
        return tokens
