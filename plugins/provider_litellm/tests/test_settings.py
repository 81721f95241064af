"""Settings, and what is known of models."""

from __future__ import annotations

import dataclasses

import pytest
from afk_provider_litellm import AFK_HOOKS, Settings, afk_provider

from afkcli.plugin import Capabilities, ConfigError


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "127.0.0.1:8080"},
        {"base_url": "ftp://127.0.0.1/v1"},
        {"base_url": "http://host:99999/v1"},
        {"idle_timeout": 0},
        {"first_byte_timeout": float("nan")},
        {"connect_timeout": -1.0},
        {"api_key": "schlüssel"},
        {"api_key": "two\nlines"},
    ],
)
def test_a_setting_that_cannot_work_is_named(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        afk_provider(Settings(**settings))  # type: ignore[arg-type]
    assert next(iter(settings)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_secrets_are_declared_and_hidden() -> None:
    metadata = {field.name: field.metadata for field in dataclasses.fields(Settings)}
    assert metadata["api_key"] == {"secret": True}
    assert metadata["headers"] == {"secret": True}
    assert "hidden" not in repr(Settings(api_key="sk-hidden-1", headers={"X-Token": "sk-hidden-2"}))
    assert AFK_HOOKS == 1


def test_a_model_has_to_be_named_unless_the_config_does() -> None:
    assert afk_provider(Settings()).default_model is None
    assert afk_provider(Settings(default_model="groq/m")).default_model == "groq/m"


def test_litellm_s_table_tells_the_price_and_the_size_of_a_model() -> None:
    known = afk_provider(Settings()).capabilities("openai/gpt-4o")
    assert known.price is not None
    assert 0 < known.price.input < known.price.output < 100
    assert known.context_tokens == 128_000
    assert known.tools is True


@pytest.mark.parametrize("model", ["groq/no-such-model", "anthropic/gpt-4o", "x", ""])
def test_nothing_is_known_of_other_models(model: str) -> None:
    assert afk_provider(Settings()).capabilities(model) == Capabilities()


def test_a_price_that_grows_with_the_prompt_has_its_tiers() -> None:
    price = afk_provider(Settings()).capabilities("gemini/gemini-2.5-pro").price
    assert price is not None
    assert price.of(200_000) == price
    assert price.of(200_001).input == 2 * price.input


def test_a_server_of_one_s_own_has_no_known_price() -> None:
    assert afk_provider(Settings(base_url="http://127.0.0.1:1/v1")).capabilities("openai/gpt-4o") == Capabilities()
