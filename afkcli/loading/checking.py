"""Checks the object that a plugin's hook returned against its protocol, before anything else uses it.

It checks what can be known without a call: that each member of the protocol is there, that methods can be called, and
that those are asynchronous which have to be, and no others.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from afkcli.core.contract.errors import PluginContractError

Member = Callable[[str, Any], str | None]
"""Returns what is wrong with a member of this name and value, or None."""

_ASYNC_RESULTS = ("Awaitable", "Coroutine", "Future", "Task")


def checked(kind: str, plugin: str, made: Any) -> Any:
    """Return what the hook `afk_<kind>` of a plugin returned; tools that come as any iterable become a list.

    Args:
        kind: `provider`, `store`, `sink`, `tools`, `engine` or `command`.
        plugin: `<kind>.<name>`, for the error.
        made: the object.

    Raises:
        PluginContractError: the object does not fit; the error names the plugin, and each member that is missing or
            wrong.
    """
    article, wrong = _ARTICLES[kind], _not_an_instance(made)
    if wrong is None:
        if kind == "tools" and not hasattr(made, "list_tools"):
            made, wrong = _tool_list(made)
        elif kind == "command":
            wrong = _not_a_command(made)
        else:
            wrong = "; ".join(_wrong_members(made, _PROTOCOLS[kind]))
    if wrong:
        hint = _BASE_HINT if kind == "provider" and " has no `" in wrong else ""
        raise PluginContractError(f"the plugin {plugin} did not return {article}: {wrong}{hint}")
    return made


_BASE_HINT = "; afkcli.plugin.BaseProvider has all but `name` and `stream`"
_ARTICLES = {
    "provider": "a provider",
    "store": "a store",
    "sink": "a sink",
    "tools": "tools",
    "engine": "an engine",
    "command": "a command",
}


def _not_an_instance(made: Any) -> str | None:
    """Return what is wrong with an object that no protocol takes, or None."""
    if made is None:
        return "its hook returned None"
    if inspect.iscoroutine(made):
        made.close()
        return "its hook returned a coroutine; write the hook without `async`"
    if inspect.isclass(made):
        return f"its hook returned the class {made.__name__}; return an instance of it"
    return None


def _wrong_members(made: Any, protocol: Mapping[str, Member]) -> Iterator[str]:
    """Yield what is wrong with each member that an object must have."""
    missing = []
    for name, check in protocol.items():
        try:
            value = getattr(made, name)
        except AttributeError as error:
            if inspect.getattr_static(made, name, None) is None:
                missing.append(f"`{name}`")
            else:  # a property that fails
                yield f"its `{name}` raised AttributeError: {error}"
            continue
        except Exception as error:
            yield f"its `{name}` raised {type(error).__name__}: {error}"
            continue
        problem = check(name, value)
        if problem is not None:
            yield problem
    if missing:
        yield f"{_described(made)} has no {', '.join(missing)}"


def _tool_list(made: Any) -> tuple[Any, str | None]:
    """Return a list of tools, and what is wrong with it, or None."""
    from afkcli.core.contract.tools import Tool

    if isinstance(made, Tool):
        return made, "its hook returned one Tool; return a list of tools"
    if isinstance(made, (str, bytes, Mapping)) or not isinstance(made, Iterable):
        return made, f"{_described(made)} is neither a list of tools nor a Toolset (with `list_tools`)"
    tools = list(made)
    wrong = [(number, item) for number, item in enumerate(tools, 1) if not isinstance(item, Tool)]
    if not wrong:
        return tools, None
    number, item = wrong[0]
    hint = "; make it a tool with @tool" if inspect.isroutine(item) else ""
    return tools, f"item {number} of its tools is {_described(item)}, not a Tool{hint}"


def _not_a_command(made: Any) -> str | None:
    import click

    return None if isinstance(made, click.Command) else f"{_described(made)} is not a click.Command"


def _described(made: Any) -> str:
    """Return an object for an error: its type, and itself where it is plain."""
    if isinstance(made, (bool, int, float, str)):
        return f"{made!r:.40} ({type(made).__name__})"
    return f"an object of type {type(made).__name__}"


# -- the members ---------------------------------------------------------------------------------------------------


def _text(name: str, value: Any) -> str | None:
    return None if isinstance(value, str) and value else f"its `{name}` is {value!r:.40}; a text is needed"


def _text_or_none(name: str, value: Any) -> str | None:
    return (
        None if value is None or isinstance(value, str) else f"its `{name}` is {value!r:.40}; a text or None is needed"
    )


def _names(name: str, value: Any) -> str | None:
    fits = isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(item, str) for item in value)
    return None if fits else f"its `{name}` is {value!r:.40}; a list of texts is needed"


def _plain(name: str, value: Any) -> str | None:
    if not callable(value):
        return f"its `{name}` is not a method"
    return f"its `{name}` must not be `async`" if _is_async(value) else None


def _async(name: str, value: Any) -> str | None:
    if not callable(value):
        return f"its `{name}` is not a method"
    return None if _is_async(value) or _says_async(value) else f"its `{name}` must be `async`"


def _async_generator(name: str, value: Any) -> str | None:
    """Take an asynchronous generator function, or a plain one, which may return an asynchronous iterator."""
    if not callable(value):
        return f"its `{name}` is not a method"
    function = inspect.unwrap(value)
    if inspect.iscoroutinefunction(function):
        return f"its `{name}` is a coroutine; it must yield its events"
    if inspect.isgeneratorfunction(function):
        return f"its `{name}` must be an `async` generator"
    return None


def _is_async(value: Any) -> bool:
    """Return whether a call gives a coroutine or an asynchronous iterator, as far as the function tells."""
    candidates = (value, inspect.unwrap(value), type(value).__call__)
    return any(inspect.iscoroutinefunction(item) or inspect.isasyncgenfunction(item) for item in candidates)


def _says_async(value: Any) -> bool:
    """Return whether a plain function says that it returns something to be awaited: a coroutine of another object."""
    annotation = getattr(inspect.unwrap(value), "__annotations__", {}).get("return")
    return any(word in str(annotation) for word in _ASYNC_RESULTS)


_STORE_METHODS = (
    *("acquire", "holder", "renew", "release", "append", "load", "content", "find", "list", "delete", "add"),
    "close",
)
_ENGINE_METHODS = (
    *("create", "batch", "batches", "pause", "remove"),
    *("submit", "prompts", "outcomes", "watch", "retry", "cancel"),
    *("join", "claim", "reserve", "use", "slow_down", "settle", "take_over", "aclose"),
)
_PROTOCOLS: Mapping[str, Mapping[str, Member]] = {
    "provider": {
        "name": _text,
        "default_model": _text_or_none,
        "stream": _async_generator,
        "capabilities": _plain,
        "list_models": _async,
        "count_tokens": _async,
        "prepare": _async,
        "aclose": _async,
    },
    "store": dict.fromkeys(_STORE_METHODS, _plain),
    "sink": {"name": _text, "emit": _plain, "close": _plain},
    "tools": {"namespaces": _names, "list_tools": _async, "aclose": _async},
    "engine": {"name": _text, **dict.fromkeys(_ENGINE_METHODS, _async)},
}
"""The members of `Provider`, `Store`, `Sink`, `Toolset` and `Engine` in `afkcli.plugin`; a test compares the names."""
