"""Tools: typed functions that a model may call. Their arguments are validated, their output is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
import inspect
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import UnionType
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, Union, get_args, get_origin, overload

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import JsonError, JsonObject, canonical, clean_text, dumps
from afkcli.core.contract.messages import ToolSpec
from afkcli.core.contract.tasks import started

MAX_OUTPUT_CHARS = 100_000
"""How much of a tool's output the model is given; about 25,000 tokens, a fifth of a common context."""

TOOL_STOP_SECONDS = 0.25
"""How long a tool that is stopped may take to clean up."""

Approval = Literal["allow", "ask"]
F = TypeVar("F", bound=Callable[..., Any])


class Toolset(Protocol):
    """Tools that are not known before a server was asked for them. It belongs to one event loop."""

    @property
    def namespaces(self) -> Sequence[str]:
        """What stands before the first point in the names of its tools: `server` of `server.tool`."""
        ...

    async def list_tools(self, namespaces: Sequence[str]) -> Sequence[Tool]:
        """Return all tools of these namespaces, from a cache where nothing has to be started for it.

        Raises:
            ToolError: one of them cannot be listed, and why; the run goes on without its tools and says so.
        """
        ...

    async def aclose(self) -> None:
        """End what was started, within a second."""
        ...


Tools: TypeAlias = Mapping[str, "Tool"]
"""The tools of a run, by name."""

FoundTools: TypeAlias = tuple[Sequence["Tool"], Sequence[str]]
"""The tools that were found under some names, and a line for each thing that could not be had."""


class ToolError(Exception):
    """Raise it in a tool to tell the model, in your words, that the call failed."""


def _ignore(*_: str) -> None:
    """Take a report where no run is there to show it."""


@dataclass(frozen=True, kw_only=True)
class ToolContext:
    """What a tool knows about its call, and how it can report while it runs.

    A tool gets it as the parameter that is annotated with `ToolContext`; the model neither sees nor sets that
    parameter. `tool_context()` returns it too, also inside `Toolset.list_tools`, where `tool_call_id` is "". Both
    methods may be called from any thread, and do nothing once the call has ended.

    Since: 0.2.
    """

    run_id: str = ""
    thread_id: str = ""
    tool_call_id: str = ""
    on_progress: Callable[[str], None] = _ignore
    on_warning: Callable[[str, str], None] = _ignore

    def progress(self, text: str) -> None:
        """Report how far the call is, as an event `tool_progress`. Reports that come too fast are left out."""
        self.on_progress(str(text))

    def warn(self, code: str, message: str) -> None:
        """Raise a warning event: `code` for programs, `message` as one line for a person. At most 100 a call."""
        self.on_warning(str(code), str(message))


_context: contextvars.ContextVar[ToolContext] = contextvars.ContextVar("afk_tool_context")


def tool_context() -> ToolContext:
    """Return the context of the tool call, or of the lookup of tools, that runs now.

    Outside a run, in a unit test of a tool for instance, it is a context with empty ids whose methods do nothing.

    Since: 0.2.
    """
    return _context.get(_NO_CONTEXT)


@contextlib.contextmanager
def in_tool_context(context: ToolContext) -> Iterator[None]:
    """Have `tool_context()` return `context` in what is called inside."""
    token = _context.set(context)
    try:
        yield
    finally:
        _context.reset(token)


