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
from afkcli.core.contract.jsonform import JsonObject, canonical
from afkcli.core.contract.messages import ToolSpec
from afkcli.core.contract.previews import Preview, preview_problem
from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.contract.tasks import started

# Plugins of version 0.1 import the two last ones from here.
from afkcli.core.contract.tool_output import MAX_OUTPUT_CHARS, ToolOutput, bounded, tool_output  # noqa: F401

TOOL_STOP_SECONDS = 0.25
"""How long a stopped tool may take to clean up."""

Approval = Literal["allow", "ask"]
F = TypeVar("F", bound=Callable[..., Any])


class Toolset(Protocol):
    """Tools that are known only after a server was asked for them. A toolset belongs to one event loop."""

    @property
    def namespaces(self) -> Sequence[str]:
        """The parts before the first dot in the names of its tools: `server` in `server.tool`."""
        ...

    async def list_tools(self, namespaces: Sequence[str]) -> Sequence[Tool]:
        """Return all tools of these namespaces; from a cache if nothing has to be started for it.

        To report a problem that does not prevent this, call `tool_context().warn(code, message)`.

        Raises:
            ToolError: the tools of a namespace cannot be listed, and why. The run continues without them and warns.
        """
        ...

    async def aclose(self) -> None:
        """Stop what was started, within a second; after 5 s it is left behind, with a line on stderr (since 0.2)."""
        ...


Tools: TypeAlias = Mapping[str, "Tool"]
"""The tools of a run, by name."""

FoundTools: TypeAlias = tuple[Sequence["Tool"], Sequence[str]]
"""The tools that were found by their names, and a line for each name that could not be found."""


class ToolError(Exception):
    """An error of a tool call; the model gets its message. Raise it in a tool to say why the call failed."""


def _ignore(*_: str) -> None:
    """Ignore a report outside a run."""


class ToolContext(FrozenStruct, kw_only=True, weakref=True):
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

    `approval="ask"` means that a person or a rule must allow each call. `timeout_s` is in seconds, None for no limit.
    `idempotent` means that a call may be made twice: a run that resumes a turn repeats a call that did not finish.

    The other fields are for plugins. `changes` means that a call may change something, so it needs approval if no rule
    decides. `pinned` means that others may change the tool at any time (the tool of a server), so a rule that allows it
    must name its `fingerprint`. `parameters` is the JSON Schema of the arguments, for a function whose type hints do
    not give one. Such a function has the parameter `arguments` and gets all arguments in it, validated against the
    schema (against its `outline` if the tool is pinned). `preview` says how a call reads when a person is asked about
    it; without one it is shown as fields (since 0.2). afk sets `from_plugin` on the tools of plugins, which follow the
    approval rules.
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
    preview: Preview | None = None

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 (hex) of the tool's name, description and schema; a rule pins it."""
        said = canonical([self.spec.name, self.spec.description, self.spec.parameters])
        return hashlib.sha256(said.encode()).hexdigest()

    @cached_property
    def spec(self) -> ToolSpec:
        """The tool as the model sees it; pydantic makes the JSON Schema of the parameters from the type hints.

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
        except Exception:  # unreadable hints; `spec` reports them if the schema needs them
            return ()
        return tuple(name for name, hint in hints.items() if name != "return" and _is_context(hint))

    async def call(self, arguments: JsonObject) -> str:
        """Validate `arguments`, call the tool once and return its output as text, a mark in the place of an image.

        It raises as `validate` and `ToolInvocation.run`.
        """
        return (await self.output(arguments)).text

    async def output(self, arguments: JsonObject) -> ToolOutput:
        """As `call`, but return the output with its images.

        Since: 0.2.
        """
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
        except PydanticUserError as error:  # a type without a JSON form, such as a function
            raise self._no_schema(error) from error

    def _no_schema(self, error: Exception) -> UsageError:
        return UsageError(f"the parameters of the tool {self.name!r} have no schema: {str(error).splitlines()[0]}")


class ValidArguments(FrozenStruct, kw_only=True, dict=True):
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
    """One call of a tool. `started` is when it started (`time.monotonic()`), None before."""

    def __init__(self, tool: Tool) -> None:
        self.tool = tool
        self.started: float | None = None
        self._running: asyncio.Task[Any] | None = None
        self._on_thread = False

    @property
    def abandoned(self) -> bool:
        """Whether the tool's code could not be stopped and may still be running."""
        return self._on_thread or (self._running is not None and not self._running.done())

    async def run(self, arguments: ValidArguments) -> ToolOutput:
        """Run the function and return its output: text, cut to `MAX_OUTPUT_CHARS`, and images.

        A plain function runs in a daemon thread. A call that does not stop at its time limit, or when it is cancelled,
        is abandoned after `TOOL_STOP_SECONDS`: nothing waits for it.

        Raises:
            ToolError: the function raised it, or it took too long.
            Exception: whatever else the function raises.
        """
        tool = self.tool
        self.started = time.monotonic()
        self._running = running = started(self._call(arguments.values))
        try:
            await asyncio.wait({running}, timeout=tool.timeout_s)
            if running.cancelled():  # by itself; a cancelled run does not get here
                raise ToolError("the tool cancelled itself")
            if running.done():
                return tool_output(running.result())
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
            except BaseException as error:  # passed to the run, in a form that a future accepts
                fit = isinstance(error, Exception) and not isinstance(error, StopIteration)
                failure = error if fit else ToolError(f"{type(error).__name__}: {error}")
            self._on_thread = False
            with contextlib.suppress(RuntimeError):  # the loop is closed, so no one waits for the result
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
    preview: Preview | None = None,
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
    preview: Preview | None = None,
) -> Tool | Callable[[F], Tool]:
    """Make a tool of a typed function: `@tool` or `@tool(approval="ask", timeout_s=30)`.

    Args:
        name: the name that the model uses; the function's name by default.
        description: what the model reads about it; the docstring by default.
        approval: "ask" if a person or a rule must allow each call.
        timeout_s: seconds after which a call fails.
        idempotent: whether a call can be repeated without harm.
        changes: whether a call may change something; then the tool of a plugin needs approval if no rule decides.
        preview: how a call reads when a person is asked about it: `CommandPreview` or `ChangePreview`. Since: 0.2.
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
            preview=preview,
        )

    return make(function) if function is not None else make


def as_tools(tools: Iterable[Tool | Callable[..., Any] | str]) -> dict[str, Tool]:
    """Return functions and tools as tools by name; the names of plugin tools are left out.

    Raises:
        UsageError: two tools have the same name, or one has no name, no schema, or a preview that does not fit it.
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
        problem = None if made.preview is None else preview_problem(made.preview, made.spec.parameters)
        if problem is not None:
            raise UsageError(f"the preview of the tool {made.name!r} {problem}")
        _ = made.spec  # now, before the run starts
    return named
