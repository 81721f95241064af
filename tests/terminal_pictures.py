"""`uv run python -m tests.terminal_pictures FOLDER [NAME ...]`: pictures of the terminal, for a person to look at.

Each scenario is a function in a module of `tests/terminal_scenarios`, which need no registration:

    @scenario("narrow")
    def narrow(stage: Stage) -> None:
        '''An answer on 40 columns.'''
        stage.server.script(Step(text="# Title"))
        with stage.terminal("run", "hi", columns=40) as terminal:
            terminal.wait_for_end()
            stage.picture(terminal)
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import AFK, Shell
from tests.terminal import Terminal


@dataclass
class Stage:
    """What a scenario works with: a scripted server, a home and a folder of its own, and where its pictures go."""

    name: str
    server: ModelServer
    shell: Shell
    pictures: Path
    _taken: list[Path] = field(default_factory=list)

    def terminal(self, *arguments: str, columns: int = 80, lines: int = 24, **variables: str) -> Terminal:
        """Start `afk` on a terminal."""
        environment = self.shell.environment(**variables)
        return Terminal(
            [AFK, *arguments], columns=columns, lines=lines, environment=environment, folder=self.shell.folder
        )

    def picture(self, terminal: Terminal, suffix: str = "", *, scrollback: bool = True) -> None:
        """Write a picture of the terminal as it is now, and its text beside it."""
        file = self.pictures / f"{self.name}{f'-{suffix}' if suffix else ''}.svg"
        terminal.picture(file, title=file.stem, scrollback=scrollback)
        file.with_suffix(".txt").write_text(terminal.text(), encoding="utf-8")
        self._taken.append(file)


Scenario = Callable[[Stage], None]
SCENARIOS: dict[str, Scenario] = {}


def scenario(name: str) -> Callable[[Scenario], Scenario]:
    """Return the decorator that adds a scenario by the name of its pictures."""

    def add(function: Scenario) -> Scenario:
        if name in SCENARIOS:
            raise ValueError(f"two scenarios are named {name!r}")
        SCENARIOS[name] = function
        return function

    return add


def load_scenarios() -> dict[str, Scenario]:
    """Import all modules of scenarios, and return the scenarios by their names."""
    from tests import terminal_scenarios

    for module in pkgutil.iter_modules(terminal_scenarios.__path__):
        importlib.import_module(f"tests.terminal_scenarios.{module.name}")
    return importlib.import_module("tests.terminal_pictures").SCENARIOS  # this file may be `__main__`


def take(name: str, function: Scenario, pictures: Path) -> None:
    """Play one scenario; its pictures are named after it."""
    with tempfile.TemporaryDirectory(prefix="afk-pictures-") as folder, ModelServer() as server:
        home, work = Path(folder, "home"), Path(folder, "work")
        home.mkdir()
        work.mkdir()
        keys = {
            "OPENAI_BASE_URL": server.base_url,
            "OPENAI_API_KEY": "sk-canary-0123456789",
            "AFK_MODEL": "gpt-5.2-mini",
        }
        function(Stage(name, server, Shell(home=home, folder=work, env={"LANG": "C.UTF-8", **keys}), pictures))


def main(arguments: list[str]) -> int:
    if not arguments:
        print(__doc__)
        return 2
    pictures = Path(arguments[0])
    pictures.mkdir(parents=True, exist_ok=True)
    scenarios = load_scenarios()
    unknown = [name for name in arguments[1:] if name not in scenarios]
    if unknown:
        print(f"no such scenario: {', '.join(unknown)}; there are {', '.join(sorted(scenarios))}", file=sys.stderr)
        return 2
    for name in arguments[1:] or scenarios:
        print(f"{name}: {(scenarios[name].__doc__ or '').strip()}", flush=True)
        take(name, scenarios[name], pictures)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
