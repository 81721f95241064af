"""A plugin file: tools that write down how many of them run at the same time, a line for each call."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

from afkcli import hookimpl, tool

AFK_HOOKS = 1
AFK_NAME = "count"

TOGETHER = int(os.environ.get("COUNT_TOGETHER", "0"))
"""So many calls wait for each other, then a moment for one more that should not come."""

_changed = threading.Condition()
_begun = _running = 0


def _note(running: int) -> None:
    with Path("calls.log").open("a") as file:
        file.write(f"{running}\n")


@tool(name="count.up", changes=False)
def up() -> str:
    """Count a call."""
    global _begun, _running
    with _changed:
        _begun, _running = _begun + 1, _running + 1
        _note(_running)
        _changed.notify_all()
        _changed.wait_for(lambda: _begun >= TOGETHER, timeout=30)
        _changed.wait_for(lambda: _begun > TOGETHER, timeout=0.2 if TOGETHER else 0)
        _running -= 1
    return "counted"


@tool(name="count.sleep", changes=False)
async def sleep() -> str:
    """Count a call, and sleep for a minute."""
    _note(1)
    await asyncio.sleep(60)
    return "slept"


@hookimpl
def afk_tools(settings: Any) -> list[Any]:
    return [up, sleep]
