"""An event log of real runs that has most kinds of events: tools, approvals, retries, errors, attachments, a schema."""

from __future__ import annotations

from pathlib import Path

from afkcli.testing.model_script import Fault, ScriptedCall, ScriptedUsage, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import Shell

CONFIG = '[prices."openai/gpt-5.2-mini"]\ninput = 1.0\noutput = 2.0\n'
TOOLS = """
from afkcli import hookimpl, tool

AFK_HOOKS = 1
AFK_NAME = "garden"


@tool(name="garden.look", changes=False)
def look(bed: str, *, depth: float = 0.5) -> str:
    if bed == "none":
        raise ValueError("there is no such bed")
    return f"beans in {bed}"


@tool(name="garden.dig")
def dig(bed: str) -> str:
    return "dug"


@hookimpl
def afk_tools(settings):
    return [look, dig]
"""
CALLS = [
    ScriptedCall(name="garden.look", arguments={"bed": "north", "depth": 1.5}),
    ScriptedCall(name="garden.look", arguments={"bed": "none"}),
    ScriptedCall(name="garden.dig", arguments={"bed": "south"}),
    ScriptedCall(name="garden.look", arguments="{not JSON"),
]
RUNS: list[tuple[list[Step], list[str]]] = [
    (
        [Step(text="I look.", reasoning="Hm.", tool_calls=CALLS), Step(text="Beans.")],
        ["-t", "garden", "--tool", "garden.*", "Look at the beds."],
    ),
    (
        [Step(text="A note.", usage=ScriptedUsage(cached_tokens=4))],
        ["-t", "garden", "--attach", "notes.md", "And this?"],
    ),
    (
        [Step(text="No."), Step(text='{"stars": [4, null]}')],
        ["-t", "stars", "--schema", '{"type": "object"}', "Rate it."],
    ),
    ([Step(status=503, body={"error": {"message": "busy"}}), Step(text="At last.")], ["-t", "late", "Hello"]),
    ([Step(text="Half an answer", fault=Fault.CUT, fault_after=1)], ["-t", "late", "Go on."]),
    ([Step(status=401, body={"error": {"message": "wrong key"}})], ["-t", "late", "Hello?"]),
    ([Step(text="Free.")], ["-t", "late", "-m", "openai/unlisted", "What do you cost?"]),
]


def made_log(home: Path, folder: Path) -> Shell:
    """Make the runs, in the home and the folder of a shell, and return it; `Shell.log` has the events."""
    shell = Shell(home=home, folder=folder)
    config = home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(CONFIG)
    (folder / "garden.py").write_text(TOOLS)
    (folder / "notes.md").write_text("Beans need sun.\n")
    shell.env.update(OPENAI_API_KEY="sk-canary-0123456789", AFK_MODEL="gpt-5.2-mini")
    for steps, arguments in RUNS:
        with ModelServer(steps) as server:
            shell.env["OPENAI_BASE_URL"] = server.base_url
            shell.in_process("run", "--plugin", "garden.py", *arguments)
    assert {event["type"] for event in shell.log()} >= {"tool_completed", "approval_resolved", "retrying", "error"}
    return shell
