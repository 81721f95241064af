"""Commands in their sandbox: what they can do, what the model is told, and what is refused; real processes only.

`python -m tests.sandbox` shows what the sandbox holds, on machines with each mechanism.
"""

import asyncio
import sys
from pathlib import Path

import pytest
from afk_tools_shell import Settings, afk_tools

from afkcli.plugin import PluginError, SandboxError, ToolError, make_sandbox
from afkcli.processes import sandbox
from afkcli.processes.confine import readable
from afkcli.processes.sandbox import Mechanism, mechanisms

WORKING = [item for item in mechanisms() if item.works]
pytestmark = pytest.mark.skipif(not WORKING, reason="this machine has neither bubblewrap nor Landlock")
ABSENT = Mechanism(name="bubblewrap", program="", works=False, detail="not installed")


@pytest.fixture(params=WORKING, ids=lambda item: item.name)
def mechanism(request, monkeypatch):
    """Give one mechanism that works here, as if it were the only one."""
    monkeypatch.setattr(sandbox, "mechanisms", lambda: (request.param,))
    return request.param.name


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Give a home folder with afk's own folders and keys in it, and a project in it as the working directory."""
    for name in ("home/.ssh", "home/afk/config", "home/afk/data", "home/project", "home/other"):
        (tmp_path / name).mkdir(parents=True)
    found = tmp_path / "home"
    (found / ".ssh" / "id").write_text("PRIVATE")
    (found / "afk" / "config" / "config.toml").write_text("KEY")
    monkeypatch.setenv("HOME", str(found))
    monkeypatch.setenv("AFK_HOME", str(found / "afk"))
    monkeypatch.chdir(found / "project")
    return found


def run(*argv, settings=None, **arguments):
    """Return what the model is told of a command."""
    (tool,) = afk_tools(Settings(**(settings or {})))
    return asyncio.run(tool.call({"argv": list(argv), **arguments}))


def sh(code, **settings):
    return run("sh", "-c", code, settings=settings)


@pytest.mark.usefixtures("mechanism")
class TestWriting:
    def test_a_command_writes_in_its_folder_and_its_temporary_one(self, home: Path) -> None:
        told = sh("echo a > made; echo b > $TMPDIR/x; cat made $TMPDIR/x; echo c > ../other/made")

        assert "a\nb\n" in told
        assert (home / "project" / "made").read_text() == "a\n"
        assert not (home / "other" / "made").exists()

    def test_in_mode_read_only_it_writes_in_its_temporary_folder_alone(self, home: Path) -> None:
        told = sh("echo b > $TMPDIR/x; cat $TMPDIR/x; echo a > made", sandbox="read-only")

        assert "b\n" in told
        assert not (home / "project" / "made").exists()

    def test_more_folders_are_granted_by_the_config(self, home: Path) -> None:
        sh("echo a > ~/other/made", writable=["~/other"])

        assert (home / "other" / "made").read_text() == "a\n"

    def test_the_temporary_folder_is_gone_afterwards(self, home: Path) -> None:
        folder = sh("touch $TMPDIR/x; echo $TMPDIR").split("stdout:\n")[1].strip()

        assert "afk-" in folder
        assert not Path(folder).exists()

    def test_a_command_in_another_folder_writes_in_the_workspace_all_the_same(self, home: Path) -> None:
        (tool,) = afk_tools(Settings())
        told = asyncio.run(tool.call({"argv": ["sh", "-c", "touch here; touch ../project/there"], "cwd": "../other"}))

        assert "here" in told
        assert (home / "project" / "there").exists()
        assert not (home / "other" / "here").exists()

    def test_without_a_sandbox_it_writes_anywhere(self, home: Path) -> None:
        sh("echo a > ../other/made", sandbox="off")

        assert (home / "other" / "made").exists()


@pytest.mark.usefixtures("mechanism")
class TestReading:
    @pytest.mark.parametrize("path", ["~/.ssh/id", "~/afk/config/config.toml"])
    def test_keys_are_hidden(self, home: Path, path: str) -> None:
        told = sh(f"cat {path}")

        assert "exit status: 1" in told
        assert "PRIVATE" not in told
        assert "KEY" not in told

    def test_the_config_replaces_what_is_hidden_but_for_the_folders_of_afk(self, home: Path) -> None:
        (home / "other" / "secret").write_text("HIDDEN")
        told = sh("cat ~/.ssh/id ~/other/secret ~/afk/config/config.toml", hidden=["~/other"])

        assert "PRIVATE" in told
        assert "HIDDEN" not in told
        assert "KEY" not in told

    def test_a_link_to_a_key_leads_nowhere(self, home: Path) -> None:
        (home / "project" / "link").symlink_to(home / ".ssh" / "id")

        assert "PRIVATE" not in sh("cat link")

    def test_a_hidden_file_behind_a_link_is_hidden(self, home: Path) -> None:
        (home / "other" / "netrc").write_text("PASSWORD")
        (home / ".netrc").symlink_to(home / "other" / "netrc")

        assert "PASSWORD" not in sh("cat ~/other/netrc")

    def test_all_else_is_readable(self, home: Path) -> None:
        (home / "other" / "note").write_text("beans")

        assert "beans" in sh("cat ~/other/note; ls ~ > /dev/null")


