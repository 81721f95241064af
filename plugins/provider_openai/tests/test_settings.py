"""Which server, which API, which key, which imports."""

from __future__ import annotations

from typing import ClassVar

import pytest

from tests.provider_settings import SettingsContract, imported


class TestSettings(SettingsContract):
    provider: ClassVar[str] = "openai"
    default_model: ClassVar[str] = "gpt-5.2-mini"

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
    def test_the_server_selects_the_api_unless_it_is_set(self, base_url: str, api: str, expected: str) -> None:
        assert self.server(api_key="k", base_url=base_url, api=api).api == expected

    def test_an_unknown_api_is_named(self) -> None:
        self.refuse(api="completions")

    def test_prepare_imports_no_types_of_answers(self) -> None:
        code = (
            "import asyncio; from afk_provider_openai import *\n"
            "asyncio.run(afk_provider(Settings(base_url='http://127.0.0.1:1/v1')).prepare())"
        )
        unwanted = ("openai.resources.responses.responses", "openai.resources.chat.completions.completions")
        assert imported(code, *unwanted) == []
