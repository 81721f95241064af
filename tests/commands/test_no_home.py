"""`afk` for a user who has no home folder: no HOME, and no entry in the user database (`docker run --user 4711`)."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from tests.e2e.shell import Finished
from tests.in_process import run_in_process

NEXT_STEP = (
    "afk: this user has no home folder for afk's files; set AFK_HOME (or HOME) to a folder that can be written\n"
)


@pytest.fixture(autouse=True)
def _no_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(key: object) -> pwd.struct_passwd:
        raise KeyError(f"no entry for {key}")

    monkeypatch.setattr(pwd, "getpwuid", missing)
    monkeypatch.setattr(pwd, "getpwnam", missing)


def afk(folder: Path, *arguments: str, **env: str) -> Finished:
    environment = {"PATH": os.environ["PATH"], **env}
    code, out, err = run_in_process(arguments, folder=folder, environment=environment, stdin=None)
    return Finished(code, out.decode(), err.decode())


@pytest.mark.parametrize(
    "line", ["run hi", "run -t t hi", "threads", "threads show x", "events tail", "config path", "plugins"]
)
def test_a_command_that_needs_the_folder_says_in_one_line_what_to_set(tmp_path: Path, line: str) -> None:
    done = afk(tmp_path, *line.split())
    assert (done.code, done.out, done.err) == (2, "", NEXT_STEP)


@pytest.mark.parametrize("variable", [{"HOME": ""}, {"HOME": "relative"}])
def test_a_variable_that_names_no_home_folder_is_no_help(tmp_path: Path, variable: dict[str, str]) -> None:
    done = afk(tmp_path, "run", "hi", **variable)
    assert (done.code, done.out, done.err) == (2, "", NEXT_STEP)


def test_doctor_reports_it_in_its_table(tmp_path: Path) -> None:
    done = afk(tmp_path, "doctor")
    assert done.code == 1
    row = next(line for line in done.out.splitlines() if line.startswith("data folder"))
    assert "fail" in row
    assert "set AFK_HOME (or HOME)" in row
    assert "store.disk" in done.out


@pytest.mark.parametrize("variable", ["AFK_HOME", "HOME"])
def test_with_a_folder_everything_works(tmp_path: Path, variable: str) -> None:
    home = {variable: str(tmp_path / "mine")}
    assert afk(tmp_path, "run", "-t", "t", "hi", **home).code == 0
    assert afk(tmp_path, "threads", "show", "t", **home).code == 0
    assert afk(tmp_path, "doctor", **home).code == 0


@pytest.mark.parametrize("home", ["~/afk", "~somebody/afk"])
def test_a_tilde_in_afk_home_that_leads_nowhere_is_named(tmp_path: Path, home: str) -> None:
    done = afk(tmp_path, "threads", AFK_HOME=home)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"afk: AFK_HOME is {home!r}, but that home folder is not known; write the full path\n"


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ('[stores.disk]\npath = "~/threads"', "[stores.disk] path is '~/threads'"),
        ('[sinks.jsonl]\npath = "~/log"', "[sinks.jsonl] path is '~/log'"),
        ('[tools.files]\nroots = ["~/notes"]', "[tools.files] roots is '~/notes'"),
    ],
)
def test_a_tilde_in_a_setting_that_leads_nowhere_is_named(tmp_path: Path, table: str, named: str) -> None:
    config = tmp_path / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f"{table}\n")
    done = afk(tmp_path, "run", "--tool", "files.list", "hi", AFK_HOME=str(tmp_path / "afk"))
    assert f"{named}, but that home folder is not known; write the full path" in done.err
    assert "RuntimeError" not in done.err
    assert len([line for line in done.err.splitlines() if "not known" in line]) == 1
