"""Packages that were written for version 0.1 run unchanged, and each old module is named once on stderr."""

from __future__ import annotations

import json
import socketserver
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from afkcli.plugin import Store
from afkcli.testing.model_server import ModelServer, ScriptedCall, Step
from afkcli.testing.store_contract import StoreContract
from tests.commands.conftest import Install, install
from tests.e2e.conftest import keyed, server, shell
from tests.e2e.shell import Shell
from tests.old_plugins import outside_store

__all__ = ["install", "keyed", "server", "shell"]

HERE = Path(__file__).parent
Add = Callable[..., None]


@pytest.fixture
def add(install: Install) -> Add:
    """Return what installs modules of this folder as one distribution with these entry points."""

    def add(points: dict[str, str], *modules: str) -> None:
        sources = {module: (HERE / f"{module}.py").read_text() for module in modules}
        install("outside", {"afk": points}, **sources)

    return add


def write_config(shell: Shell, text: str) -> None:
    path = shell.home / "afk" / "config" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def deprecations(err: str) -> list[str]:
    """Return the old modules that stderr names, in order, and check that each line is one of afk's."""
    lines = [line for line in err.splitlines() if "is deprecated" in line]
    assert all(line.startswith("afk: afkcli.") and "will be removed in version 0.3" in line for line in lines)
    return [line.split()[1] for line in lines]


class TestOutsideStore(StoreContract):
    def make_store(self, path: Path) -> Store:
        path.mkdir(exist_ok=True)
        return outside_store.SqliteStore(str(path / "outside.db"))


def test_a_store_keeps_a_thread_and_a_command_reads_it(keyed: Shell, add: Add) -> None:
    points = {"store.outside": "outside_store", "command.outside-turns": "outside_command"}
    add(points, "outside_store", "outside_command")
    keyed.env["AFK_STORE"] = "outside"

    first = keyed.afk("run", "-t", "garden", "hi")
    second = keyed.afk("run", "-t", "garden", "again")
    counted = keyed.afk("outside-turns", "garden")

    assert (first.code, second.code, second.out) == (0, 0, "reply 2: again\n")
    assert (counted.code, counted.out) == (0, "2\n")
    old = ["afkcli.core.errors", "afkcli.core.ids", "afkcli.core.protocols", "afkcli.core.result"]
    assert deprecations(first.err) == [*old, "afkcli.owner", "afkcli.paths"]
    assert "import from afkcli.plugin instead" in first.err
    assert "outside_store.py, line " in first.err
    assert sorted(deprecations(counted.err)) == sorted([*old, "afkcli.core.thread", "afkcli.owner", "afkcli.paths"])


@pytest.fixture
def line_server() -> Iterator[socketserver.ThreadingTCPServer]:
    """The server of outside_provider's wire form: it answers the key `right` and refuses all others."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked = json.loads(self.rfile.readline())
            if asked["key"] != "right-key":
                self.wfile.write(json.dumps({"error": f"{asked['key']} is unknown"}).encode() + b"\n")
                return
            for event in ({"text": "You said "}, {"text": asked["lines"][-1][1]}, {"end": True}):
                self.wfile.write(json.dumps(event).encode() + b"\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield listening
        listening.shutdown()


def test_a_provider_with_its_own_wire_form_answers_and_is_refused(
    shell: Shell, add: Add, line_server: socketserver.ThreadingTCPServer
) -> None:
    add({"provider.outside": "outside_provider"}, "outside_provider")
    shell.env["OUTSIDE_PORT"] = str(line_server.server_address[1])

    answered = shell.afk("run", "-m", "outside/m", "hi there", OUTSIDE_KEY="right-key")
    refused = shell.afk("run", "-m", "outside/m", "hi there", OUTSIDE_KEY="wrong-key")
    keyless = shell.afk("run", "-m", "outside/m", "hi there")

    assert (answered.code, answered.out) == (0, "You said hi there\n")
    names = ["errors", "jsonform", "messages", "protocols", "result"]
    assert deprecations(answered.err) == [f"afkcli.core.{name}" for name in names]
    assert refused.code == 4
    assert "outside refused: *** is unknown" in refused.err
    assert (keyless.code, "set OUTSIDE_KEY" in keyless.err) == (2, True)


def test_a_sink_takes_every_event_into_a_database(keyed: Shell, add: Add) -> None:
    add({"sink.outside": "outside_sink"}, "outside_sink")
    database = keyed.folder / "events.db"
    write_config(keyed, f"[sinks.outside]\npath = '{database}'\n")

    done = keyed.afk("run", "--json", "hi")

    assert done.code == 0
    with sqlite3.connect(database) as db:
        rows = db.execute("SELECT type, line FROM events").fetchall()
    assert [kind for kind, _ in rows] == done.types()
    assert [json.loads(line) for _, line in rows] == done.events
    assert deprecations(done.err) == ["afkcli.core.events", "afkcli.paths"]


def test_tools_and_a_toolset_are_called(keyed: Shell, server: ModelServer, add: Add) -> None:
    points = {"tools.outside": "outside_tools", "tools.outside_beds": "outside_toolset"}
    add(points, "outside_tools", "outside_toolset")
    write_config(keyed, "[tools.outside_beds.beds.north]\nplant = 'beans'\ntoken = 'secret-of-the-bed'\n")
    calls = [
        ScriptedCall(name="outside__repeat", arguments={"word": "ha"}),
        ScriptedCall(name="north__sow", arguments={"plant": "peas"}),
    ]
    server.script(Step(tool_calls=calls), Step(text="Done."))

    done = keyed.afk("run", "--tool", "outside.*", "--tool", "north.*", "hi")

    assert (done.code, done.out) == (0, "Done.\n"), done.err
    results = [message["content"] for message in server.bodies[1]["messages"] if message["role"] == "tool"]
    assert results == ["haha", "sowed peas beside beans"]
    assert "afk: asked the bed north of ***" in done.err
    names = ["core.errors", "core.schemas", "core.tasks", "core.tools", "render", "settings"]
    assert sorted(deprecations(done.err)) == [f"afkcli.{name}" for name in names]
