"""Structured outputs: what is strict, what is not, which models and servers are told a schema in words."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from afk_provider_openai import Settings, afk_provider
from afk_provider_openai.settings import server_from
from afk_provider_openai.structured import fitted, strict_schema
from pydantic import BaseModel, ConfigDict

from afkcli.plugin import ModelRequest, Role, ToolSpec, text_message

TEXT = {"type": "string"}


class Address(BaseModel):
    street: str
    number: int | None = None


class Person(BaseModel):
    """A person."""

    mood: Literal["good", "bad"]
    homes: list[Address]
    friend: Person | None = None


def an_object(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": TEXT}, "required": ["a"], **fields}


class TestStrict:
    def test_closes_objects_and_asks_for_null_where_nothing_may_stand(self) -> None:
        assert strict_schema(Address.model_json_schema()) == {
            "type": "object",
            "properties": {"street": TEXT, "number": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
            "required": ["street", "number"],
            "additionalProperties": False,
        }

    def test_takes_definitions(self) -> None:
        class Home(BaseModel):
            address: Address
            more: list[Address]

        strict = strict_schema(Home.model_json_schema())
        assert strict is not None
        assert strict["properties"] == {
            "address": {"$ref": "#/$defs/Address"},
            "more": {"type": "array", "items": {"$ref": "#/$defs/Address"}},
        }
        assert strict["$defs"]["Address"]["additionalProperties"] is False

    def test_leaves_the_schema_alone(self) -> None:
        schema = an_object()
        strict_schema(schema)
        assert schema == an_object()

    @pytest.mark.parametrize(
        "schema",
        [
            {},
            {"type": "array", "items": TEXT},
            {"type": "object"},
            an_object(additionalProperties=True),
            an_object(additionalProperties=TEXT),
            an_object(required=[]),
            an_object(required=["a", "b"]),
            an_object(anyOf=[TEXT]),
            an_object(allOf=[TEXT]),
            an_object(patternProperties={"x": TEXT}),
            an_object(properties={"a": True}),
            an_object(properties={"a": {}}),
            an_object(properties={"a": {"type": "array", "items": False}}),
            an_object(properties={"a": {"type": "string", "minLength": 2}}),
            an_object(properties={"a": {"type": "string", "format": "binary"}}),
            an_object(properties={"a": {"$ref": "#/$defs/x", "minimum": 1}}),
            an_object(properties={"a": {"$ref": "#x"}}),
            an_object(properties={"a": {"not": TEXT}}),
            an_object(properties={str(n): TEXT for n in range(101)}, required=[str(n) for n in range(101)]),
            an_object(properties={"a": {"type": "string", "enum": [str(n) for n in range(501)]}}),
        ],
    )
    def test_is_not_what_says_more_than_the_subset(self, schema: dict[str, Any]) -> None:
        assert strict_schema(schema) is None

    def test_is_not_what_is_nested_deeper_than_the_api_takes(self) -> None:
        schema = an_object()
        for levels in range(2, 7):
            schema = an_object(properties={"a": schema})
            assert (strict_schema(schema) is not None) is (levels <= 5)

    def test_is_a_model_that_forbids_more(self) -> None:
        class Closed(BaseModel):
            model_config = ConfigDict(extra="forbid")
            a: str

        assert strict_schema(Closed.model_json_schema()) is not None


class TestWhoTakesASchema:
    @pytest.mark.parametrize("model", ["gpt-5.2-mini", "gpt-4o", "gpt-4.1-nano", "o3", "ft:gpt-4o-2024-08-06:x", "new"])
    def test_openai_models_do(self, model: str) -> None:
        assert afk_provider(Settings(api_key="k")).capabilities(model).structured_output is True

    @pytest.mark.parametrize("model", ["gpt-4", "gpt-4-turbo", "gpt-3.5-turbo", "ft:gpt-3.5-turbo:x", "o1-mini"])
    def test_old_ones_do_not(self, model: str) -> None:
        assert afk_provider(Settings(api_key="k")).capabilities(model).structured_output is False

    def test_of_other_servers_nothing_is_known(self) -> None:
        other = afk_provider(Settings(base_url="http://127.0.0.1:1/v1"))
        assert other.capabilities("m").structured_output is None

    def test_the_setting_says_no(self) -> None:
        for url in ("", "http://127.0.0.1:1/v1"):
            provider = afk_provider(Settings(api_key="k", base_url=url, structured_output=False))
            assert provider.capabilities("gpt-5.2").structured_output is False


def test_openai_is_told_what_is_no_object_in_words() -> None:
    question = text_message(Role.USER, "q")
    request = ModelRequest(model="gpt-5.2", messages=[question], output_schema={"type": "array"})
    told = fitted(server_from(Settings(api_key="k")), request)
    assert told.output_schema is None
    assert told.messages[0].text.endswith('{"type":"array"}')
    assert told.messages[1:] == [question]


def test_openai_takes_a_schema_with_tools() -> None:
    tool = ToolSpec(name="f", description="d", parameters={"type": "object"})
    request = ModelRequest(model="gpt-5.2", messages=[], tools=[tool], output_schema=an_object())
    assert fitted(server_from(Settings(api_key="k")), request) is request
