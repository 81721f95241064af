"""The places of the table: a user or root, on a machine with bubblewrap, with Landlock alone, or with neither."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afkcli.testing.model_script import ScriptedCall, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import AFK, LIMIT
from tests.sandbox.attempts import ATTEMPTS, KEY, KILL, SEARCH, Attempt, Place

WITHOUT = Path(__file__).with_name("without.py")
REPOSITORY = Path(__file__).parents[2]

USERS = ("user", "root")
MACHINES = {"bubblewrap": "", "landlock": "mount", "neither": "mount,landlock_create_ruleset"}
"""What the kernel refuses on each machine."""

ALLOWED = '[[approvals.rules]]\ntool = "shell.run"\ndecision = "allow"\n'
_CONFIG = f"""
[providers.openai]
api_key = "{KEY}"
[tools.shell]
sandbox = "{{sandbox}}"
[tools.files]
roots = ["."]
sandbox = "{{files}}"
{ALLOWED}"""
MODEL = "openai/scripted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What came of all attempts of one user on one machine: by an attempt's name, whether it succeeded.

    `searched` is what the model was told of a search of files.
    """

    succeeded: dict[str, bool]
    searched: str
    code: int
    said: str


def missing() -> str:
    """Return why the table cannot be made here, or ""."""
    if sys.platform != "linux":
        return "the sandbox is for Linux"
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed"
    tried = subprocess.run([*_as("user"), "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "this system lets a user make no user namespace"


def _as(who: str) -> Sequence[str]:
    """Return the words that run a program as a user without any right of root's, or as root.

    Whoever runs the tests is told to the program as user 1000, or as root, by a user namespace, so that it may use the
    interpreter and the files of the tests.
    """
    if (who == "root") == (os.getuid() == 0):
        return []
    number = "0" if who == "root" else "1000"
    return ["unshare", "--user", f"--map-user={number}", f"--map-group={number}"]


def _call(number: int, attempt: Attempt, place: Place) -> ScriptedCall:
    if attempt is SEARCH:
        return ScriptedCall(id=f"c{number}", name="files__search", arguments={"pattern": "beans"})
    return ScriptedCall(id=f"c{number}", name="shell__run", arguments={"argv": list(attempt.argv(place))})


@contextmanager
def world() -> Iterator[World]:
    """Give a scripted server, a service with a local socket, and a folder for the homes."""
    with ModelServer() as server, tempfile.TemporaryDirectory(prefix="afk-sandbox-", dir=_ground()) as folder:
        path = Path(folder) / "service"
        with socket.socket(socket.AF_UNIX) as service:
            service.bind(str(path))
            service.listen()
            yield World(server=server, folder=Path(folder), socket=path)


def _ground() -> str:
    """Return a folder that is no temporary one: bubblewrap hides those, and a home is not there."""
    return str(REPOSITORY.parent) if os.access(REPOSITORY.parent, os.W_OK) else str(Path.home())


@dataclass(slots=True)
class World:
    """The place of the runs."""

    server: ModelServer
    folder: Path
    socket: Path

    def attempt(self, who: str, machine: str, sandbox: str = "workspace") -> Seen:
        """Have a model make all attempts, in one run, and try to kill afk in another."""
        place = self._place(sandbox)
        succeeded: dict[str, bool] = {}
        code, said, told = self._run(who, machine, place, ATTEMPTS)
        if told:
            succeeded = {item.name: item.done(place, told[item.name]) for item in ATTEMPTS}
            _, _, told = self._run(who, machine, place, [KILL])
            succeeded[KILL.name] = KILL.done(place, told.get(KILL.name, ""))
        _, _, told = self._run(who, machine, place, [SEARCH])
        searched = told.get(SEARCH.name, "")
        succeeded[SEARCH.name] = SEARCH.done(place, searched)
        return Seen(succeeded=succeeded, searched=searched, code=code, said=said)

    def _place(self, sandbox: str) -> Place:
        home = Path(tempfile.mkdtemp(dir=self.folder))
        config = home / "afk" / "config" / "config.toml"
        for path, text in {
            config: _CONFIG.format(sandbox=sandbox, files="off" if sandbox == "off" else "read-only"),
            home / ".ssh" / "id_ed25519": "PRIVATE",
            home / "linked": "old",
            home / "emptied": "old",
            home / "moved": "",
            home / "removed": "",
            home / "project" / "readme": "",
            home / "project" / "note": "beans",
        }.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o600)
        port = int(self.server.base_url.rsplit(":", 1)[1].split("/")[0])
        return Place(home=home, folder=home / "project", port=port, socket=self.socket, mark=f"afk-{home.name}")

    def _run(
        self, who: str, machine: str, place: Place, attempts: Sequence[Attempt]
    ) -> tuple[int, str, dict[str, str]]:
        """Return the exit code, stderr, and what the model was told of each attempt; nothing if afk was killed."""
        calls = [_call(number, item, place) for number, item in enumerate(attempts)]
        self.server.script(Step(tool_calls=calls), Step(text="done"))
        asked = len(self.server.bodies)
        tool = "files.search" if SEARCH in attempts else "shell.run"
        refused = MACHINES[machine]
        limited = [sys.executable, str(WITHOUT), refused] if refused else []
        done = subprocess.run(
            [*_as(who), *limited, AFK, "run", "-n", "-m", MODEL, "--tool", tool, f"go {place.mark}"],
            cwd=place.folder,
            env=self._environment(place),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        bodies: list[dict[str, Any]] = self.server.bodies[asked:]
        told = {}
        if len(bodies) > 1:
            for message in bodies[-1]["messages"]:
                if message["role"] == "tool":
                    told[attempts[int(message["tool_call_id"][1:])].name] = json.dumps(message["content"])
        return done.returncode, done.stderr, {name: json.loads(text) for name, text in told.items()}

    def _environment(self, place: Place) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {
            **kept,
            "HOME": str(place.home),
            "AFK_HOME": str(place.home / "afk"),
            "AFK_WORKER": "off",
            "OPENAI_BASE_URL": self.server.base_url,
            "A_KEY": KEY,
        }
