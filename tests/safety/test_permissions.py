"""What afk makes is the user's alone: files 0600, folders 0700, whatever the umask is."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from afkcli.testing.model_script import Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import AFK, LIMIT, Shell, wait_for_output

UMASKS = ["000", "077"]


def afk(shell: Shell, umask: str, *arguments: str) -> int:
    done = subprocess.run(
        ["sh", "-c", f'umask {umask}; exec "$@"', "sh", AFK, *arguments],
        cwd=shell.folder,
        env=shell.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT,
    )
    return done.returncode


def wide(paths: Iterable[Path]) -> list[str]:
    """Return those of `paths` that have a wrong mode."""
    wrong = []
    for path in paths:
        mode = stat.S_IMODE(path.lstat().st_mode)
        if mode != (0o700 if path.is_dir() else 0o600):
            wrong.append(f"{path} is {mode:o}")
    return wrong


@pytest.mark.parametrize("umask", UMASKS)
class TestFilesOfAfk:
    def test_data_log_index_and_exports(self, keyed: Shell, umask: str) -> None:
        assert afk(keyed, umask, "run", "-t", "t", "hi") == 0
        assert afk(keyed, umask, "threads", "--search", "hi") == 0
        assert afk(keyed, umask, "threads", "export", "--all", "-o", "all.jsonl") == 0
        assert afk(keyed, umask, "threads", "export", "t", "--format", "markdown", "-o", "t.md") == 0

        made = [keyed.home / "afk", *(keyed.home / "afk").rglob("*")]
        names = {path.name for path in made}
        assert {"threads.db", "index.db", "threads.lock", "events"} <= names
        assert wide([*made, *keyed.folder.iterdir()]) == []

    def test_files_that_exist_only_during_a_run(self, keyed: Shell, server: ModelServer, umask: str) -> None:
        server.script(Step(text="word ", repeat=1000, delay_between=0.05))
        os_umask = os.umask(int(umask, 8))
        try:
            process = keyed.start("run", "-t", "t", "hi")
        finally:
            os.umask(os_umask)
        wait_for_output(process, b"word " * 8)

        made = [keyed.home / "afk", *(keyed.home / "afk").rglob("*")]
        process.kill()
        process.communicate(timeout=LIMIT)

        assert "threads.db-wal" in {path.name for path in made}
        assert wide(made) == []

    def test_a_rescue_file_where_there_is_no_folder_yet(self, keyed: Shell, umask: str) -> None:
        data = keyed.home / "afk" / "data"
        data.parent.mkdir(0o700)
        data.write_text("a file where the folder should be")
        data.chmod(0o600)

        assert afk(keyed, umask, "run", "-t", "t", "hi") == 1

        shutil.rmtree(keyed.home / "afk" / "state" / "events")
        made = [*(keyed.home / "afk").rglob("*")]
        assert any("rescue" in str(path) and path.is_file() for path in made)
        assert wide(made) == []

    def test_a_rescue_file_without_a_log(self, keyed: Shell, umask: str) -> None:
        (keyed.home / "afk" / "config").mkdir(0o700, parents=True)
        config = keyed.home / "afk" / "config" / "config.toml"
        config.write_text("[sinks.jsonl]\nenabled = false\n")
        config.chmod(0o600)
        (keyed.home / "afk").chmod(0o700)
        (keyed.home / "afk" / "data").write_text("a file where the folder should be")
        (keyed.home / "afk" / "data").chmod(0o600)

        assert afk(keyed, umask, "run", "-t", "t", "hi") == 1

        assert wide((keyed.home / "afk").rglob("*")) == []

    def test_the_record_of_trusted_files(self, keyed: Shell, umask: str) -> None:
        project = keyed.folder / "afk.toml"
        project.write_text('busy = "fail"\n')
        project.chmod(0o644)
        keyed.env["HOME"] = str(keyed.folder)

        assert afk(keyed, umask, "trust", str(project)) == 0

        made = [keyed.home / "afk", *(keyed.home / "afk").rglob("*")]
        assert "trusted.toml" in {path.name for path in made}
        assert wide(made) == []
