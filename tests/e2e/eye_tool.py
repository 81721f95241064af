"""A tool plugin of one tool, which changes nothing, for threads that have calls in them."""

from __future__ import annotations

TOOL = """
from afkcli import hookimpl, tool

AFK_HOOKS = 1
AFK_NAME = "eye"


@tool(name="eye.look", changes=False)
def look(place: str) -> str:
    return f"seen {place}"


@hookimpl
def afk_tools(settings):
    return [look]
"""
