"""A program of a trusted project is started only while the files that its start names are what was trusted."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from afkcli.host import bound_starts
from afkcli.host.bound_starts import Start, bound_files
from afkcli.testing.model_script import ScriptedCall, Step
from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import Finished, Shell

MARK = "import pathlib; pathlib.Path({started!r}).touch()\n"
PYTHON = sys.executable


def configure(shell: Shell, table: Mapping[str, Any], more: str = "") -> None:
    """Write an afk.toml with one MCP server, as JSON values, which are TOML too."""
    lines = [f"{key} = {toml(value)}" for key, value in table.items()]
    (shell.folder / "afk.toml").write_text("\n".join(["[tools.mcp.servers.s]", *lines, more]) + "\n")
    (shell.folder / "afk.toml").chmod(0o644)


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """The file that is there once the program has started."""
    return tmp_path / "started"


@pytest.fixture
def project(keyed: Shell, started: Path) -> Shell:
    """A project with a few files that a start can name; each program marks that it started."""
    folder = keyed.folder
    mark = MARK.format(started=str(started))
    (folder / "server.py").write_text(mark)
    (folder / "pkg").mkdir()
    (folder / "pkg" / "__init__.py").write_text("")
    (folder / "pkg" / "__main__.py").write_text(mark)
    (folder / "pkg" / "part.py").write_text("x = 1\n")
    (folder / "run.sh").write_text(f"#!/bin/sh\ntouch '{started}'\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "bin").mkdir()
    shutil.copy2(folder / "run.sh", folder / "bin" / "serve")
    (folder / "settings.json").write_text("{}")
    (folder / "sub").mkdir()
    shutil.copy2(folder / "server.py", folder / "sub" / "server.py")
    return keyed


def run(shell: Shell) -> Finished:
    done = shell.afk("run", "-t", "t", "--tool", "s.*", "Go")
    assert done.code == 0, done.err
    return done


def append(path: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with (folder / path).open("a") as file:
            file.write("\n# and something else\n")

    return change


def write(path: str, text: str = "x = 2\n") -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / path).write_text(text)

    return change


CASES = {
    "the program": ({"command": "./run.sh"}, append("run.sh")),
    "the script of an interpreter": ({"command": PYTHON, "args": ["server.py"]}, append("server.py")),
    "a path in an option": (
        {"command": PYTHON, "args": ["server.py", "--config=settings.json"]},
        append("settings.json"),
    ),
    "a path behind an option": (
        {"command": PYTHON, "args": ["server.py", "-e", "./settings.json"]},
        append("settings.json"),
    ),
    "a path in a short option": (
        {"command": PYTHON, "args": ["server.py", "-csettings.json"]},
        append("settings.json"),
    ),
    "an absolute path": ({"command": PYTHON, "args": ["{folder}/server.py"]}, append("server.py")),
    "a path in the words of a shell": (
        {"command": "sh", "args": ["-c", "exec ./run.sh && echo"]},
        append("run.sh"),
    ),
    "a path by $PWD": ({"command": "sh", "args": ["-c", '"$PWD/run.sh"']}, append("run.sh")),
    "a path relative to cwd": (
        {"command": PYTHON, "args": ["server.py"], "cwd": "sub"},
        append("sub/server.py"),
    ),
    "a path in a variable": (
        {"command": PYTHON, "args": ["server.py"], "env": {"OPTIONS": "--require ./settings.json"}},
        append("settings.json"),
    ),
    "a path below a folder that is named": (
        {"command": "sh", "args": ["-c", "cd sub && exec python3 server.py"]},
        append("sub/server.py"),
    ),
    "a package": ({"command": PYTHON, "args": ["-m", "pkg"]}, append("pkg/__main__.py")),
    "a part of a package": ({"command": PYTHON, "args": ["-u", "-m", "pkg"]}, append("pkg/part.py")),
    "a new file in a package": ({"command": PYTHON, "args": ["-mpkg"]}, write("pkg/new.py")),
    "a folder that Python runs": ({"command": PYTHON, "args": ["pkg"]}, append("pkg/part.py")),
    "a module that goes before the package": ({"command": PYTHON, "args": ["-m", "pkg"]}, write("pkg.so", "x")),
    "a program on the PATH": ({"command": "serve", "env": {"PATH": "{folder}/bin:/usr/bin:/bin"}}, append("bin/serve")),
    "a file that was not there": (
        {"command": PYTHON, "args": ["server.py", "--config", "later.json"]},
        write("later.json"),
    ),
}


def filled(value: Any, folder: Path) -> Any:
    if isinstance(value, dict):
        return {key: filled(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, folder) for item in value]
    return value.replace("{folder}", str(folder))


@pytest.mark.parametrize("case", CASES)
def test_a_program_is_not_started_once_a_file_that_its_start_names_has_changed(
    project: Shell, started: Path, case: str
) -> None:
    table, change = CASES[case]
    configure(project, filled(table, project.folder))
    assert project.afk("trust").code == 0
    assert project.afk("trust", "--check").code == 0
    run(project)
    assert started.exists()
    started.unlink()
    change(project.folder)

    done = run(project)

    assert "the MCP server 's' is not started: " in done.err
    assert "was trusted; look at it, then run `afk trust` again" in done.err
    assert not started.exists()
    assert project.afk("trust", "--check").code == 2
    assert project.afk("trust").code == 0
    assert "is not started" not in run(project).err
    assert started.exists()


def test_a_link_in_the_project_that_leads_elsewhere_is_bound(project: Shell, started: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.py"
    shutil.copy(project.folder / "server.py", elsewhere)
    (project.folder / "linked.py").symlink_to(elsewhere)
    configure(project, {"command": PYTHON, "args": ["linked.py"]})
    assert project.afk("trust").code == 0
    other = tmp_path / "other.py"
    shutil.copy(elsewhere, other)
    (project.folder / "linked.py").unlink()
    (project.folder / "linked.py").symlink_to(other)
    assert "linked.py has changed since" in run(project).err
    assert not started.exists()


def test_a_path_that_leads_out_of_the_project_and_back_is_bound(project: Shell, started: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(project.folder)
    configure(project, {"command": PYTHON, "args": [str(tmp_path / "way" / "server.py")]})
    assert project.afk("trust").code == 0
    append("server.py")(project.folder)
    assert "server.py has changed since" in run(project).err
    assert not started.exists()


def test_a_file_that_is_gone_is_said(project: Shell, started: Path) -> None:
    configure(project, {"command": PYTHON, "args": ["server.py", "--config", "settings.json"]})
    assert project.afk("trust").code == 0
    (project.folder / "settings.json").unlink()
    assert "settings.json is gone since" in run(project).err
    assert not started.exists()


def test_a_run_in_another_folder_of_the_project_does_not_start_what_is_there(project: Shell, started: Path) -> None:
    configure(project, {"command": PYTHON, "args": ["server.py"]})
    assert project.afk("trust").code == 0
    project.folder = project.folder / "sub"
    assert "sub/server.py was not there, or not named, when" in run(project).err
    assert not started.exists()


def test_planted_bytecode_in_a_bound_package_does_not_run(project: Shell, started: Path, tmp_path: Path) -> None:
    from tests.safety.test_trusted_code import plant_bytecode

    main = project.folder / "pkg" / "__main__.py"
    main.write_text(f"import pkg.part\n{main.read_text()}")
    part = project.folder / "pkg" / "part.py"
    part.write_text(f"x = 1\n{'#' * 200}\n")
    configure(project, {"command": PYTHON, "args": ["-m", "pkg"]})
    assert project.afk("trust").code == 0
    plant_bytecode(part, f"open({str(tmp_path / 'evil')!r}, 'w')\n")
    assert project.afk("trust", "--check").code == 0
    run(project)
    assert started.exists()
    assert not (tmp_path / "evil").exists()


def test_a_server_of_the_users_own_config_is_not_bound(project: Shell, started: Path) -> None:
    config = project.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f"[tools.mcp.servers.s]\ncommand = {json.dumps(PYTHON)}\nargs = ['server.py']\n")
    run(project)
    started.unlink()
    append("server.py")(project.folder)
    assert "is not started" not in run(project).err
    assert started.exists()


def test_trust_of_an_earlier_version_does_not_start_programs(project: Shell, started: Path) -> None:
    """Its record has no hashes of the files that a start names."""
    import tomllib

    import tomli_w

    configure(project, {"command": PYTHON, "args": ["server.py"]})
    assert project.afk("trust").code == 0
    record = project.home / "afk" / "state" / "trusted.toml"
    known = tomllib.loads(record.read_text())
    for entry in known.values():
        entry.pop("starts")
    record.write_text(tomli_w.dumps(known))
    assert project.afk("trust", "--check").code == 2
    assert "is not trusted any more" in project.afk("run", "-t", "t", "Go").err


class TestRules:
    """A rule of a trusted project that allows a command by name."""

    RULE = '[[approvals.rules]]\ntool = "shell.run"\narguments = { argv = ["./run.sh", "..."] }\ndecision = "allow"\n'

    @pytest.fixture
    def ruled(self, project: Shell) -> Shell:
        config = project.home / "afk" / "config" / "config.toml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text('[tools.shell]\nsandbox = "off"\n')  # the mark is written outside of the project
        (project.folder / "afk.toml").write_text(self.RULE)
        assert project.afk("trust").code == 0
        return project

    def call(self, shell: Shell, server: ModelServer) -> Finished:
        server.script(
            Step(tool_calls=[ScriptedCall(name="shell__run", arguments={"argv": ["./run.sh"]}, id="c")]),
            Step(text="ok"),
        )
        return shell.afk("run", "-t", "t", "--tool", "shell.run", "Go")

    def test_it_allows_the_program_as_it_was_trusted(self, ruled: Shell, server: ModelServer, started: Path) -> None:
        self.call(ruled, server)
        assert started.exists()

    def test_it_does_not_allow_a_program_that_has_changed(
        self, ruled: Shell, server: ModelServer, started: Path
    ) -> None:
        append("run.sh")(ruled.folder)
        done = self.call(ruled, server)
        assert "its program has changed since a rule allowed it" in done.err
        assert not started.exists()
        assert ruled.afk("trust", "--check").code == 2


class TestWhatIsNamed:
    @pytest.mark.parametrize("words", [["x" * 5000], ["~nobody-at-all/x"], ["\udcff"], ["--=:,@;"], ["."], [""], ["/"]])
    def test_words_that_are_no_paths_name_nothing(self, tmp_path: Path, words: list[str]) -> None:
        assert bound_files(Start(command="sh", args=words), tmp_path, tmp_path, {"PATH": "/bin"}).digests == {}

    def test_what_is_not_bound_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        found = bound_files(Start(command="sh", args=["data"]), tmp_path, tmp_path, {"PATH": "/bin"})
        assert found.not_bound == [
            f"{shutil.which('sh', path='/bin')}, outside the project",
            f"{tmp_path}/data, a folder",
        ]

    def test_a_file_that_is_too_large_to_be_hashed_before_each_start_is_not_bound(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bound_starts, "MAX_FILE_BYTES", 10)
        (tmp_path / "model.bin").write_bytes(b"x" * 11)
        found = bound_files(Start(command="sh", args=["model.bin"]), tmp_path, tmp_path, {"PATH": "/bin"})
        assert f"{tmp_path}/model.bin, too large to be bound" in found.not_bound

    def test_the_interpreter_of_a_script_in_the_project_is_bound(self, tmp_path: Path) -> None:
        for name, text in (("run", f"#!{tmp_path}/interpreter -x\n"), ("interpreter", "#!/bin/sh\n")):
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(stat.S_IRWXU)
        found = bound_files(Start(command="./run"), tmp_path, tmp_path, {})
        assert sorted(found.digests) == [f"{tmp_path}/interpreter", f"{tmp_path}/run"]

    def test_node_finds_a_script_without_its_suffix(self, tmp_path: Path) -> None:
        (tmp_path / "server.js").write_text("")
        (tmp_path / "dir").mkdir()
        (tmp_path / "dir" / "index.js").write_text("")
        found = bound_files(Start(command="node", args=["server", "./dir"]), tmp_path, tmp_path, {})
        assert sorted(found.digests) == [f"{tmp_path}/dir/index.js", f"{tmp_path}/server.js"]

    def test_a_fifo_and_a_device_hold_nothing_up(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        (tmp_path / "zero").symlink_to("/dev/zero")
        found = bound_files(Start(command="sh", args=["fifo", "zero"]), tmp_path, tmp_path, {})
        assert all(digest.endswith("not a regular file") for digest in found.digests.values())
        assert len(found.digests) == 2
