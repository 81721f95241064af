"""The peer `llm` (https://llm.datasette.io), installed from PyPI into an environment that is thrown away."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.server import MODEL

INSTALL_SECONDS = 300


class NotInstalledError(Exception):
    """The peer cannot be installed here; the message says why."""


def install(folder: Path) -> Path:
    """Install `llm` into a new environment below `folder` and return its program.

    Raises:
        NotInstalledError: with the last line of the installer.
    """
    environment = folder / "peer"
    program = environment / "bin" / "llm"
    uv = shutil.which("uv")
    steps: list[list[str]]
    if uv:
        python = str(environment / "bin" / "python")
        steps = [
            [uv, "venv", "--quiet", "--python", sys.executable, str(environment)],
            [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, "llm"],
        ]
    else:
        steps = [
            [sys.executable, "-m", "venv", str(environment)],
            [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "llm"],
        ]
    for step in steps:
        try:
            done = subprocess.run(step, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotInstalledError(f"llm could not be installed: {error}") from None
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
            raise NotInstalledError(f"llm could not be installed: {reason}")
    return program


def configure(folder: Path, base_url: str) -> dict[str, str]:
    """Write the peer's model file below `folder` and return the environment variables that it needs."""
    home = folder / "llm"
    home.mkdir()
    (home / "extra-openai-models.yaml").write_text(
        f"- model_id: bench\n  model_name: {MODEL}\n  api_base: {base_url}\n", encoding="utf-8"
    )
    return {"LLM_USER_PATH": str(home)}
