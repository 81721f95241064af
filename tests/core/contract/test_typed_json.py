"""Dataclasses come from JSON with all types checked, and a newer version's fields do no harm."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

import pytest

from afkcli.core.contract.codecs import (
    owner_from_json,
    owner_to_json,
    thread_info_from_json,
    thread_info_to_json,
    usage_to_json,
)
from afkcli.core.contract.jsonform import JsonError, JsonObject, dumps, loads
from afkcli.core.contract.protocols import Fork, OpenTurn, Owner, ThreadInfo
from afkcli.core.contract.result import Usage, usage_from_json
from afkcli.core.contract.typed_json import from_json


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Leaf:
    number: int
    share: float = 0.5


@dataclass(frozen=True)
class Everything:
    text: str
    flag: bool
    colour: Colour
    leaf: Leaf
    leaves: tuple[Leaf, ...] = ()
    maybe: Leaf | None = None
    mode: Literal["on", "off"] = "on"
    free: Any = None
    table: JsonObject = field(default_factory=dict)


FORM: dict[str, Any] = {"text": "a", "flag": True, "colour": "red", "leaf": {"number": 1}}


def test_a_dataclass_comes_back_as_it_was() -> None:
    value = Everything("a", True, Colour.BLUE, Leaf(1), (Leaf(2, 1.0), Leaf(3)), Leaf(4), "off", [1, "x"], {"b": None})
    assert from_json(Everything, loads(dumps(value))) == value


def test_fields_that_are_missing_get_their_default_and_unknown_ones_are_ignored() -> None:
    assert from_json(Everything, {**FORM, "later": {"x": 1}}) == Everything("a", True, Colour.RED, Leaf(1))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"text": 5}, "the field 'text' must be text (got a whole number)"),
        ({"text": None}, "the field 'text' must be text (got null)"),
        ({"flag": 1}, "the field 'flag' must be true or false (got a whole number)"),
        ({"colour": "green"}, "the field 'colour' must be one of red, blue (got 'green')"),
        ({"colour": ["red"]}, "the field 'colour' must be one of red, blue (got ['red'])"),
        ({"mode": "auto"}, "the field 'mode' must be one of on, off (got 'auto')"),
        ({"leaf": []}, "the field 'leaf' must be an object (got a list)"),
        ({"leaf": {}}, "the field 'leaf.number' is missing"),
        ({"leaf": {"number": True}}, "the field 'leaf.number' must be a whole number (got true or false)"),
        ({"leaf": {"number": 1.5}}, "the field 'leaf.number' must be a whole number (got a number)"),
        ({"leaf": {"number": 1, "share": "x"}}, "the field 'leaf.share' must be a number (got text)"),
        ({"leaves": {}}, "the field 'leaves' must be a list (got an object)"),
        ({"leaves": [{"number": 1}, {"number": "x"}]}, "the field 'leaves.1.number' must be a whole number (got text)"),
        ({"maybe": 3}, "the field 'maybe' must be an object (got a whole number)"),
        ({"table": []}, "the field 'table' must be an object (got a list)"),
    ],
)
def test_a_value_of_a_wrong_type_is_named_with_its_path(change: dict[str, Any], line: str) -> None:
    with pytest.raises(JsonError) as error:
        from_json(Everything, {**FORM, **change})
    assert str(error.value) == line


@pytest.mark.parametrize("form", [None, [], "x", 5])
def test_what_is_not_an_object_is_refused(form: Any) -> None:
    with pytest.raises(JsonError, match="it must be an object"):
        from_json(Everything, form)


THREAD = ThreadInfo(
    key="k",
    name="t",
    created="2026-01-01T00:00:00.000Z",
    used="2026-01-01T00:00:00.000Z",
    open_turn=OpenTurn(turn=1, run_id="r", index=3, started="2026-01-01T00:00:00.000Z"),
    parent=Fork(key="p", name="parent", turn=2),
    usage=Usage(input_tokens=3, unknown=("output_tokens",)),
    cost_usd=None,
    tags=("one", "two"),
)
OWNER = Owner(host="h", boot_id="b", pid_namespace="n", pid=7, start_time="9", run_id="r")


def test_stores_read_back_what_they_wrote() -> None:
    for info in (THREAD, replace(THREAD, open_turn=None, parent=None, cost_usd=0.25)):
        assert thread_info_from_json(loads(dumps(thread_info_to_json(info)))) == info
    assert owner_from_json(loads(dumps(owner_to_json(OWNER)))) == OWNER
    assert usage_from_json(loads(dumps(usage_to_json(THREAD.usage)))) == THREAD.usage


def test_stores_can_read_fields_of_a_newer_version() -> None:
    form = {**thread_info_to_json(THREAD), "colour": "red"}
    form["open_turn"]["later"] = form["usage"]["later"] = 1
    assert thread_info_from_json(form) == THREAD
    assert owner_from_json({**owner_to_json(OWNER), "container": "c"}) == OWNER
    assert thread_info_from_json({"key": "k", "name": "t", "created": "", "used": ""}).usage == Usage()


@pytest.mark.parametrize(
    "change",
    [{"key": None}, {"turns": "3"}, {"usage": {"input_tokens": "7"}}, {"tags": "one"}, {"parent": {"key": "k"}}],
)
def test_metadata_of_a_wrong_type_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(JsonError, match=next(iter(change))):
        thread_info_from_json({**thread_info_to_json(THREAD), **change})