@pytest.mark.usefixtures("mechanism")
class TestConnections:
    CODE = "import socket; socket.socket(); print('a socket')"

    def test_there_are_none_by_default(self, home: Path) -> None:
        assert "a socket" not in run(sys.executable, "-I", "-S", "-c", self.CODE)

    def test_the_config_grants_them(self, home: Path) -> None:
        assert "a socket" in run(sys.executable, "-I", "-S", "-c", self.CODE, settings={"network": True})


@pytest.mark.usefixtures("mechanism")
class TestEnding:
    def test_the_exit_status_is_that_of_the_command(self, home: Path) -> None:
        assert sh("exit 3").startswith("exit status: 3")

    def test_a_missing_program_is_named(self, home: Path) -> None:
        with pytest.raises(ToolError, match="there is no program 'no-such-program' on the PATH"):
            run("no-such-program")

    def test_a_file_that_is_no_program_is_named(self, home: Path) -> None:
        (home / "project" / "text").write_text("text")
        with pytest.raises(ToolError, match=r"'\./text' could not be run: Permission denied"):
            run("./text")

    def test_a_command_that_takes_too_long_may_clean_up(self, home: Path) -> None:
        code = "trap 'touch cleaned; exit 0' TERM; touch begun; while :; do sleep 0.05; done"
        for seconds in (1.0, 5.0, 25.0):
            with pytest.raises(ToolError, match="took longer than"):
                run("sh", "-c", code, timeout_s=seconds)
            if (home / "project" / "begun").exists():
                break

        assert (home / "project" / "cleaned").exists()

    def test_what_it_leaves_running_is_ended(self, home: Path) -> None:
        told = sh("(trap '' TERM; sleep 600; touch late) & echo left")

        assert "left" in told
        assert not (home / "project" / "late").exists()


class TestRefused:
    def test_without_a_mechanism_the_line_says_how_to_switch_it_off(self, home: Path, monkeypatch) -> None:
        monkeypatch.setattr(sandbox, "mechanisms", lambda: (ABSENT,))
        with pytest.raises(PluginError) as caught:
            afk_tools(Settings())

        assert str(caught.value) == (
            "tools.shell is refused: no sandbox can be made on this machine (bubblewrap: not installed); install"
            ' bubblewrap; or write `sandbox = "off"` under [tools.shell] to run commands with all your rights'
        )
        assert afk_tools(Settings(sandbox="off"))

    def test_a_workspace_in_a_hidden_folder(self, home: Path, monkeypatch) -> None:
        monkeypatch.chdir(home / "afk" / "config")
        with pytest.raises(PluginError, match="which is hidden from commands"):
            afk_tools(Settings())

    def test_landlock_cannot_hide_a_part_of_the_workspace(self, home: Path, monkeypatch) -> None:
        landlock = Mechanism(name="landlock", program="", works=True, detail="")
        monkeypatch.setattr(sandbox, "mechanisms", lambda: (landlock,))
        with pytest.raises(SandboxError, match=r"Landlock cannot hide .* install bubblewrap, or run afk in the folder"):
            make_sandbox("workspace", workspace=str(home))

    @pytest.mark.skipif("bubblewrap" not in [item.name for item in WORKING], reason="bubblewrap does not work here")
    def test_bubblewrap_hides_a_part_of_the_workspace(self, home: Path, monkeypatch) -> None:
        monkeypatch.chdir(home)
        told = sh("echo a > made; cat made; cat .ssh/id; touch .ssh/new")

        assert "a\n" in told
        assert "PRIVATE" not in told
        assert not (home / ".ssh" / "new").exists()


@pytest.mark.usefixtures("mechanism")
def test_the_model_is_told_what_the_sandbox_allows(home: Path) -> None:
    (tool,) = afk_tools(Settings())

    assert tool.spec.description.endswith(
        f"It runs in a sandbox: it can write only in {home}/project, $TMPDIR, has no network, and reads no keys of the"
        " user."
    )


def test_what_is_not_hidden_is_told_by_its_folders(tmp_path: Path) -> None:
    for name in ("a/b/key", "a/c", "d"):
        (tmp_path / name).mkdir(parents=True)
    found = [path for path in readable([f"{tmp_path}/a/b"]) if path.startswith(str(tmp_path))]

    assert sorted(found) == [f"{tmp_path}/a/c", f"{tmp_path}/d"]
