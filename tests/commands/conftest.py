"""The fixtures of the end-to-end tests, and plugins that are installed as distributions of their own."""

from __future__ import annotations

import os
import pty
import select
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from afkcli.testing.model_server import ModelServer
from tests.e2e.conftest import keyed, server, shell
from tests.e2e.shell import AFK, LIMIT, Shell
from tests.e2e.warm import start

__all__ = ["keyed", "server", "shell"]

Install = Callable[..., None]


@pytest.fixture(scope="session")
def talked_home(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell in which the threads `trip` (two turns) and `soup` were talked in; only to be copied.

    Its log is one file, of the day on which it was made: what a test adds may be in that of the next day.
    """
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("work")
    talked = Shell(home=home, folder=folder)
    with ModelServer() as model_server:
        talked.env.update(OPENAI_BASE_URL=model_server.base_url, OPENAI_API_KEY="sk-canary-0123456789")
        for thread, message in (("trip", "To Paris"), ("trip", "By train"), ("soup", "Onion soup")):
            assert talked.afk("run", "-m", "gpt-5.2-mini", "-t", thread, message).code == 0
    talked.one_log()
    return talked


@pytest.fixture
def talked(keyed: Shell, talked_home: Shell) -> Shell:
    """A shell with a copy of those threads and of their log, in the folder where they were talked in."""
    shutil.copytree(talked_home.home, keyed.home, dirs_exist_ok=True)
    keyed.folder = talked_home.folder
    return keyed


@pytest.fixture
def install(shell: Shell, tmp_path: Path) -> Install:
    """Return what puts a real distribution on the path: its name, entry points by group, and modules by name."""
    site = tmp_path / "site"
    site.mkdir()
    shell.env["PYTHONPATH"] = str(site)

    def add(name: str, points: dict[str, dict[str, str]], **modules: str) -> None:
        add_distribution(site, name, points, **modules)

    return add


def add_distribution(site: Path, name: str, points: dict[str, dict[str, str]], **modules: str) -> None:
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items()) for group, keys in points.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    for module, source in modules.items():
        (site / f"{module}.py").write_text(source)
    (info / "RECORD").write_text("".join(f"{module}.py,,\n" for module in modules))


def on_terminal(shell: Shell, *arguments: str, typed: bytes = b"", columns: int = 100, **env: str) -> tuple[int, str]:
    """Run `afk` on a terminal of its own, type what is given, and return the exit code and what the terminal got."""
    main, side = pty.openpty()
    os.set_blocking(main, False)
    process = start(
        [AFK, *arguments],
        cwd=shell.folder,
        env=shell.environment(TERM="xterm", COLUMNS=str(columns), **env),
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
    )
    os.close(side)
    os.write(main, typed)
    seen = b""
    while select.select([main], [], [], LIMIT)[0]:
        try:
            piece = os.read(main, 65536)
        except OSError:  # Linux: EIO, when the other side is closed
            break
        if not piece:
            break
        seen += piece
    os.close(main)
    return process.wait(LIMIT), seen.decode()
