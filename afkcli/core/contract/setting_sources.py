"""Where the values of a plugin's settings came from, for messages that say what to change."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from afkcli.core.contract.structs import FrozenStruct

_ATTRIBUTE = "_afk_setting_sources"


class SettingSource(FrozenStruct, kw_only=True):
    """Where a value came from: `variable` of the environment, or the setting `name` of `table` in the config.

    `place` is the file and the line that set it, and empty for a default. As text it is what an error calls the value.
    `stored` is its name in the keys file, if it came from there.

    Since: 0.2.
    """

    name: str
    table: str
    variable: str | None = None
    place: str = ""
    stored: str = ""

    @property
    def to_change(self) -> str:
        """What a person changes, within a sentence: `OPENAI_BASE_URL`, or `base_url under [providers.openai]`."""
        if self.stored:
            return f"the key that `afk keys set {self.stored}` keeps"
        return self.variable or f"{self.name} under {self.table}"

    def __str__(self) -> str:
        if self.variable is not None:
            return self.variable
        if self.stored:
            return f"the key {self.stored!r} of the keys file"
        return f"{self.table} {self.name}" + (f" ({self.place})" if self.place else "")


def keep_sources(settings: object, sources: Mapping[str, SettingSource]) -> None:
    """Keep where the values of `settings` came from. A class with `__slots__` has no room for it."""
    with contextlib.suppress(AttributeError, TypeError):
        object.__setattr__(settings, _ATTRIBUTE, dict(sources))


def setting_source(settings: object, name: str, table: str) -> SettingSource:
    """Return where the value of a setting came from.

    Args:
        settings: the dataclass that afk filled, or one that was made in another way.
        name: the field.
        table: the plugin's table in the config, such as `[providers.openai]`.

    Since: 0.2.
    """
    sources: Mapping[str, SettingSource] = getattr(settings, _ATTRIBUTE, {})
    return sources.get(name) or SettingSource(name=name, table=table)
