"""JSON Schemas that others wrote: usable or not, a value that fits or not."""

from __future__ import annotations

from typing import ClassVar

import pytest

from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.schemas import (
    MAX_PROBLEMS,
    NOT_APPLICABLE,
    check,
    outline,
    problems,
    schema_problem,
    unchecked_in,
    unresolved_reference,
    unusable,
)

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "size": {"type": "integer"}},
    "required": ["city"],
}


def test_a_value_that_fits_has_no_problems() -> None:
    assert problems({"city": "Bern", "size": 3}, CITY) == []


def test_each_problem_names_its_place_and_the_expected_value() -> None:
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
def test_an_invalid_schema_is_distinguished_from_a_valid_one(schema: object, why: str) -> None:
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
def test_one_that_leads_nowhere_is_named_at_any_depth(reference: str) -> None:
    problem = unresolved_reference({"properties": {"a": {"items": {"anyOf": [{}, {"$ref": reference}]}}}})
    assert problem is not None
    assert repr(reference) in problem


class TestPatternsOfOtherDialects:
    def test_a_unicode_property_is_checked(self) -> None:
        schema = {"type": "string", "pattern": "^\\p{L}+$"}

        assert unusable(schema) is None
        assert unchecked_in(schema) == []
        assert problems("Zoë", schema) == []
        assert problems("Z0e", schema) == ["the value: 'Z0e' does not match '^\\\\p{L}+$'"]

    @pytest.mark.parametrize("pattern", ["(?i)^yes$", "\\Ayes\\Z", "^(?P<a>yes)$", "["])
    def test_one_that_cannot_be_checked_is_passed_on_and_named(self, pattern: str) -> None:
        schema = {"properties": {"a": {"type": "string", "pattern": pattern}}}

        assert unusable(schema) is None
        assert problems({"a": "no"}, schema) == []
        [line] = check({"a": "no"}, schema).unchecked
        assert [line] == unchecked_in(schema)
        assert repr(pattern) in line

    def test_names_that_match_it_are_not_called_unexpected(self) -> None:
        schema = {"patternProperties": {"(?i)^x": {"type": "integer"}}, "additionalProperties": False}

        assert problems({"X1": "a"}, schema) == []
        assert problems({"X1": "a"}, {**schema, "patternProperties": {"^x": {}}}) == [
            "the value: 'X1' does not match any of the regexes: '^x'"
        ]

    @pytest.mark.parametrize(
        "schema",
        [
            {"pattern": "^(a|aa)+$"},
            {"items": {"pattern": "^(a|aa)+$"}},
            {"additionalProperties": {"allOf": [{"pattern": f"^(a|aa)+${n}"} for n in range(500)]}},
        ],
    )
    def test_one_that_backtracks_is_given_up_and_named(self, schema: JsonObject) -> None:
        evil = "a" * 100 + "!"
        value = evil if "pattern" in schema else [evil] * 1000 if "items" in schema else {"a": evil}

        findings = check(value, schema)

        assert findings.problems == []
        assert "takes longer than" in findings.unchecked[0]

    def test_references_that_double_come_to_an_end(self) -> None:
        steps: JsonObject = {str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(60)}
        schema = {"$ref": "#/$defs/0", "$defs": {**steps, "60": {}}}

        assert problems(1, schema) == [f"{NOT_APPLICABLE}: checking a value takes longer than 1 s"]
        assert unusable(schema) == problems(1, schema)[0]

    def test_a_pattern_below_a_schema_that_names_its_draft_is_read_in_the_same_way(self) -> None:
        node = {"type": "object", "properties": {"next": {"$ref": "#"}, "name": {"pattern": "^\\p{Lu}"}}}
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **node}

        assert problems({"next": {"next": {"name": "a"}}}, schema) == [
            "next.next.name: 'a' does not match '^\\\\p{Lu}'"
        ]


class TestOtherDrafts:
    @pytest.mark.parametrize("named", ["https://example.com/own-schema", "draft-07", "", 7, ["a"], None])
    def test_an_unknown_one_is_read_as_the_latest_and_named(self, named: object) -> None:
        schema = {"$schema": named, "type": "object", "properties": {"a": {"type": "integer"}}}

        assert unusable(schema) is None
        assert problems({"a": "x"}, schema) == ["a: 'x' is not of type 'integer'"]
        said = [] if named is None else [f"its $schema {named!r} is not known, so it is read as draft 2020-12"]
        assert unchecked_in(schema) == said

    def test_draft_03_is_read_as_that(self) -> None:
        person = {"type": "object", "properties": {"age": {"type": "integer", "required": True, "divisibleBy": 2}}}
        schema = {"$schema": "http://json-schema.org/draft-03/schema#", **person}

        assert unusable(schema) is None
        assert problems({"age": 2}, schema) == []
        assert problems({}, schema) == ["age: 'age' is a required property"]
        assert problems({"age": 3}, schema) == ["age: 3 is not a multiple of 2"]

    def test_draft_03_that_does_not_say_so_gets_one_line(self) -> None:
        problem = unusable({"type": "object", "properties": {"age": {"type": "any", "required": True}}})

        assert problem is not None
        assert "properties.age" in problem
        assert "\n" not in problem

    @pytest.mark.parametrize(
        "address", ["http://json-schema.org/draft-07/schema", "https://json-schema.org/draft-07/schema#"]
    )
    def test_the_address_of_a_draft_may_be_written_in_other_ways(self, address: str) -> None:
        schema = {"$schema": address, "items": [{"type": "string"}]}

        assert problems([1], schema) == ["0: 1 is not of type 'string'"]
        assert unchecked_in(schema) == []

    def test_a_draft_itself_can_be_referred_to(self) -> None:
        schema = {"$ref": "https://json-schema.org/draft/2020-12/schema"}

        assert unusable(schema) is None
        assert problems({"type": "object"}, schema) == []
        assert problems({"type": "text"}, schema) != []


def test_formats_are_passed_on_and_named() -> None:
    schema = {"properties": {"a": {"format": "email"}, "b": {"format": "made-up"}}, "const": {"format": "x"}}

    assert unusable(schema) is None
    assert sorted(unchecked_in(schema)) == ["the format 'email' is not checked", "the format 'made-up' is not checked"]


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
