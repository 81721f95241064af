"""JSON Schemas that others wrote: usable or not, a value that fits or not."""

from __future__ import annotations

import pytest

from afkcli.core.schemas import MAX_PROBLEMS, problems, schema_problem, unresolved_reference

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
