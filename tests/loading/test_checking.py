"""Every object that a hook returns is checked against its protocol."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Protocol

import click
import pytest

from afkcli import MemoryStore, tool
from afkcli.core.contract.errors import EXIT_USAGE, PluginContractError
from afkcli.loading import checking
from afkcli.loading.checking import checked
from afkcli.plugin import BaseProvider, Capabilities, Engine, ModelEvent, ModelRequest, Provider, Sink, Store, Toolset

PROTOCOLS: dict[str, Any] = {"provider": Provider, "store": Store, "sink": Sink, "tools": Toolset, "engine": Engine}


class GoodProvider:
    name = "good"
    default_model = None

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        return
        yield

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities()

    async def list_models(self) -> list[Any]:
        return []

    async def count_tokens(self, request: ModelRequest) -> int:
        return 0

    async def prepare(self) -> None: ...

    async def aclose(self) -> None: ...


class GoodSink:
    name = "good"

    def emit(self, event: Any) -> None: ...

    def close(self) -> None: ...


class GoodToolset:
    namespaces = ("good",)

    async def list_tools(self, namespaces: Any) -> list[Any]:
        return []

    async def aclose(self) -> None: ...


async def _nothing(self: Any, *rest: Any, **named: Any) -> None: ...


GoodEngine: Any = type(
    "GoodEngine", (), {"name": "good", **{name: _nothing for name in vars(Engine) if name[0] != "_" and name != "name"}}
)


@tool(name="good.tool")
def good_tool() -> str:
    return ""


GOOD: dict[str, Callable[[], Any]] = {
    "provider": GoodProvider,
    "store": MemoryStore,
    "sink": GoodSink,
    "tools": GoodToolset,
    "engine": GoodEngine,
    "command": lambda: click.Command("good"),
}


def refused(kind: str, made: Any) -> str:
    """Return the error for an object that does not fit."""
    with pytest.raises(PluginContractError) as raised:
        checked(kind, f"{kind}.odd", made)
    assert raised.value.exit_code == EXIT_USAGE
    line = str(raised.value)
    assert line.startswith(f"the plugin {kind}.odd did not return ")
    assert "\n" not in line
    return line


def members(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if not name.startswith("_")}


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_the_members_that_are_checked_are_those_of_the_protocol(kind: str) -> None:
    assert set(checking._PROTOCOLS[kind]) == members(PROTOCOLS[kind])
    assert issubclass(PROTOCOLS[kind], Protocol)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", GOOD)
def test_an_object_that_fits_is_returned(kind: str) -> None:
    made = GOOD[kind]()
    assert checked(kind, f"{kind}.good", made) is made


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("odd", [42, "text", True, 1.5, b"bytes", object(), {"a": 1}])
def test_an_object_of_another_type_is_refused(kind: str, odd: Any) -> None:
    assert type(odd).__name__ in refused(kind, odd)


@pytest.mark.parametrize("kind", GOOD)
def test_none_is_refused(kind: str) -> None:
    assert refused(kind, None).endswith("its hook returned None")


@pytest.mark.parametrize("kind", GOOD)
def test_a_coroutine_is_refused_and_leaves_no_warning(kind: str) -> None:
    async def hook() -> Any:
        return GOOD[kind]()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "returned a coroutine; write the hook without `async`" in refused(kind, hook())


@pytest.mark.parametrize(
    ("kind", "named"), [("provider", GoodProvider), ("sink", GoodSink), ("command", click.Command)]
)
def test_a_class_instead_of_an_instance_is_refused(kind: str, named: type) -> None:
    assert f"the class {named.__name__}; return an instance of it" in refused(kind, named)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in PROTOCOLS for name in sorted(members(PROTOCOLS[kind])) if name != "list_tools"],
)
def test_an_object_without_one_member_is_refused_and_the_member_named(kind: str, name: str) -> None:
    class Lacking:
        pass

    made = GOOD[kind]()
    for other in members(PROTOCOLS[kind]) - {name}:
        setattr(Lacking, other, inspect.getattr_static(type(made), other))

    assert f"an object of type Lacking has no `{name}`" in refused(kind, Lacking())


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_members_that_cannot_be_called_or_have_the_wrong_type_are_named(kind: str) -> None:
    made = GOOD[kind]()
    for name in members(PROTOCOLS[kind]) - {"list_tools"}:
        odd = type("Odd", (type(made),), {name: 3})()
        assert f"its `{name}` is " in refused(kind, odd)


@pytest.mark.parametrize("error", [ValueError("no file"), AttributeError("no file")])
def test_a_property_that_raises_is_named_with_its_error(error: Exception) -> None:
    class Odd(GoodSink):
        @property
        def name(self) -> str:  # type: ignore[override]
            raise error

    assert refused("sink", Odd()).endswith(f"its `name` raised {type(error).__name__}: no file")


def test_several_problems_are_named_at_once() -> None:
    class Odd:
        name = ""

        async def emit(self, event: Any) -> None: ...

    line = refused("sink", Odd())
    assert "its `name` is ''; a text is needed" in line
    assert "its `emit` must not be `async`" in line
    assert "an object of type Odd has no `close`" in line


class TestAsync:
    @pytest.mark.parametrize("name", ["list_models", "count_tokens", "prepare", "aclose"])
    def test_a_plain_function_is_refused_where_a_coroutine_is_needed(self, name: str) -> None:
        odd = type("Odd", (GoodProvider,), {name: lambda self, *rest: None})()
        assert refused("provider", odd).endswith(f"its `{name}` must be `async`")

    def test_a_store_with_an_async_method_is_refused(self) -> None:
        async def find(self: Any, name: str) -> None: ...

        assert refused("store", type("Odd", (MemoryStore,), {"find": find})()).endswith("`find` must not be `async`")

    def test_what_gives_a_coroutine_fits_however_it_is_written(self) -> None:
        good = GoodProvider()

        def logged(function: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(function)
            def call(*arguments: Any) -> Any:
                return function(*arguments)

            return call

        class Called:
            async def __call__(self) -> None: ...

        class Written(GoodProvider):
            list_models = logged(GoodProvider.list_models)

            def prepare(self) -> Awaitable[None]:  # type: ignore[override]
                return good.prepare()

            def aclose(self) -> Coroutine[Any, Any, None]:
                return good.aclose()

        made = Written()
        made.count_tokens = functools.partial(good.count_tokens)  # type: ignore[method-assign]
        assert checked("provider", "provider.good", made) is made
        made.prepare = Called()  # type: ignore[method-assign,assignment]
        assert checked("provider", "provider.good", made) is made


class TestStream:
    def test_a_plain_function_that_returns_an_iterator_fits(self) -> None:
        class Plain(GoodProvider):
            def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
                return GoodProvider().stream(request)

        made = Plain()
        assert checked("provider", "provider.good", made) is made

    def test_a_coroutine_and_a_plain_generator_are_refused(self) -> None:
        class Returns(GoodProvider):
            async def stream(self, request: ModelRequest) -> Any:
                return []

        class Yields(GoodProvider):
            def stream(self, request: ModelRequest) -> Any:
                yield None

        assert refused("provider", Returns()).endswith("its `stream` is a coroutine; it must yield its events")
        assert refused("provider", Yields()).endswith("its `stream` must be an `async` generator")

    def test_the_base_provider_fits(self) -> None:
        class Based(BaseProvider):
            name = "based"

            async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
                return
                yield

        made = Based()
        assert checked("provider", "provider.based", made) is made

    def test_a_base_provider_without_a_name_is_refused(self) -> None:
        class Nameless(BaseProvider):
            async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
                return
                yield

        assert "has no `name`; afkcli.plugin.BaseProvider has all but" in refused("provider", Nameless())


class TestTools:
    def test_any_iterable_of_tools_becomes_a_list(self) -> None:
        for made in ([good_tool], (good_tool,), {good_tool: 1}.keys(), iter([good_tool])):
            assert checked("tools", "tools.good", made) == [good_tool]
        assert checked("tools", "tools.good", []) == []

    def test_what_is_not_a_tool_is_named_with_its_place(self) -> None:
        def plain() -> str:
            return ""

        assert refused("tools", [good_tool, 42]).endswith("item 2 of its tools is 42 (int), not a Tool")
        assert "item 1 of its tools is 'good.tool' (str)" in refused("tools", ["good.tool"])
        assert refused("tools", [plain]).endswith("not a Tool; make it a tool with @tool")
        assert refused("tools", good_tool).endswith("returned one Tool; return a list of tools")
