"""Which server, which key, which imports."""

from __future__ import annotations

from typing import ClassVar

import pytest

from tests.provider_settings import SettingsContract


class TestSettings(SettingsContract):
    provider: ClassVar[str] = "anthropic"
    default_model: ClassVar[str] = "claude-sonnet-5-5"

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
    def test_the_url_may_end_with_the_version(self, base_url: str, url: str, name: str) -> None:
        server = self.server(api_key="k", base_url=base_url)
        assert server.url == url
        assert server.name.startswith(name)

    @pytest.mark.parametrize("settings", [{"thinking_display": "all"}, {"cache_ttl": "1d"}, {"max_output_tokens": 0}])
    def test_an_invalid_setting_of_anthropic_is_named(self, settings: dict[str, object]) -> None:
        self.refuse(**settings)
