"""Which server, which API, which key."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
from afk_provider_openai import AFK_HOOKS, Settings, afk_provider
from afk_provider_openai.settings import PLACEHOLDER_KEY, server_from

from afkcli.plugin import ConfigError, MissingKeyError


@pytest.mark.parametrize(
    ("base_url", "api", "expected"),
    [
        ("", "auto", "responses"),
        ("https://api.openai.com/v1", "auto", "responses"),
        ("https://eu.api.openai.com/v1/", "auto", "responses"),
        ("https://api.openai.com/v1", "chat", "chat"),
        ("http://127.0.0.1:8080/v1", "auto", "chat"),
        ("http://127.0.0.1:8080/v1", "responses", "responses"),
        ("https://api.openai.com.example.org/v1", "auto", "chat"),
        ("https://me.openai.azure.com/openai/v1", "auto", "chat"),
    ],
)
def test_the_api_follows_from_the_server_unless_it_is_set(base_url: str, api: str, expected: str) -> None:
    assert server_from(Settings(api_key="k", base_url=base_url, api=api)).api == expected


def test_openai_without_a_key_is_a_missing_key_in_the_hook() -> None:
    with pytest.raises(MissingKeyError) as caught:
        afk_provider(Settings(api_key=" \n"))
    assert "OPENAI_API_KEY" in str(caught.value)
    assert "api_key" in str(caught.value)
    assert "[providers.openai]" in str(caught.value)
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
        {"api": "completions"},
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
    assert metadata["api_key"] == {"secret": True, "env": "OPENAI_API_KEY"}
    assert metadata["base_url"] == {"env": "OPENAI_BASE_URL"}
    assert metadata["headers"]["secret"]
    assert AFK_HOOKS == 1


def test_the_default_model_is_the_provider_s() -> None:
    assert afk_provider(Settings(api_key="k")).default_model == "gpt-5.2-mini"
    assert afk_provider(Settings(api_key="k", default_model="")).default_model is None


def test_no_secret_is_in_a_representation() -> None:
    settings = Settings(api_key="sk-hidden-1", headers={"X-Token": "sk-hidden-2"})
    assert "hidden" not in repr(settings)
    assert "hidden" not in repr(server_from(settings))


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import afk_provider_openai", ("openai", "httpx", "httpx2", "pydantic", "asyncio")),
        (
            "import asyncio; from afk_provider_openai import *\n"
            "asyncio.run(afk_provider(Settings(base_url='http://127.0.0.1:1/v1')).prepare())",
            ("openai.resources.responses.responses", "openai.resources.chat.completions.completions"),
        ),
    ],
    ids=["module", "prepare"],
)
def test_only_what_is_needed_is_imported(code: str, unwanted: tuple[str, ...]) -> None:
    script = f"{code}\nimport sys; print([name for name in {unwanted!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
