"""Tools: their descriptions for a model, their calls, and that no failure of a tool ends the run."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import pytest

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.messages import ToolCallPart
from afkcli.core.contract.tools import MAX_OUTPUT_CHARS, Tool, ToolError, as_tools, bounded, tool
from tests.core.scripted import (
    Scripted,
    agent,
    answer,
    call,
    calls,
    completed,
    events_of,
    run_tool,
)


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int = 0


def called(function: Any, **arguments: Any) -> str:
    made = function if isinstance(function, Tool) else tool(function)
    return asyncio.run(made.call(arguments))


class TestSpec:
    def test_is_made_from_the_function(self) -> None:
        @tool
        def read(path: str, lines: int = 10, mode: Literal["text", "hex"] = "text") -> str:
            """Read a file."""
            return path

        spec = read.spec
        assert (spec.name, spec.description) == ("read", "Read a file.")
        assert spec.parameters["required"] == ["path"]
        assert list(spec.parameters["properties"]) == ["path", "lines", "mode"]
        assert spec.parameters["properties"]["mode"]["enum"] == ["text", "hex"]
        assert spec.parameters["additionalProperties"] is False

    def test_name_and_description_can_be_given(self) -> None:
        @tool(name="files.read", description="Reads.", approval="ask", timeout_s=3)
        def read() -> None: ...

        assert (read.name, read.spec.description, read.approval, read.timeout_s) == ("files.read", "Reads.", "ask", 3)
        assert read.spec.parameters["properties"] == {}

    def test_parameters_may_have_any_name(self) -> None:
        @tool
        def odd(schema: str, copy: int, _private: int, model_config: str, validate: bool = True) -> dict[str, Any]:
            return {"schema": schema, "copy": copy, "_private": _private, "model_config": model_config}

        given = {"schema": "s", "copy": 1, "_private": 2, "model_config": "m"}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert set(odd.spec.parameters["properties"]) == {*given, "validate"}
            assert called(odd, **given) == '{"schema":"s","copy":1,"_private":2,"model_config":"m"}'

    @pytest.mark.parametrize("source", ["*many", "**more", "a, /", "a: Nope", "a: object()"])
    def test_a_function_without_a_schema_is_refused_by_name(self, source: str) -> None:
        scope: dict[str, Any] = {}
        exec(f"def broken({source}): ...", scope) if "Nope" not in source else exec(
            f"from __future__ import annotations\ndef broken({source}): ...", scope
        )
        with pytest.raises(UsageError, match="broken"):
            as_tools([scope["broken"]])

    def test_duplicate_and_missing_names_are_refused(self) -> None:
        def same() -> None: ...

        with pytest.raises(UsageError, match="two tools"):
            as_tools([same, tool(same)])
        with pytest.raises(UsageError, match="has no name"):
            as_tools([functools.partial(same)])


class TestArguments:
    def test_are_converted_to_the_types_of_the_function(self) -> None:
        def take(point: Point, colour: Colour, numbers: tuple[int, ...], flag: bool | None = None) -> str:
            assert isinstance(point, Point)
            return f"{point.x} {colour.name} {numbers} {flag}"

        assert called(take, point={"x": 1}, colour="red", numbers=[1, 2]) == "1 RED (1, 2) None"

    def test_that_are_invalid_are_reported_to_the_model(self) -> None:
        def take(number: int) -> None: ...

        for arguments, said in (
            ({"number": "x"}, "number: "),
            ({}, "number: "),
            ({"number": 1, "extra": 2}, "extra: "),
        ):
            reported = run_tool(take, **arguments)
            assert not reported.tool_success
            assert said in (reported.tool_error or "")

    def test_that_are_not_an_object_are_reported_to_the_model(self) -> None:
        part = ToolCallPart(id="c1", name="f", arguments={}, invalid_arguments='{"a": ')
        events = events_of(Scripted(calls(part), answer("ok")), agent(tools=[tool(name="f")(lambda: "x")]))
        assert "not a JSON object" in (completed(events)[0].tool_error or "")

    def test_an_unknown_tool_is_answered_with_the_known_ones(self) -> None:
        def known() -> None: ...

        events = events_of(Scripted(calls(call("nope")), answer("ok")), agent(tools=[known]))
        assert completed(events)[0].tool_error == "there is no tool 'nope'; the tools are: known"


class TestCalling:
    @pytest.mark.parametrize(
        ("value", "text"),
        [("a", "a"), (None, ""), (3, "3"), ({"a": [1]}, '{"a":[1]}'), (Point(1), '{"x":1,"y":0}'), ({1}, "{1}")],
    )
    def test_return_values_become_text(self, value: Any, text: str) -> None:
        assert called(lambda_tool(lambda: value)) == text

    def test_async_functions_and_those_that_return_an_awaitable(self) -> None:
        async def direct() -> str:
            return "a"

        @tool
        def hidden() -> Any:
            return direct()

        assert called(direct) == "a"
        assert called(hidden) == "a"

    def test_a_plain_function_runs_on_a_thread_with_the_callers_context(self) -> None:
        variable = contextvars.ContextVar("variable", default="unset")

        def where() -> str:
            return f"{threading.current_thread().name} {variable.get()}"

        variable.set("set")
        assert called(where) == "afk-tool-where set"

    def test_long_output_is_cut_in_the_middle_with_a_mark(self) -> None:
        text = called(lambda_tool(lambda: "a" * MAX_OUTPUT_CHARS + "b" * MAX_OUTPUT_CHARS))
        assert text.startswith("a" * 100)
        assert text.endswith("b" * 100)
        assert f"{MAX_OUTPUT_CHARS} characters were cut out" in text
        assert bounded("a" * MAX_OUTPUT_CHARS) == "a" * MAX_OUTPUT_CHARS

    def test_long_errors_are_cut_too_and_have_no_lone_surrogates(self) -> None:
        def fail() -> None:
            raise OSError("\udc80" + "x" * 3 * MAX_OUTPUT_CHARS)

        error = run_tool(fail).tool_error or ""
        assert len(error) < MAX_OUTPUT_CHARS + 200
        error.encode("utf-8")


def lambda_tool(function: Callable[[], Any]) -> Tool:
    return tool(name="lambda")(function)


def test_the_core_has_no_tools_of_its_own() -> None:
    model = Scripted(answer("ok"))
    events_of(model)
    assert list(model.requests[0].tools) == []


def test_a_tool_may_have_its_own_schema() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    made = Tool(name="geo.weather", description="", function=lambda arguments: arguments["city"], parameters=schema)
    assert made.spec.parameters == schema
    assert called(made, city="Bern") == "Bern"
    with pytest.raises(ToolError, match=r"wrong arguments for geo.weather: city: 7 is not of type 'string'"):
        called(made, city=7)


def test_a_fingerprint_changes_with_the_spec() -> None:
    def made(description: str, kind: str) -> Tool:
        schema = {"type": "object", "properties": {"city": {"type": kind}}}
        return Tool(name="geo.weather", description=description, function=str, parameters=schema)

    prints = {made(*said).fingerprint for said in (("a", "string"), ("b", "string"), ("a", "integer"))}
    assert len(prints) == 3
    assert made("a", "string").fingerprint in prints