_NO_CONTEXT = ToolContext()


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A function that a model may call.

    `approval` "ask" means that a person (or a rule) has to allow each call. `timeout_s` is seconds, None for no limit.
    `idempotent` means that a call may be made twice: a run that resumes a turn makes one again that did not finish.

    The others are for plugins. `changes` means that a call may change something: without a rule it is asked about.
    `pinned` means that others may change what the tool is at any time (a server's tool), so that a rule which allows it
    has to name its `fingerprint`. `parameters` is the JSON Schema of the arguments where the function's hints do not
    give one: then it has one parameter, `arguments`, which is given all of them, validated against that schema
    (against its `outline`, where the tool is pinned).
    `from_plugin` is set by afk itself on the tools of plugins, which follow the approval rules.
    """

    name: str
    description: str
    function: Callable[..., Any]
    approval: Approval = "allow"
    timeout_s: float | None = None
    idempotent: bool = False
    changes: bool = True
    pinned: bool = False
    parameters: JsonObject | None = None
    from_plugin: bool = False

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 (hex) of the tool's name, description and schema: what a rule pins."""
        said = canonical([self.spec.name, self.spec.description, self.spec.parameters])
        return hashlib.sha256(said.encode()).hexdigest()

    @cached_property
    def spec(self) -> ToolSpec:
        """What the model is told: the parameters' JSON Schema is made from the type hints by pydantic.

        Raises:
            UsageError: the function's parameters have no schema.
        """
        schema = dict(self.parameters) if self.parameters is not None else self._schema_of_hints()
        schema.pop("title", None)
        schema.setdefault("properties", {})
        return ToolSpec(name=self.name, description=self.description, parameters=schema)

    def validate(self, arguments: JsonObject) -> ValidArguments:
        """Return `arguments` validated and converted to the types of the function.

        Raises:
            ToolError: naming each argument that is wrong and what was expected.
        """
        return ValidArguments(tool=self, given=arguments, values=self._converted(arguments))

    def _converted(self, arguments: JsonObject) -> dict[str, Any]:
        if self.parameters is not None:
            from afkcli.core.contract.schemas import outline, problems, without_nulls

            arguments = without_nulls(arguments, self.parameters)
            found = problems(arguments, outline(self.parameters) if self.pinned else self.parameters)
            if found:
                raise ToolError(f"wrong arguments for {self.name}: " + "; ".join(found))
            return {"arguments": arguments}

        from pydantic import ValidationError

        try:
            model = self._adapter.validate_python(arguments)
        except ValidationError as error:
            wrong = [f"{'.'.join(map(str, item['loc'])) or 'arguments'}: {item['msg']}" for item in error.errors()]
            raise ToolError(f"wrong arguments for {self.name}: " + "; ".join(wrong)) from None
        return {field.alias: getattr(model, name) for name, field in type(model).model_fields.items()}

    @cached_property
    def context_parameters(self) -> tuple[str, ...]:
        """The parameters of the function that get the `ToolContext`."""
        try:
            hints = inspect.get_annotations(self.function, eval_str=True)
        except Exception:  # hints that cannot be read; where the schema needs them, `spec` says so
            return ()
        return tuple(name for name, hint in hints.items() if name != "return" and _is_context(hint))

    async def call(self, arguments: JsonObject) -> str:
        """Validate `arguments` and call the tool once; raises as `validate` and `ToolInvocation.run`."""
        return await ToolInvocation(self).run(self.validate(arguments))

    @cached_property
    def _adapter(self) -> Any:
        from pydantic import ConfigDict, Field, TypeAdapter, create_model
        from pydantic.errors import PydanticUserError

        fields: dict[str, Any] = {}
        try:
            hints = inspect.get_annotations(self.function, eval_str=True)
            for number, (name, parameter) in enumerate(inspect.signature(self.function).parameters.items()):
                if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                    raise UsageError(f"the tool {self.name!r} takes {parameter}; use plain named parameters")
                if _is_context(hints.get(name)):
                    continue
                default = ... if parameter.default is parameter.empty else parameter.default
                # By alias, because pydantic has names of its own: `schema`, `copy`, `_x` ...
                fields[f"field_{number}"] = (hints.get(name, Any), Field(default, alias=name))
            return TypeAdapter(create_model(self.name, __config__=ConfigDict(extra="forbid"), **fields))
        except (NameError, TypeError, SyntaxError, PydanticUserError) as error:
            raise self._no_schema(error) from error

    def _schema_of_hints(self) -> JsonObject:
        from pydantic.errors import PydanticUserError

        try:
            return dict(self._adapter.json_schema())
        except PydanticUserError as error:  # a type that has no JSON form: a function, a class of one's own
            raise self._no_schema(error) from error

    def _no_schema(self, error: Exception) -> UsageError:
        return UsageError(f"the parameters of the tool {self.name!r} have no schema: {str(error).splitlines()[0]}")


@dataclass(frozen=True, kw_only=True)
class ValidArguments:
    """The arguments of one tool call, validated: `given` by the model, `values` as the function is called with."""

    tool: Tool
    given: JsonObject
    values: dict[str, Any]

    @cached_property
    def taken(self) -> JsonObject:
        """The arguments as the tool takes them, in JSON: defaults filled in, each value converted to its type.

        They are those that were given if the types have no JSON form.
        """
        if self.tool.parameters is not None:
            return {**_defaults(self.tool.parameters), **self.given}
        from pydantic_core import to_jsonable_python

        try:
            return dict(to_jsonable_python(self.values))
        except ValueError:
            return self.given


def _is_context(hint: Any) -> bool:
    """Return whether a parameter is annotated with `ToolContext`, or with a union that has it."""
    is_union = get_origin(hint) in (Union, UnionType)
    return hint is ToolContext or (is_union and ToolContext in get_args(hint))


def _defaults(schema: JsonObject) -> JsonObject:
    properties = schema.get("properties")
    hints = properties.items() if isinstance(properties, dict) else ()
    return {name: hint["default"] for name, hint in hints if isinstance(hint, dict) and "default" in hint}


class ToolInvocation:
    """One call of a tool. `abandoned` tells afterwards whether its code was left behind, still running; `started` is
    when it began (`time.monotonic()`), None before."""

    def __init__(self, tool: Tool) -> None:
        self.tool = tool
        self.started: float | None = None
        self._running: asyncio.Task[Any] | None = None
        self._on_thread = False

    @property
    def abandoned(self) -> bool:
        """Whether the tool's code could not be stopped and may still be running."""
        return self._on_thread or (self._running is not None and not self._running.done())

    async def run(self, arguments: ValidArguments) -> str:
        """Run the function and return its output as text, cut to `MAX_OUTPUT_CHARS`.

        A plain function runs on a daemon thread. One that does not end when it is told to, by its time limit or by
        cancellation, is left behind after `TOOL_STOP_SECONDS` and holds nothing up.

        Raises:
            ToolError: the function raised it, or it took too long.
            Exception: whatever else the function raises.
        """
        tool = self.tool
        self.started = time.monotonic()
        self._running = running = started(self._call(arguments.values))
        try:
            await asyncio.wait({running}, timeout=tool.timeout_s)
            if running.cancelled():  # by itself: a cancelled run does not come here
                raise ToolError("the tool cancelled itself")
            if running.done():
                return bounded(output_text(running.result()))
        finally:
            if not running.done():
                running.cancel()
                await asyncio.wait({running}, timeout=TOOL_STOP_SECONDS)
        left = "; it could not be stopped and may still be running" if self.abandoned else ""
        raise ToolError(f"the tool took longer than {tool.timeout_s:g} s{left}")

    async def _call(self, values: dict[str, Any]) -> Any:
        function = self.tool.function
        values = {**values, **dict.fromkeys(self.tool.context_parameters, tool_context())}
        try:
            if inspect.iscoroutinefunction(function):
                return await function(**values)
            value = await self._call_on_thread(values)
            return await value if inspect.isawaitable(value) else value
        except (SystemExit, KeyboardInterrupt) as error:  # neither may end the event loop
            raise ToolError(f"{type(error).__name__}: {error}") from None

    async def _call_on_thread(self, values: dict[str, Any]) -> Any:
        function = self.tool.function
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def finish(value: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

        def run() -> None:
            value: Any = None
            failure: BaseException | None = None
            try:
                value = context.run(function, **values)
            except BaseException as error:  # handed to the run, as one that a future and an event loop can take
                fit = isinstance(error, Exception) and not isinstance(error, StopIteration)
                failure = error if fit else ToolError(f"{type(error).__name__}: {error}")
            self._on_thread = False
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(finish, value, failure)

        name = getattr(function, "__name__", "function")
        self._on_thread = True
        threading.Thread(target=run, name=f"afk-tool-{name}", daemon=True).start()
        return await future


@overload
def tool(function: F) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    approval: Approval = "allow",
    timeout_s: float | None = None,
    idempotent: bool = False,
    changes: bool = True,
) -> Callable[[F], Tool]: ...
def tool(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    approval: Approval = "allow",
    timeout_s: float | None = None,
    idempotent: bool = False,
    changes: bool = True,
) -> Tool | Callable[[F], Tool]:
    """Make a tool of a typed function: `@tool` or `@tool(approval="ask", timeout_s=30)`.

    Args:
        name: what the model calls it; the function's name by default.
        description: what the model is told; the docstring by default.
        approval: "ask" to have each call allowed by a person or a rule.
        timeout_s: seconds after which a call fails.
        idempotent: whether a call that may have been made can be made again without harm.
        changes: whether a call may change something; a plugin's tool that does is asked about where no rule decides.
    """

    def make(target: Callable[..., Any]) -> Tool:
        return Tool(
            name=name or target.__name__,
            description=description or inspect.getdoc(target) or "",
            function=target,
            approval=approval,
            timeout_s=timeout_s,
            idempotent=idempotent,
            changes=changes,
        )

    return make(function) if function is not None else make


def as_tools(tools: Iterable[Tool | Callable[..., Any] | str]) -> dict[str, Tool]:
    """Return the tools by name, functions made into tools; names, which plugins answer to, are left out.

    Raises:
        UsageError: two have the same name, or one has none or no schema.
    """
    named: dict[str, Tool] = {}
    for item in tools:
        if isinstance(item, str):
            continue
        if not isinstance(item, Tool) and not hasattr(item, "__name__"):
            raise UsageError(f"{item!r} cannot be a tool: it has no name; make it one with tool(name=...)(...)")
        made = item if isinstance(item, Tool) else tool(item)
        if made.name in named:
            raise UsageError(f"two tools are named {made.name!r}; rename one with @tool(name=...)")
        named[made.name] = made
        _ = made.spec  # now, where it can still be refused
    return named


def output_text(value: object) -> str:
    """Return a tool's return value as text: text as it is, anything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return clean_text(value)
    try:
        return dumps(value)
    except JsonError:
        return clean_text(str(value))


def bounded(text: str, limit: int = MAX_OUTPUT_CHARS) -> str:
    """Return `text`, its middle cut out with a visible mark where it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters were cut out here ...]\n{text[-half:]}"
