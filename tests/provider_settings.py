"""What the settings of a provider for one service have to do: name a missing key and a wrong value, hide secrets."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from typing import Any, ClassVar

import pytest

from afkcli.plugin import ConfigError, MissingKeyError

HTTP_MODULES = ("httpx", "httpx2", "pydantic", "asyncio")
"""Modules that only a call needs, besides the SDK."""


class SettingsContract:
    """Subclass it as `TestSettings`, and name the plugin of a provider whose module `settings` has `server_from`."""

    provider: ClassVar[str]
    """The name of the provider and of its SDK, as `openai`."""
    default_model: ClassVar[str]

    @property
    def module(self) -> Any:
        return importlib.import_module(f"afk_provider_{self.provider}")

    @property
    def variable(self) -> str:
        return self.provider.upper()

    def server(self, **settings: object) -> Any:
        return importlib.import_module(f"afk_provider_{self.provider}.settings").server_from(
            self.module.Settings(**settings)
        )

    def refuse(self, **settings: object) -> None:
        """Check that the hook refuses `settings` with one line that names the first of them."""
        with pytest.raises(ConfigError) as caught:
            self.module.afk_provider(self.module.Settings(**{"api_key": "k", **settings}))
        assert next(iter(settings)) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_missing_key_is_named_with_its_variable_and_setting(self) -> None:
        with pytest.raises(MissingKeyError) as caught:
            self.module.afk_provider(self.module.Settings(api_key=" \n"))
        assert f"{self.variable}_API_KEY" in str(caught.value)
        assert "api_key" in str(caught.value)
        assert f"[providers.{self.provider}]" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_another_server_needs_no_key(self) -> None:
        placeholder = importlib.import_module(f"afk_provider_{self.provider}.settings").PLACEHOLDER_KEY
        assert self.server(base_url="http://127.0.0.1:1/v1").key == placeholder

    @pytest.mark.parametrize(
        "settings",
        [
            {"base_url": "127.0.0.1:8080"},
            {"base_url": "ftp://127.0.0.1/v1"},
            {"base_url": "http://[::1/v1"},
            {"base_url": "http://host:99999/v1"},
            {"idle_timeout": 0},
            {"connect_timeout": -1.0},
            {"api_key": "schlüssel"},
            {"api_key": "two\nlines"},
        ],
    )
    def test_an_invalid_setting_is_named(self, settings: dict[str, object]) -> None:
        self.refuse(**settings)

    def test_secrets_and_variables_are_declared(self) -> None:
        metadata = {field.name: field.metadata for field in dataclasses.fields(self.module.Settings)}
        assert metadata["api_key"] == {"secret": True, "env": f"{self.variable}_API_KEY"}
        assert metadata["base_url"] == {"env": f"{self.variable}_BASE_URL"}
        assert metadata["headers"]["secret"]
        assert self.module.AFK_HOOKS == 1

    def test_the_default_model_can_be_changed_or_removed(self) -> None:
        make, settings = self.module.afk_provider, self.module.Settings
        assert make(settings(api_key="k")).default_model == self.default_model
        assert make(settings(api_key="k", default_model="other")).default_model == "other"
        assert make(settings(api_key="k", default_model="")).default_model is None

    def test_no_secret_is_in_a_representation(self) -> None:
        secrets: dict[str, object] = {"api_key": "sk-hidden-1", "headers": {"X-Token": "sk-hidden-2"}}
        assert "hidden" not in repr(self.module.Settings(**secrets))
        assert "hidden" not in repr(self.server(**secrets))

    def test_importing_the_plugin_imports_no_sdk(self) -> None:
        assert imported(f"import afk_provider_{self.provider}", self.provider, *HTTP_MODULES) == []


def imported(code: str, *modules: str) -> list[str]:
    """Return those of `modules` that a new Python process has imported after it has run `code`."""
    script = f"{code}\nimport sys\nprint(*[name for name in {modules!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
