"""JSON Schemas that others wrote: usable or not, a value that fits or not."""

from __future__ import annotations

from typing import ClassVar

import pytest

from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.schemas import MAX_PROBLEMS, outline, problems, schema_problem, unresolved_reference

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "size": {"type": "integer"}},
    "required": ["city"],
}


def test_a_value_that_fits_has_no_problems() -> None:
    assert problems({"city": "Bern", "size": 3}, CITY) == []


def test_each_problem_says_where_and_what_was_expected() -> None:
    assert set(problems({"size": "big"}, CITY)) == {
        "the value: 'city' is a required property",
        "size: 'big' is not of type 'integer'",
    }


def test_only_the_first_problems_are_named() -> None:
    assert len(problems([None] * 100, {"items": {"type": "string"}})) == MAX_PROBLEMS


@pytest.mark.parametrize("reference", ["http://127.0.0.1:9/schema.json", "file:///etc/passwd", "#/nowhere"])
def test_a_reference_is_never_fetched(reference: str) -> None:
    found = problems({"city": 1}, {"$ref": reference})
    assert len(found) == 1
    assert "cannot be applied" in found[0]


@pytest.mark.parametrize(
    ("schema", "why"),
    [([], "JSON object"), ({"type": "text"}, "type"), ({"properties": {"a": {"type": 3}}}, "properties.a.type")],
)
def test_a_schema_that_is_none_is_told_from_one(schema: object, why: str) -> None:
    problem = schema_problem(schema)
    assert problem is not None
    assert why in problem
    assert schema_problem(CITY) is None


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}},
        {"$ref": "#"},
        {"properties": {"$ref": {"type": "string"}}, "const": {"$ref": "#/nowhere"}},
        {"$defs": {"a": {"$anchor": "b"}}, "items": {"$ref": "#b"}},
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "definitions": {"a": True},
            "not": {"$ref": "#/definitions/a"},
        },
    ],
)
def test_a_reference_inside_the_schema_is_found(schema: dict[str, object]) -> None:
    assert unresolved_reference(schema) is None


@pytest.mark.parametrize("reference", ["http://127.0.0.1:9/schema.json", "#/nowhere", "#nowhere", "other.json"])
def test_one_that_leads_nowhere_is_named_however_deep_it_stands(reference: str) -> None:
    problem = unresolved_reference({"properties": {"a": {"items": {"anyOf": [{}, {"$ref": reference}]}}}})
    assert problem is not None
    assert repr(reference) in problem


class TestOutline:
    schema: ClassVar[JsonObject] = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 5},
            "pattern": {"enum": ["a", "b"]},
            "count": {"type": ["integer", "null"], "minimum": 1, "exclusiveMinimum": True},
            "list": {"type": "array", "items": {"type": "number"}},
            "choice": {"oneOf": [{"type": "string", "pattern": "^a"}, {"type": "string", "pattern": "^b"}]},
            "both": {"allOf": [{"type": "object"}, {"required": ["x"]}]},
        },
        "required": ["name"],
        "additionalProperties": False,
    }

    @pytest.mark.parametrize(
        ("value", "found"),
        [
            ({"name": "a", "pattern": "b", "count": None, "list": [1, 2.5], "choice": "c", "both": {"x": 1}}, []),
            ({}, ["the value: 'name' is a required property"]),
            ({"name": "longer"}, ["name: 'longer' is too long"]),
            ({"name": "a", "pattern": "c"}, ["pattern: 'c' is not one of ['a', 'b']"]),
            ({"name": "a", "count": 0}, ["count: 0 is less than the minimum of 1"]),
            ({"name": "a", "list": ["x"]}, ["list.0: 'x' is not of type 'number'"]),
            ({"name": "a", "choice": 1}, ["choice: 1 is not valid under any of the given schemas"]),
            ({"name": "a", "both": {}}, ["both: 'x' is a required property"]),
            ({"name": "a", "z": 1}, ["the value: Additional properties are not allowed ('z' was unexpected)"]),
        ],
    )
    def test_says_what_types_names_choices_and_bounds_say(self, value: JsonObject, found: list[str]) -> None:
        assert problems(value, outline(self.schema)) == found

    @pytest.mark.parametrize(
        "schema",
        [
            {"properties": {"a": {"pattern": "^(a+)+$"}}},
            {"patternProperties": {"^(a+)+$": {"type": "null"}}, "additionalProperties": False},
            {"propertyNames": {"pattern": "^(a+)+$"}},
            {"$ref": "#/$defs/0", "$defs": {str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(60)}},
            {"$ref": "#"},
            {"$ref": "https://example.com/schema"},
        ],
    )
    def test_holds_nothing_that_can_take_for_ever(self, schema: JsonObject) -> None:
        """Each of these takes longer than anybody waits, or cannot be applied, as it is."""
        evil = "a" * 60 + "!"

        assert problems({"a": evil, evil: 1}, outline(schema)) == []
