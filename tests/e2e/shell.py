"""Runs the installed `afk` in real processes, as a user would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.warm import AFK, start
from tests.e2e.workers import variables
from tests.in_process import run_in_process

__all__ = ["AFK", "LIMIT", "Finished", "Shell", "kill", "roles_and_texts", "wait_for_output"]

LIMIT = 120  # seconds after which a command hangs; never a measure of speed


@dataclass
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    def types(self) -> list[str]:
        return [event["type"] for event in self.events]


@dataclass
class Shell:
    """Runs the installed `afk` as a user would, with a home and a folder of its own and no key.

    `cold` is for tests of what the interpreter's own start leaves: imported modules, what /proc shows of the process.
    """

    home: Path
    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    cold: bool = False

    def environment(self, **extra: str) -> dict[str, str]:
        kept = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")
        env = {name: os.environ[name] for name in kept if name in os.environ}
        env |= {"HOME": str(self.home), "AFK_HOME": str(self.home / "afk")}
        env |= {**self.env, **extra}
        return {**(variables(env) if not self.cold else {"AFK_WORKER": "off"}), **env}

    def afk(self, *arguments: str, stdin: bytes | None = None, **env: str) -> Finished:
        """Run `afk` to its end; stdin is empty (/dev/null) unless bytes are given."""
        process = start(
            [AFK, *arguments],
            cold=self.cold,
            cwd=self.folder,
            env=self.environment(**env),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        return _finished(process, stdin)

    def in_process(self, *arguments: str, stdin: bytes | None = None, **env: str) -> Finished:
        """Run the command line in this process: for what is about arguments, words and exit codes.

        Where distributions of the test are on PYTHONPATH, it runs as `afk` does: a path belongs to a process.
        """
        if "PYTHONPATH" in self.environment(**env):
            return self.afk(*arguments, stdin=stdin, **env)
        code, out, err = run_in_process(
            [str(argument) for argument in arguments],
            folder=self.folder,
            environment=self.environment(**env),
            stdin=stdin,
        )
        return Finished(code, out.decode(), err.decode())

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start `afk` and return the process, its pipes open."""
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        return start([AFK, *arguments], cold=self.cold, cwd=self.folder, env=self.environment(), **options)

    def start_python(self, script: Path, **env: str) -> subprocess.Popen[bytes]:
        """Start a Python script and return the process, its pipes open."""
        return start(
            [sys.executable, script],
            cold=self.cold,
            cwd=self.folder,
            env=self.environment(**env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def python(self, script: Path, **env: str) -> Finished:
        """Run a Python script with the interpreter that has afk installed."""
        return _finished(self.start_python(script, **env))

    def wait_until_kept(self, thread: str, text: str) -> None:
        """Wait until a text is in a thread, so that it is kept if the run that has shown it is killed."""
        deadline = time.monotonic() + LIMIT
        while text not in (exported := self.in_process("threads", "export", thread).out):
            assert time.monotonic() < deadline, exported

    def log(self) -> list[dict[str, Any]]:
        """Return all events of the event log; a line that a process is still writing is left out."""
        lines = [line for file in self.logs() for line in file.read_text().splitlines(keepends=True)]
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def logs(self) -> list[Path]:
        """Return the files of the event log, the oldest first: one a day, and more around midnight."""
        return sorted((self.home / "afk" / "state" / "events").glob("*.jsonl"))

    def one_log(self) -> Path:
        """Return the file of the event log. Where midnight came between two events, the newest file gets all of them.

        No process may be writing to the log.
        """
        *older, newest = self.logs()
        if older:
            newest.write_bytes(b"".join(file.read_bytes() for file in (*older, newest)))
        for file in older:
            file.unlink()
        return newest


def _finished(process: subprocess.Popen[bytes], stdin: bytes | None = None) -> Finished:
    """Wait for the end of a process, and return what it wrote."""
    with process:
        try:
            out, err = process.communicate(stdin, timeout=LIMIT)
        except BaseException:
            process.kill()
            raise
    return Finished(process.returncode, out.decode(), err.decode())


def roles_and_texts(body: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the role and text of each message of a Chat Completions request."""
    return [(message["role"], message["content"]) for message in body["messages"]]


def kill(
    process: subprocess.Popen[bytes], number: int = getattr(signal, "SIGKILL", signal.SIGTERM)
) -> tuple[bytes, bytes]:
    """Send a signal and return what the process wrote to stdout and stderr."""
    process.send_signal(number)
    return process.communicate(timeout=LIMIT)


def wait_for_output(process: subprocess.Popen[bytes], wanted: bytes) -> bytes:
    """Read the process's stdout until `wanted` was in it."""
    assert process.stdout is not None
    seen = b""
    while wanted not in seen:
        piece = os.read(process.stdout.fileno(), 4096)
        assert piece, f"stdout ended without {wanted!r}: {seen!r}"
        seen += piece
    return seen
