"""A warm worker takes throw-away turns of LiteLLM before it forks: they leave no thread, no client and no key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from afkcli.testing.model_server import ModelServer, Step

REHEARSE = """
import gc, json, os, sys
from afkcli.cli import run_process
from afkcli.worker.rehearsal import PARTS, Rehearsal

asked = []

def command(make):
    asked.extend(make().arguments[:1])
    return run_process(make)[1]

said = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
rehearsal = Rehearsal(command, ["afk_provider_litellm.provider"], sys.argv[1])
rehearsal.load()
added = sorted(name for name in os.environ if name.startswith("LITELLM"))
rehearsal.run(2)
import litellm, openai
gc.unfreeze()
gc.collect()
os.write(said, json.dumps({
    "turns": asked.count("run"),
    "threads": len(os.listdir("/proc/self/task")),
    "cached": len(litellm.in_memory_llm_clients_cache.cache_dict),
    "clients": sum(issubclass(type(one), openai.AsyncOpenAI) for one in gc.get_objects()),
    "same variables": added == sorted(name for name in os.environ if name.startswith("LITELLM")),
}).encode())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="there is a warm worker on Linux only")
def test_turns_that_are_taken_before_the_fork_leave_no_thread_and_no_client(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LITELLM")}

    done = subprocess.run(
        [sys.executable, "-c", REHEARSE, tmp_path],
        env={**clean, "HOME": str(tmp_path / "home"), "AFK_WORKER": "off"},
        capture_output=True,
        text=True,
    )

    left = {"turns": 2, "threads": 1, "cached": 0, "clients": 0, "same variables": True}
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == left, done.stderr


HAND_OVER = """
import json, os, sys
from afkcli.cli import run_process
from afkcli.worker.rehearsal import Rehearsal, _invocation

said = os.dup(1)
for number in (0, 1, 2):
    os.dup2(os.open(os.devnull, os.O_RDWR), number)
rehearsal = Rehearsal(lambda make: run_process(make)[1], ["afk_provider_litellm.provider"], sys.argv[1])
rehearsal.load()
rehearsal.run(1)
child = os.fork()
if child == 0:
    rehearsal.run(1)
    before = set(sys.modules)
    os.environ.update(OPENAI_API_KEY="some-key", OPENAI_BASE_URL=sys.argv[2], AFK_HOME=sys.argv[1] + "/home/afk")
    words = ("run", "-n", "-t", "kept", "-m", "litellm/openai/gpt-5.2-mini", "A question")
    ending = run_process(lambda: _invocation(words))[1]
    os.write(said, json.dumps([ending.code, sorted(set(sys.modules) - before)]).encode())
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="there is a warm worker on Linux only")
def test_a_turn_after_the_fork_imports_nothing(tmp_path: Path, model_server: ModelServer) -> None:
    model_server.steps = [Step(text="An answer")]
    (tmp_path / "home").mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LITELLM", "AFK"))}

    done = subprocess.run(
        [sys.executable, "-c", HAND_OVER, tmp_path, model_server.base_url],
        env={**clean, "HOME": str(tmp_path / "home"), "AFK_WORKER": "off"},
        capture_output=True,
        text=True,
    )

    assert json.loads(done.stdout) == [0, []], done.stderr
    assert [body["model"] for body in model_server.bodies] == ["gpt-5.2-mini"]
