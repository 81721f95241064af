"""A setting of a provider that cannot be used is refused by its place, its value and what it can be."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from afkcli.core.contract.errors import ConfigError
from afkcli.providers.checked_settings import check_above_zero, check_choice, checked_key

TABLE = "[providers.own]"


@dataclass
class Settings:
    api_key: str = " sk-1\n"
    api: str = "auto"
    idle_timeout: float = 1.0


def test_settings_that_can_be_used_pass() -> None:
    check_above_zero(Settings(), ("idle_timeout",), TABLE)
    check_choice(Settings(api=""), "api", ("", "auto", "chat"), TABLE)
    assert checked_key(Settings(), TABLE) == "sk-1"
    assert checked_key(Settings(api_key="  "), TABLE) == ""


@pytest.mark.parametrize("number", [0, -1, float("nan")])
def test_a_number_that_is_not_above_0_is_refused(number: float) -> None:
    with pytest.raises(ConfigError, match=rf"idle_timeout .*is {number!r}; it is a number above 0"):
        check_above_zero(Settings(idle_timeout=number), ("idle_timeout",), TABLE)


@pytest.mark.parametrize(
    ("choices", "said"),
    [(("auto", "chat", "responses"), "auto, chat or responses"), (("", "chat", "responses"), "chat or responses")],
)
def test_another_text_than_the_choices_is_refused(choices: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=f"is 'x'; it can be {said}$"):
        check_choice(Settings(api="x"), "api", choices, TABLE)


@pytest.mark.parametrize("key", ["sk-\u201c1", "sk-1\nX: y", "sk-\x00"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigError, match=r"api_key .*holds a character that a key cannot have") as refused:
        checked_key(Settings(api_key=key), TABLE)
    assert "sk-" not in str(refused.value)
