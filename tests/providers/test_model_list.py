"""Lists of models in the forms in which servers give them."""

from __future__ import annotations

from typing import Any

import pytest

from afkcli.providers.model_list import MAX_MODELS, listed_models


def ids(answer: Any) -> list[str]:
    return [model.id for model in listed_models(answer)]


@pytest.mark.parametrize(
    "answer",
    [
        {"object": "list", "data": [{"id": "b"}, {"id": "a"}]},
        [{"id": "a"}, {"id": "b"}],  # Together, one-api
        {"models": [{"name": "a"}, {"name": "b"}]},
        {"models": [{"key": "a"}, {"key": "b"}]},  # LM Studio's own API
        {"models": [{"model": "a"}, {"model": "b"}], "data": [{"id": "a"}, {"id": "b"}]},  # llama.cpp
        {"data": ["a", "b"]},
        ["b", "a", "a"],
        {"data": {"a": {}, "b": {"owned_by": "x"}}},
        {"data": [{"id": "a"}, {"id": "a"}, {"id": "b", "object": "model"}]},
        {"data": [{"id": 2, "name": "a"}, {"id": None, "name": "b"}, {"id": ""}, {}, None, 7, []]},
        {"data": [{"id": "a"}, {"id": "b"}, {"id": "c\x1b[2J"}, {"id": " d"}, {"id": "e" * 1000}]},
        {"data": [{"id": "a"}, {"id": "b"}], "error": None, "models": None},
    ],
)
def test_models_are_found_in_every_form(answer: Any) -> None:
    assert ids(answer) == ["a", "b"]


@pytest.mark.parametrize("answer", [[], {"data": []}, {"data": None}, {"models": []}, {"data": [], "has_more": False}])
def test_a_list_of_no_models_is_a_list(answer: Any) -> None:
    assert ids(answer) == []


@pytest.mark.parametrize("answer", [None, "x", 7, {}, {"error": "no"}, {"data": "x"}, {"data": 7}, {"object": "list"}])
def test_what_is_no_list_is_an_error(answer: Any) -> None:
    with pytest.raises(ValueError, match="is not a list of models"):
        listed_models(answer)


@pytest.mark.parametrize(
    "entry",
    [
        {"context_length": 8192},  # OpenRouter, Together
        {"context_window": 8192},  # Groq
        {"max_model_len": 8192},  # vLLM
        {"max_context_length": 8192},  # LM Studio
        {"meta": {"n_ctx": 8192}},
        {"max_input_tokens": 8192, "max_tokens": 1},
    ],
)
def test_the_window_is_read_by_each_of_its_names(entry: dict[str, Any]) -> None:
    assert listed_models([{"id": "a", **entry}])[0].context_tokens == 8192


@pytest.mark.parametrize("window", ["8192", -1, 0, True, None, 1.5])
def test_what_is_no_window_is_none(window: Any) -> None:
    assert listed_models([{"id": "a", "context_length": window}])[0].context_tokens is None


def test_a_list_without_end_is_cut() -> None:
    assert len(listed_models([{"id": f"m{number}"} for number in range(MAX_MODELS + 5)])) == MAX_MODELS


def test_a_description_is_one_safe_line() -> None:
    described = listed_models([{"id": "a", "description": "one\ntwo \x1b[31mred" + "x" * 1000}])[0].description
    assert described.startswith("one two ")
    assert described.isprintable()
    assert len(described) <= 300
