"""The conformance suite of the protocol, run with afk as the client: `python suite.py [SCENARIO ...]`.

It installs the suite, in both versions, and the Node that it needs into the user's cache, plays the scenarios that afk
supports, prints one line for each and ends with 1 if one fails. Those that afk does not support stand in
docs/how-to/mcp.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

CLIENT = Path(__file__).with_name("client.py")

NODE = "22.23.3"
SUITES = {"0.1": "0.1.16", "0.2": "0.2.0-alpha.12"}


class Scenario(NamedTuple):
    """A scenario of one version of the suite, at a version of the protocol ("" for the scenario's own)."""

    suite: str
    name: str
    protocol: str = ""

    @property
    def label(self) -> str:
        return " ".join(filter(None, [SUITES[self.suite], self.name, self.protocol]))


SUPPORTED = (
    Scenario("0.1", "initialize"),
    Scenario("0.1", "tools_call"),
    Scenario("0.1", "sse-retry"),
    Scenario("0.2", "initialize"),
    Scenario("0.2", "tools_call"),
    Scenario("0.2", "tools_call", "2026-07-28"),
    Scenario("0.2", "sse-retry"),
    Scenario("0.2", "request-metadata"),
    Scenario("0.2", "http-standard-headers"),
    Scenario("0.2", "http-custom-headers"),
    Scenario("0.2", "http-invalid-tool-headers"),
    Scenario("0.2", "json-schema-ref-no-deref"),
    Scenario("0.2", "json-schema-2020-12-preservation"),
    Scenario("0.2", "json-schema-2020-12-preservation", "2026-07-28"),
)

UNSUPPORTED = ("auth/*", "elicitation-sep1034-client-defaults", "sep-2322-client-request-state", "sep-2640-client-*")
"""Scenarios of OAuth, of elicitation, of calls that ask for input, and of skills."""


class Suite:
    """The installed suite."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def installed(cls) -> Suite:
        """Return the suite, installed once into the user's cache."""
        import platformdirs

        machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine().lower()]
        # What the npm package `node` would install by a script of its own.
        node = f"node-bin@npm:node-{sys.platform.replace('win32', 'win')}-{machine}@{NODE}"
        wanted = [node, *(f"suite-{name}@npm:@modelcontextprotocol/conformance@{v}" for name, v in SUITES.items())]
        key = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:16]
        folder = platformdirs.user_cache_path("afk-tests", appauthor=False) / f"mcp-conformance-{key}"
        if not folder.is_dir():
            new = folder.with_name(f"{folder.name}.{os.getpid()}")
            new.mkdir(parents=True)
            try:
                options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(new)]
                subprocess.run(["npm", "install", *options, *wanted], cwd=new, check=True, capture_output=True)
                new.rename(folder)
            finally:
                shutil.rmtree(new, ignore_errors=True)
        return cls(folder)

    def play(self, scenario: Scenario) -> tuple[bool, str]:
        """Return whether a scenario is passed, and what the suite said."""
        node = self._folder / "node_modules" / "node-bin" / "bin" / "node"
        program = self._folder / "node_modules" / f"suite-{scenario.suite}" / "dist" / "index.js"
        protocol = ["--spec-version", scenario.protocol] if scenario.protocol else []
        with tempfile.TemporaryDirectory() as results:
            done = subprocess.run(
                [
                    *(str(node), str(program), "client", "--command", f"{sys.executable} {CLIENT}"),
                    *("--scenario", scenario.name, *protocol, "--timeout", "60000", "-o", results),
                ],
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
            )
        return done.returncode == 0, done.stdout + done.stderr


def main(names: Sequence[str]) -> int:
    suite = Suite.installed()
    failed = 0
    for scenario in SUPPORTED:
        if names and scenario.name not in names:
            continue
        passed, said = suite.play(scenario)
        failed += not passed
        print(f"{'passed' if passed else 'FAILED'}  {scenario.label}", flush=True)
        if not passed:
            print(said)
    print(f"{failed} failed; not supported: {', '.join(UNSUPPORTED)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
