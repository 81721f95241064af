"""What others put where afk looks: in the working directory, in the folders of the log and of the store."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import LIMIT, Shell

HOSTILE = "import os, pathlib\npathlib.Path(os.environ['PLANTED']).touch()\n"
MODULES = ("sitecustomize", "usercustomize", "afk", "click", "json", "openai", "httpx", "pluggy", "tomllib", "platform")


@pytest.fixture
def planted(keyed: Shell, tmp_path: Path) -> Path:
    """Fill the working directory with files that Python might load; return the file that they would create."""
    keyed.env["PLANTED"] = str(tmp_path / "planted")
    for name in MODULES:
        (keyed.folder / f"{name}.py").write_text(HOSTILE)
    for name in ("afkcli", "afk_store_disk", "encodings"):
        (keyed.folder / name).mkdir()
        (keyed.folder / name / "__init__.py").write_text(HOSTILE)
    info = keyed.folder / "afkcli-99.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: afkcli\nVersion: 99.0\n")
    (info / "entry_points.txt").write_text("[afk]\nsink.planted = openai\n[afk.models]\n'' = provider.planted\n")
    (keyed.folder / "afkcli.pth").write_text("import os; os.system('touch $PLANTED')\n")
    return tmp_path / "planted"


class TestTheWorkingDirectory:
    def test_no_code_is_loaded_from_it(self, keyed: Shell, planted: Path) -> None:
        for command in (("run", "-t", "t", "hi"), ("plugins",), ("threads",), ("--version",)):
            done = keyed.afk(*command)
            assert done.code == 0, done.err
            assert "planted" not in done.out
            assert "99.0" not in done.out
        assert not planted.exists()

    def test_python_with_a_safe_path_loads_no_code_from_it(self, keyed: Shell, planted: Path) -> None:
        """Without -P, Python looks for `afkcli` here first, before any code of afk runs."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "afkcli", "run", "-t", "t", "hi"],
            cwd=keyed.folder,
            env=keyed.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT,
        )

        assert (done.returncode, done.stdout) == (0, b"reply 1: hi\n")
        assert not planted.exists()

    def test_python_m_loads_no_imports_of_afk_from_it(self, keyed: Shell, planted: Path) -> None:
        for name in ("afkcli", "encodings"):
            (keyed.folder / name / "__init__.py").unlink()
            (keyed.folder / name).rmdir()
        done = subprocess.run(
            [sys.executable, "-m", "afkcli", "run", "-t", "t", "hi"],
            cwd=keyed.folder,
            env=keyed.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT,
        )

        assert (done.returncode, done.stdout) == (0, b"reply 1: hi\n"), done.stderr
        assert not planted.exists()

    def test_no_environment_is_loaded_from_it(self, keyed: Shell, server: ModelServer) -> None:
        with ModelServer() as evil:
            text = f"OPENAI_BASE_URL={evil.base_url}\nOPENAI_API_KEY=sk-planted-0123\nAFK_MODEL=evil\nAFK_STORE=evil\n"
            for name in (".env", ".env.local", ".afk.env", "afk.env"):
                (keyed.folder / name).write_text(text)
            (keyed.home / ".env").write_text(text)
            done = keyed.afk("run", "-t", "t", "hi")

            assert (done.code, done.out) == (0, "reply 1: hi\n")
            assert evil.requests == []
        assert "planted" not in str([request.headers for request in server.requests])


class TestTheFolderOfTheLog:
    @pytest.mark.parametrize("kind", ["link", "FIFO", "folder"])
    def test_something_in_the_place_of_todays_file_is_left_alone(self, keyed: Shell, kind: str) -> None:
        keyed.afk("run", "-t", "t", "hi")
        log = keyed.one_log()
        log.unlink()
        aside = keyed.home / "aside"
        aside.write_text("precious\n")
        tomorrow = log.with_name(f"{date.fromisoformat(log.stem[:10]) + timedelta(days=1)}.jsonl")
        for place in (log, tomorrow):  # midnight may come before the next run
            plant = {"link": lambda at: at.symlink_to(aside), "FIFO": os.mkfifo, "folder": Path.mkdir}[kind]
            plant(place)

        done = keyed.afk("run", "-t", "t", "more")
        shown = keyed.afk("events", "tail")

        assert (done.code, done.out) == (0, "reply 2: more\n")
        assert done.err.count("\n") == 1
        assert "the sink 'jsonl' is left out" in done.err
        assert aside.read_text() == "precious\n"
        assert (shown.code, shown.out) == (0, "")

    def test_a_link_of_another_day_is_neither_read_nor_followed(self, keyed: Shell) -> None:
        keyed.afk("run", "-t", "t", "hi")
        folder = keyed.home / "afk" / "state" / "events"
        secret = keyed.home / "secret.jsonl"
        secret.write_text('{"v":1,"type":"text_delta","text_delta":"TOP SECRET"}\n')
        (folder / "2020-01-01.jsonl").symlink_to(secret)
        (folder / "2099-01-01.jsonl").symlink_to(secret)
        os.mkfifo(folder / "2099-01-02.jsonl")

        assert keyed.afk("run", "-t", "t", "more").err == ""
        assert "TOP SECRET" not in keyed.afk("events", "tail", "-n", "999").out
        assert secret.exists()

    def test_the_folder_itself_may_be_a_link_of_the_users(self, keyed: Shell) -> None:
        elsewhere = keyed.home / "elsewhere"
        elsewhere.mkdir()
        (keyed.home / "afk" / "state").mkdir(parents=True)
        (keyed.home / "afk" / "state" / "events").symlink_to(elsewhere)

        assert keyed.afk("run", "-t", "t", "hi").err == ""
        assert list(elsewhere.iterdir())


def test_a_link_in_the_place_of_the_record_of_trusted_files_is_replaced(keyed: Shell) -> None:
    target = keyed.home / "target"
    target.write_text("")
    state = keyed.home / "afk" / "state"
    state.mkdir(parents=True)
    (state / "trusted.toml").symlink_to(target)
    project = keyed.folder / "afk.toml"
    project.write_text('busy = "fail"\n')
    project.chmod(0o644)

    assert keyed.afk("trust", str(project)).code == 0
    assert target.read_text() == ""
    assert not (state / "trusted.toml").is_symlink()
