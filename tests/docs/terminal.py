"""Runs the blocks of a page in order, as a reader would, in a home folder and a working directory of their own."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from afkcli.config.reading import parse_config
from afkcli.testing.model_server import ModelServer
from tests.docs import other_programs
from tests.docs.pages import Block
from tests.e2e import warm

LIMIT = 180  # seconds after which a block hangs; never a measure of speed
DOCUMENTED_URL = "http://127.0.0.1:8080/v1"
"""The server in the pages; the scripted server takes its place."""

SHELL_LANGUAGES = ("console", "sh")
PROGRAMS = ("jq", "duckdb", "sqlite3")
"""What a page may use and a machine may not have."""

# What a reader installs from a registry is installed already; `uv run` runs what is there.
_SHIMS = {
    "pip": f"#!/bin/sh\nexec '{sys.executable}' '{Path(__file__).with_name('pip_shim.py')}' \"$@\"\n",
    "uv": '#!/bin/sh\n[ "$1" = run ] && shift && exec "$@"\n',
}
_ANY = "..."


@dataclass
class Terminal:
    """A reader's terminal: `folder` is a git repository with a few files, and the model is a scripted server."""

    home: Path
    folder: Path
    server: ModelServer
    left_out: list[str] = field(default_factory=list)

    def prepare(self) -> None:
        """Make the files that the pages assume."""
        bin_folder = self.home / "bin"
        for path in (self.home, self.folder, bin_folder):
            path.mkdir(parents=True)
        for name, text in _SHIMS.items():
            (bin_folder / name).write_text(text)
            (bin_folder / name).chmod(0o755)
        warm.shim(bin_folder / "afk")
        for kind, folder in (
            ("state", "state"),
            ("share", "data"),
        ):  # where the pages say that the log and the store are
            (self.home / ".local" / kind).mkdir(parents=True)
            (self.home / ".local" / kind / "afk").symlink_to(self.home / "afk" / folder)
        other_programs.prepare(self.home)
        other_programs.prepare_folder(self.folder)
        (self.folder / "notes.md").write_text("# Notes\n\nBeans need sun. Spinach grows in the shade.\n")
        (self.folder / "questions.txt").write_text("What is a bean?\nWhat is spinach?\n")
        git = ["git", "-c", "user.name=A Reader", "-c", "user.email=reader@example.com"]
        for arguments in (["init", "-q"], ["add", "notes.md"], ["commit", "-qm", "Begin"]):
            subprocess.run([*git, *arguments], cwd=self.folder, env=self._environment(), check=True)
        (self.folder / "notes.md").write_text("# Notes\n\nBeans need sun. Spinach and chard grow in the shade.\n")

    def run(self, block: Block) -> None:
        """Run, check or write a block, by its language and marks; `AssertionError` if it differs from the page.

        Marks: `file: NAME` writes it, `user config` writes it as the user's config, `run by: FILE` leaves it to another
        test, `embedded model` runs it without a key, so that the embedded model answers, `after a run` runs it when
        there is a thread, `signature` only parses it (the generated reference).
        """
        if block.mark("run by") is not None:
            return
        if block.mark("signature") is not None:
            ast.parse(block.text)
            return
        missing = [name for name in PROGRAMS if re.search(rf"\b{name} [-.~]", block.text) and not self._has(name)]
        if missing and block.language in SHELL_LANGUAGES:
            self.left_out.append(f"{block.place} ({missing[0]} is not installed)")
            return
        self._write(block)
        if block.mark("after a run") is not None:
            self._succeeds(block, 'afk run -n -t earlier "Hello"')
        if block.language == "console":
            self._console(block)
        elif block.language == "sh":
            self._succeeds(block, f"set -eo pipefail\n{block.text}")
        elif block.language == "python" and block.mark("file") is None:
            self._python(block)
        elif block.language == "toml" and block.mark("pyproject") is None:
            parse_config(block.text.encode(), Path(block.place))

    def _has(self, program: str) -> bool:
        return shutil.which(program, path=self._environment()["PATH"]) is not None

    def _write(self, block: Block) -> None:
        name = block.mark("file")
        path = self.folder / name if name else self._user_config() if block.mark("user config") is not None else None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text.replace(DOCUMENTED_URL, self.server.base_url))
            path.chmod(0o644)

    def _user_config(self) -> Path:
        return self.home / "afk" / "config" / "config.toml"

    def _console(self, block: Block) -> None:
        """Run each command behind a `$`, and compare its output with the lines below it; `...` matches anything."""
        commands = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
        shown = [line for line in block.text.splitlines() if not line.startswith("$ ")]
        script = "".join(f"{{ {command}\n}} || exit\n" for command in commands)
        written = self._succeeds(block, f"set -o pipefail\n{script}")
        if block.mark("embedded model") is not None:
            assert len(written.splitlines()) >= len(shown), f"{block.place} wrote only:\n{written}"
        elif shown:
            pattern = _pattern(shown)
            assert re.fullmatch(pattern, written), f"{block.place} wrote:\n{written}"

    def _succeeds(self, block: Block, script: str) -> str:
        """Run a script by bash; return what it wrote, stdout and stderr as on a terminal."""
        script = script.replace(DOCUMENTED_URL, self.server.base_url)
        embedded = block.mark("embedded model") is not None
        return self._run(block, ["bash", "-c", script], self._environment(block.text, key=not embedded))

    def _python(self, block: Block) -> None:
        script = self.folder / "snippet.py"
        script.write_text(block.text.replace(DOCUMENTED_URL, self.server.base_url))
        self._run(block, [sys.executable, str(script)], self._environment(block.text))
        script.unlink()

    def _run(self, block: Block, command: list[str], environment: dict[str, str]) -> str:
        process = warm.start(
            command,
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        with process:
            try:
                written = process.communicate(timeout=LIMIT)[0].decode()
            except BaseException:
                process.kill()
                raise
        assert process.returncode == 0, f"{block.place} ended with {process.returncode}:\n{written}"
        return written

    def _environment(self, text: str = "", *, key: bool = True) -> dict[str, str]:
        environment = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR") if name in os.environ}
        environment |= {
            "PATH": os.pathsep.join([str(self.home / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "HOME": str(self.home),
            "AFK_HOME": str(self.home / "afk"),
            "AFK_WORKER": "off",
            "AFK_LOCAL_THREADS": "1",
            "PYTHONPATH": str(self.home / "site"),
        }
        if key:
            environment |= {"OPENAI_BASE_URL": self.server.base_url, "OPENAI_API_KEY": "sk-documented-0123456789"}
            if "anthropic" in text.lower():  # else every command would say which of the two it uses
                environment |= {"ANTHROPIC_BASE_URL": self.server.base_url}
            environment |= {"GROQ_API_BASE": self.server.base_url, "GROQ_API_KEY": "gsk-documented"}  # LiteLLM's page
        return environment


def _pattern(shown: list[str]) -> str:
    """Return the pattern of the lines that a page shows; `...` matches any lines, or any text within a line."""
    lines = [
        "(?:.*\n)*" if line.strip() == _ANY else ".*".join(re.escape(part) for part in line.split(_ANY)) + "\n"
        for line in shown
    ]
    return "".join(lines)
