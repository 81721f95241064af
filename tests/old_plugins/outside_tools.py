"""Plain tools, written for afk 0.1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from afkcli.core.tools import MAX_OUTPUT_CHARS, Tool, bounded

from afkcli import ToolError, hookimpl, tool

AFK_HOOKS = 1


@dataclass
class Settings:
    times: int = 2


@hookimpl
def afk_tools(settings: Settings) -> Sequence[Tool]:
    @tool(name="outside.repeat", changes=False)
    def repeat(word: str) -> str:
        """Repeat a word."""
        if not word:
            raise ToolError("an empty word cannot be repeated")
        return bounded(word * settings.times, MAX_OUTPUT_CHARS)

    return [repeat]
