"""What a model's name says: whether it reasons, and which options it takes."""

from __future__ import annotations

import pytest
from afk_provider_openai import Settings, afk_provider
from afk_provider_openai.models import is_reasoning_model

SAMPLING = {"temperature", "top_p"}
ALWAYS = {"max_output_tokens"}


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4.1-mini", "gpt-3.5-turbo", "gpt-5-chat-latest", "ft:gpt-4o:x"])
def test_some_models_do_not_reason(model: str) -> None:
    assert not is_reasoning_model(model)


@pytest.mark.parametrize(
    ("model", "api", "options"),
    [
        ("gpt-4o", "responses", ALWAYS | SAMPLING),
        ("gpt-4o", "chat", ALWAYS | SAMPLING | {"stop", "seed"}),
        ("gpt-5-chat-latest", "responses", ALWAYS | SAMPLING),
        ("gpt-5-mini", "responses", ALWAYS | {"reasoning_effort"}),
        ("gpt-5-2025-08-07", "responses", ALWAYS | {"reasoning_effort"}),
        ("gpt-5", "chat", ALWAYS | {"reasoning_effort", "stop", "seed"}),
        ("gpt-5.2-mini", "responses", ALWAYS | SAMPLING | {"reasoning_effort"}),
        ("o3", "responses", ALWAYS | {"reasoning_effort"}),
        ("o3", "chat", ALWAYS | {"reasoning_effort", "seed"}),
        ("o1", "chat", ALWAYS | {"reasoning_effort", "seed", "stop"}),
        ("ft:o4-mini:team", "chat", ALWAYS | {"reasoning_effort", "seed"}),
    ],
)
def test_the_options_of_openais_models_follow_from_api_and_name(model: str, api: str, options: set[str]) -> None:
    provider = afk_provider(Settings(api_key="sk-canary-0123456789", api=api))
    assert provider.capabilities(model).options == options


@pytest.mark.parametrize(("api", "missing"), [("chat", set()), ("responses", {"stop", "seed"})])
def test_another_servers_models_take_what_the_api_has(api: str, missing: set[str]) -> None:
    provider = afk_provider(Settings(base_url="http://127.0.0.1:1/v1", api=api))
    every = ALWAYS | SAMPLING | {"stop", "seed", "reasoning_effort"}
    assert provider.capabilities("o3").options == every - missing
