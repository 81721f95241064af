"""Structured outputs: which schemas the API takes, in which form, and which models."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from afk_provider_anthropic.models import capabilities
from afk_provider_anthropic.structured import format_schema
from pydantic import BaseModel, Field

TEXT = {"type": "string"}


class Node(BaseModel):
    next: Node | None = None


class Tree(BaseModel):
    node: Node


def an_object(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": TEXT}, "required": ["a"], **fields}


class TestTheForm:
    def test_closes_objects_and_describes_bounds(self) -> None:
        class Person(BaseModel):
            age: int = Field(ge=0, le=150, description="In years.")
            mood: Literal["good", "bad"] = "good"
            tags: list[str] = Field(min_length=2)

        schema = format_schema(Person.model_json_schema())
        assert schema == {
            "type": "object",
            "properties": {
                "age": {"type": "integer", "description": 'In years. {"maximum":150,"minimum":0}'},
                "mood": {"type": "string", "enum": ["good", "bad"]},
                "tags": {"type": "array", "items": TEXT, "description": '{"minItems":2}'},
            },
            "required": ["age", "tags"],
            "additionalProperties": False,
        }

    def test_takes_definitions(self) -> None:
        schema = format_schema(an_object(properties={"a": {"$ref": "#/$defs/x"}}, **{"$defs": {"x": an_object()}}))
        assert schema is not None
        assert schema["$defs"]["x"]["additionalProperties"] is False

    def test_leaves_the_schema_alone(self) -> None:
        schema = an_object(properties={"a": {"type": "integer", "minimum": 1}})
        format_schema(schema)
        assert schema == an_object(properties={"a": {"type": "integer", "minimum": 1}})

    @pytest.mark.parametrize(
        "schema",
        [
            {},
            {"type": "array", "items": TEXT},
            {"type": "object"},
            an_object(additionalProperties=True),
            an_object(additionalProperties=TEXT),
            an_object(patternProperties={"x": TEXT}),
            an_object(properties={"a": True}),
            an_object(properties={"a": {}}),
            an_object(properties={"a": {"type": "array", "items": False}}),
            an_object(properties={"a": {"enum": [{}]}}),
            an_object(properties={"a": {"const": []}}),
            an_object(properties={"a": {"not": TEXT}}),
            an_object(properties={"a": {"$ref": "#"}}),
            an_object(properties={"a": {"$ref": "#x"}}),
            an_object(properties={str(n): TEXT for n in range(25)}, required=[]),
            an_object(properties={str(n): {"type": ["string", "null"]} for n in range(17)}),
            Tree.model_json_schema(),
            Node.model_json_schema(),
        ],
    )
    def test_is_none_for_what_says_more_than_the_subset(self, schema: dict[str, Any]) -> None:
        assert format_schema(schema) is None


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        ("claude-sonnet-5-5", True),
        ("claude-haiku-4-5-20251001", True),
        ("claude-opus-4-1", False),
        ("claude-3-5-haiku-20241022", False),
        ("claude-new", True),
        ("qwen3-8b", False),
    ],
)
def test_models_take_a_schema_from_4_5_on(model: str, takes: bool) -> None:
    assert capabilities(model).structured_output is takes
