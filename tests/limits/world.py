"""A clean home, a scripted server, and one run of the installed `afk` after the other, with what was observed."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from afkcli.testing.model_server import ModelServer, Step
from tests.e2e.shell import AFK, LIMIT, Shell
from tests.e2e.warm import start

MODEL = "openai/scripted"
COUNTING = Path(__file__).with_name("counting.py")
TOKEN = "abcd"  # four characters, as afk estimates a token
PRICED = f'[prices."{MODEL}"]\ninput = 0\noutput = 1_000_000\n'
"""A dollar for each token of output, nothing for the input, so that dollars can be counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The observations of a run: at the server, by the tools, and on its stdout.

    `closed` counts the calls whose answer the client did not wait for: the server saw the connection go.
    """

    calls: int
    closed: int
    tool_calls: int
    parallel: int
    tokens: int
    seconds: float
    state: str
    reason: str
    exit: int
    steps: int = 0


@dataclass(slots=True)
class World:
    """The place of the runs; `runs` counts them."""

    shell: Shell
    server: ModelServer
    runs: int = 0

    def afk(self, *arguments: str, steps: Sequence[Step] = (), config: str = "", **env: str) -> Seen:
        """Make one run to its end and return what was observed."""
        self.server.script(*steps)
        before = len(self.server.requests)
        process = self.start(*arguments, config=config, **env)
        return self.seen(process, before)

    def start(self, *arguments: str, config: str = "", resume: str | None = None, **env: str) -> subprocess.Popen[str]:
        """Start a run, or one that continues the thread `resume`, with a config of its own."""
        self.runs += 1
        path = self.shell.home / "afk" / "config" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(config)
        self.calls_log.unlink(missing_ok=True)
        turn = ["run", "-n", "go"] if resume is None else ["threads", "resume", resume]
        return start(
            [AFK, *turn, "--json", "-m", MODEL, "--plugin", COUNTING, "--tool", "count.*", *arguments],
            cwd=self.shell.folder,
            env=self.shell.environment(**env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def forget(self) -> None:
        """Begin with an empty store, as on another day."""
        shutil.rmtree(self.shell.home / "afk", ignore_errors=True)

    @property
    def calls_log(self) -> Path:
        return self.shell.folder / "calls.log"

    def seen(self, process: subprocess.Popen[str], requests_before: int = 0) -> Seen:
        """Wait for the end of a run, and return what was observed."""
        out, _ = process.communicate(timeout=LIMIT)
        events = [json.loads(line) for line in out.splitlines()]
        result: dict[str, Any] = events[-1]["result"] if events else {}
        calls = self.server.requests[requests_before:]
        running = [int(line) for line in self.calls_log.read_text().split()] if self.calls_log.exists() else []
        return Seen(
            calls=len(calls),
            closed=sum(call.done.wait(LIMIT) and call.client_left.is_set() for call in calls),
            tool_calls=len(running),
            parallel=max(running, default=0),
            tokens=streamed_tokens(events),
            seconds=_seconds(events),
            state=result.get("state") or "no run",
            reason=result.get("reason") or "-",
            exit=process.returncode,
            steps=result.get("steps", 0),
        )


def streamed_tokens(events: Sequence[dict[str, Any]]) -> int:
    return sum(len(event["text_delta"]) for event in events if event["type"] == "text_delta") // len(TOKEN)


def _seconds(events: Sequence[dict[str, Any]]) -> float:
    if not events:
        return 0.0
    first, last = (datetime.fromisoformat(event["ts"]) for event in (events[0], events[-1]))
    return (last - first).total_seconds()


@contextmanager
def world() -> Iterator[World]:
    """A world for one test, which is removed afterwards."""
    with tempfile.TemporaryDirectory() as root, ModelServer() as server:
        home, folder = Path(root, "home"), Path(root, "work")
        home.mkdir()
        folder.mkdir()
        env = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-canary-0123456789"}
        yield World(shell=Shell(home=home, folder=folder, env=env), server=server)
