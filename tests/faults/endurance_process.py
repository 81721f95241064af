"""Runs many turns in one process and prints the cost: `python endurance_process.py TURNS FOLDER`.

The provider answers within the process; store and event log are the real ones, on disk. Every thread has 20 turns.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from afk_sink_jsonl import Settings
from afk_sink_jsonl.sink import JsonlSink
from afk_store_disk.store import DiskStore

from afkcli.core.contract.agent import Agent
from afkcli.core.contract.messages import (
    FinishReason,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    Role,
    TextDelta,
    text_message,
)
from afkcli.core.contract.protocols import Capabilities, ModelInfo
from afkcli.core.run.runner import Runner

TURNS_OF_A_THREAD = 20


class ScriptedProvider:
    name = "scripted"
    default_model = "model"

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        for number in range(10):
            yield TextDelta(text=f"w{number} ")
        text = "".join(f"w{number} " for number in range(10))
        yield ModelResponse(message=text_message(Role.ASSISTANT, text), usage=None, finish_reason=FinishReason.STOP)

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities()

    async def list_models(self) -> Sequence[ModelInfo]:
        return []

    async def count_tokens(self, request: ModelRequest) -> int:
        return 1

    async def prepare(self) -> None: ...

    async def aclose(self) -> None: ...


async def talk(turns: int, folder: Path) -> dict[str, list[float]]:
    """Run the turns and return memory (KB), open files and milliseconds, one value for each turn."""
    cost: dict[str, list[float]] = {"memory": [], "files": [], "ms": []}
    sink = JsonlSink(Settings(path=str(folder / "events")))
    async with Runner(
        providers={"scripted": ScriptedProvider()}, store=lambda: DiskStore(folder / "data"), sinks=[sink]
    ) as runner:
        agent = Agent(model="scripted/model")
        for turn in range(turns):
            began = time.perf_counter()
            result = await runner.run(agent, user_message=f"m{turn}", thread_id=f"t{turn // TURNS_OF_A_THREAD}")
            cost["ms"].append((time.perf_counter() - began) * 1000)
            assert (result.state, result.saved) == ("completed", True), result
            cost["memory"].append(_memory_kb())
            cost["files"].append(_open_files())
    return cost


def _memory_kb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1024


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(talk(int(sys.argv[1]), Path(sys.argv[2])))))
