"""Logs databases that the real `llm` wrote, imported: with its older tables, and with threads and turns.

`.ci/llm` runs this, in CI too; without `AFK_TEST_LLM`, which names the commands of two versions, it is left out.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from afkcli.testing.model_server import ModelServer, ScriptedCall, ScriptedUsage, Step
from tests.e2e.shell import LIMIT, Shell, roles_and_texts

COMMANDS = os.environ.get("AFK_TEST_LLM", "").split(":")
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002000001e221bc33"
    "0000000049454e44ae426082"
)
TOOL = 'def add(a: int, b: int) -> int:\n    "Add two numbers."\n    return a + b\n'


class Llm:
    """The real program, with a folder of its own and a scripted model."""

    def __init__(self, command: str, folder: Path, server: ModelServer) -> None:
        self.command = command
        self.folder = folder
        self.database = folder / "logs.db"
        self.server = server
        (folder / "extra-openai-models.yaml").write_text(
            f"- model_id: garden\n  model_name: gpt-5.2-mini\n  api_base: {server.base_url}\n"
            "  supports_tools: true\n  vision: true\n"
        )
        (folder / "tool.py").write_text(TOOL)
        (folder / "soil.txt").write_text("The soil is sandy.")

    def say(self, *arguments: str, answers: list[Step], stdin: bytes = b"") -> None:
        self.server.script(*answers)
        environment = {"PATH": os.environ["PATH"], "LLM_USER_PATH": str(self.folder), "OPENAI_API_KEY": "sk-x"}
        done = subprocess.run(
            [self.command, *arguments],
            cwd=self.folder,
            env={**environment, "HOME": str(self.folder)},
            input=stdin,
            capture_output=True,
            timeout=LIMIT,
        )
        assert done.returncode == 0, done.stderr.decode()


@pytest.fixture(scope="module", params=COMMANDS, ids=lambda command: Path(command).parents[1].name)
def llm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llm]:
    """Three conversations: a system prompt and a tool; an image and a fragment; one of the same title as the first."""
    with ModelServer() as server:
        talked = Llm(request.param, tmp_path_factory.mktemp("llm"), server)
        talked.say("-m", "garden", "-s", "You are a gardener.", "Beans, please", answers=[Step(text="Sow in May.")])
        call = ScriptedCall(id="call_1", name="add", arguments={"a": 1, "b": 2})
        usage = ScriptedUsage(input_tokens=30, output_tokens=5)
        talked.say(
            *("-c", "--functions", str(talked.folder / "tool.py"), "How many rows?"),
            answers=[Step(tool_calls=[call], usage=usage), Step(text="Three rows.", usage=usage)],
        )
        talked.say(
            *("-m", "garden", "--at", "-", "image/png", "-f", str(talked.folder / "soil.txt"), "What is this?"),
            answers=[Step(text="A bean.")],
            stdin=PNG,
        )
        talked.say("-m", "garden", "Beans, please", answers=[Step(text="Again?")])
        yield talked


def test_each_conversation_becomes_a_thread_with_its_turns(llm: Llm, shell: Shell) -> None:
    done = shell.in_process("threads", "import", str(llm.database), "--rename")

    assert (done.code, done.out) == (0, "")
    assert done.err.splitlines()[-1] == "afk: 3 imported"
    first, second = shell.in_process("threads", "show", "beans-please", "--json").events
    assert [(turn["state"], turn["model"]) for turn in (first, second)] == [("completed", "garden")] * 2
    assert [message["role"] for message in first["messages"]] == ["user", "system", "assistant"]
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "tool", "assistant"]
    [call] = second["messages"][1]["parts"]
    [result] = second["messages"][2]["parts"]
    assert (call["name"], call["arguments"], call["id"]) == ("add", {"a": 1, "b": 2}, "call_1")
    assert (result["id"], result["parts"][0]["text"]) == ("call_1", "3")
    assert (second["usage"]["input_tokens"], second["usage"]["output_tokens"]) == (60, 10)
    assert second["total_cost_usd"] is None
    assert first["started"] < second["started"] <= second["sealed"]


def test_an_imported_thread_is_continued_with_all_that_was_said(llm: Llm, keyed: Shell, server: ModelServer) -> None:
    keyed.in_process("threads", "import", str(llm.database), "--rename")
    server.script(Step(text="Carrots."))

    done = keyed.in_process("run", "-t", "beans-please", "-m", "gpt-5.2-mini", "And then?")

    assert (done.code, done.out) == (0, "Carrots.\n")
    said = roles_and_texts(server.bodies[-1])
    assert said[0] == ("system", "You are a gardener.")
    assert [(role, text) for role, text in said[1:] if text] == [
        ("user", "Beans, please"),
        ("assistant", "Sow in May."),
        ("user", "How many rows?"),
        ("tool", "3"),
        ("assistant", "Three rows."),
        ("user", "And then?"),
    ]


def test_an_image_and_a_fragment_are_in_the_question(llm: Llm, keyed: Shell, server: ModelServer) -> None:
    keyed.in_process("threads", "import", str(llm.database), "--rename")
    [name] = [
        row["thread_id"] for row in keyed.in_process("threads", "--json").events if "what-is-this" in row["thread_id"]
    ]

    keyed.in_process("run", "-t", name, "-m", "gpt-5.2-mini", "Sure?")

    [question, *_] = server.bodies[-1]["messages"]
    kinds = {part["type"]: part for part in question["content"]}
    assert kinds["image_url"]["image_url"]["url"].startswith("data:image/png;base64,")
    assert "The soil is sandy." in kinds["text"]["text"]
    assert kinds["text"]["text"].endswith("What is this?")


def test_again_all_is_present_and_what_was_added_since_is_appended(llm: Llm, shell: Shell, tmp_path: Path) -> None:
    shell.in_process("threads", "import", str(llm.database), "--rename")
    before = shell.in_process("threads", "export", "--all").out

    again = shell.in_process("threads", "import", str(llm.database))

    assert (again.code, again.err) == (0, "afk: 3 already present\n")
    assert shell.in_process("threads", "export", "--all").out == before
    later = Llm(llm.command, tmp_path, llm.server)
    shutil.copy(llm.database, later.database)
    later.say("-c", "One more", answers=[Step(text="More.")])
    grown = shell.in_process("threads", "import", str(later.database))
    assert (grown.code, grown.err) == (0, "afk: 1 appended to their threads, 2 already present\n")
    turns = shell.in_process("threads", "show", "beans-please-2", "--json").events
    assert [turn["messages"][0]["parts"][0]["text"] for turn in turns] == ["Beans, please", "One more"]


def test_its_export_read_by_a_second_process_is_equal(llm: Llm, shell: Shell, tmp_path: Path) -> None:
    shell.afk("threads", "import", str(llm.database), "--rename")
    backup = shell.afk("threads", "export", "--all").out
    (tmp_path / "elsewhere").mkdir()
    other = Shell(home=tmp_path / "elsewhere", folder=shell.folder, env=shell.env)

    done = other.afk("threads", "import", stdin=backup.encode())

    assert (done.code, done.err) == (0, "afk: 3 imported\n")
    assert other.afk("threads", "export", "--all").out == backup


def test_the_database_is_not_changed_also_in_wal_mode_while_a_process_writes(
    llm: Llm, shell: Shell, tmp_path: Path
) -> None:
    copy = tmp_path / "live.db"
    shutil.copy(llm.database, copy)
    writer = sqlite3.connect(copy, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("CREATE TABLE canary (id)")
    before = copy.read_bytes()

    done = shell.in_process("threads", "import", str(copy), "--rename")

    assert (done.code, done.err.splitlines()[-1]) == (0, "afk: 3 imported")
    writer.execute("COMMIT")  # nothing held it up
    writer.close()
    assert before[:16] == copy.read_bytes()[:16]
