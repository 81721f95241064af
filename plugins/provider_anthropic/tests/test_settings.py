"""Which server, which key, which imports."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
from afk_provider_anthropic import AFK_HOOKS, Settings, afk_provider
from afk_provider_anthropic.settings import PLACEHOLDER_KEY, server_from

from afkcli.plugin import ConfigError, MissingKeyError


@pytest.mark.parametrize(
    ("base_url", "url", "name"),
    [
        ("", "https://api.anthropic.com", "Anthropic"),
        ("https://api.anthropic.com/v1/", "https://api.anthropic.com", "Anthropic"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "the server at 127.0.0.1:8080"),
        ("http://me:pw@host:1/anthropic/v1", "http://me:pw@host:1/anthropic", "the server at host:1"),
        ("https://api.anthropic.com.example.org", "https://api.anthropic.com.example.org", "the server at "),
    ],
)
def test_the_url_may_end_in_the_version_or_not(base_url: str, url: str, name: str) -> None:
    server = server_from(Settings(api_key="k", base_url=base_url))
    assert server.url == url
    assert server.name.startswith(name)


def test_anthropic_without_a_key_is_a_missing_key_in_the_hook() -> None:
    with pytest.raises(MissingKeyError) as caught:
        afk_provider(Settings(api_key=" \n"))
    assert "ANTHROPIC_API_KEY" in str(caught.value)
    assert "api_key" in str(caught.value)
    assert "[providers.anthropic]" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_server_needs_no_key() -> None:
    assert server_from(Settings(base_url="http://127.0.0.1:1/v1")).key == PLACEHOLDER_KEY


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "127.0.0.1:8080"},
        {"base_url": "ftp://127.0.0.1/v1"},
        {"base_url": "http://[::1/v1"},
        {"base_url": "http://host:99999/v1"},
        {"thinking_display": "all"},
        {"max_output_tokens": 0},
        {"idle_timeout": 0},
        {"connect_timeout": -1.0},
        {"api_key": "schlüssel"},
        {"api_key": "two\nlines"},
    ],
)
def test_a_setting_that_cannot_work_is_named(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        afk_provider(Settings(**{"api_key": "k", **settings}))  # type: ignore[arg-type]
    name = next(iter(settings))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_secrets_and_variables_are_declared() -> None:
    metadata = {field.name: field.metadata for field in dataclasses.fields(Settings)}
    assert metadata["api_key"] == {"secret": True, "env": "ANTHROPIC_API_KEY"}
    assert metadata["base_url"] == {"env": "ANTHROPIC_BASE_URL"}
    assert metadata["headers"]["secret"]
    assert AFK_HOOKS == 1


def test_the_default_model_is_the_provider_s() -> None:
    assert afk_provider(Settings(api_key="k")).default_model == "claude-sonnet-5-5"
    assert afk_provider(Settings(api_key="k", default_model="")).default_model is None


def test_no_secret_is_in_a_representation() -> None:
    settings = Settings(api_key="sk-hidden-1", headers={"X-Token": "sk-hidden-2"})
    assert "hidden" not in repr(settings)
    assert "hidden" not in repr(server_from(settings))


def test_importing_the_plugin_imports_no_sdk() -> None:
    unwanted = ("anthropic", "httpx", "httpx2", "pydantic", "asyncio")
    script = f"import afk_provider_anthropic, sys; print([name for name in {unwanted!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
