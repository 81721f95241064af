"""Checks of the settings that providers have in common; a refusal names the place where the value was set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from afkcli.core.contract.errors import ConfigError
from afkcli.core.contract.setting_sources import setting_source


class SettingsWithKey(Protocol):
    """The settings of a provider that takes a key."""

    api_key: str


def check_above_zero(settings: object, names: Sequence[str], table: str) -> None:
    """Check that numbers are above 0.

    Args:
        settings: the settings of a plugin.
        names: the fields that are numbers above 0: seconds, tokens.
        table: the plugin's table in the config, such as `[providers.openai]`.

    Raises:
        ConfigError: one is not.

    Since: 0.2.
    """
    for name in names:
        value = getattr(settings, name)
        if not value > 0:  # also refuses nan
            raise ConfigError(f"{setting_source(settings, name, table)} is {value!r}; it is a number above 0")


def check_choice(settings: object, name: str, choices: Sequence[str], table: str) -> None:
    """Check that a text is one of several.

    Args:
        settings: the settings of a plugin.
        name: the field.
        choices: what it can be, in the order in which a refusal lists them; "" is not listed.
        table: the plugin's table in the config.

    Raises:
        ConfigError: it is not one of them.

    Since: 0.2.
    """
    value = getattr(settings, name)
    if value not in choices:
        *others, last = filter(None, choices)
        raise ConfigError(
            f"{setting_source(settings, name, table)} is {value!r}; it can be {', '.join(others)} or {last}"
        )


def checked_key(settings: SettingsWithKey, table: str) -> str:
    """Return the key of a server, without the blanks around it; "" where there is none.

    Args:
        settings: the settings of a plugin.
        table: the plugin's table in the config.

    Raises:
        ConfigError: it has a character that cannot be sent in a header.

    Since: 0.2.
    """
    key = settings.api_key.strip()
    if key and not (key.isascii() and key.isprintable()):
        raise ConfigError(f"{setting_source(settings, 'api_key', table)} holds a character that a key cannot have")
    return key
