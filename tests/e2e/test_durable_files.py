"""What afk writes survives power loss, and only its user can read it, whatever the umask is; seen from outside."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from afkcli.testing.model_server import ModelServer
from tests.e2e.shell import AFK, LIMIT, Shell
from tests.other_user import other_user

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="system calls and modes of Linux")

_CALL = re.compile(r"^\d+\s+(\w+)\((.*)\)\s+= (\S+)")
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


class Calls:
    """The system calls of one command, in order, by strace(1)."""

    def __init__(self, shell: Shell, *arguments: str, **env: str) -> None:
        log = shell.folder.parent / "strace.log"
        traced = "trace=fsync,fdatasync,rename,renameat,renameat2,mkdir,mkdirat,link,linkat"
        command = ["strace", "-f", "-y", "-s", "4096", "-o", str(log), "-e", traced, "-e", "signal=none"]
        done = subprocess.run(
            [*command, str(AFK), *arguments],
            cwd=shell.folder,
            env=shell.environment(**env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT,
        )
        self.err = done.stderr.decode()
        lines = log.read_text(errors="replace").splitlines()
        found = [match for line in lines if (match := _CALL.match(line)) and match[3] == "0"]
        self.calls = [(match[1], match[2]) for match in found]

    def position(self, name: str, path: Path, after: int = 0) -> int:
        """Return where a call on `path` is; it fails if there is none after `after`."""
        for number, (call, arguments) in enumerate(self.calls[after:], after):
            if call.startswith(name) and re.search(rf"[<\"]{re.escape(str(path))}[>\"]", arguments):
                return number
        raise AssertionError(f"no {name} of {path} after call {after}: {self.calls}")

    def synced_folder(self, name: str, path: Path) -> bool:
        """Return whether the folder of `path` is synced after its `rename`, `link` or `mkdir`."""
        return self.position("fsync", path.parent, self.position(name, path)) > 0


@needs_strace
def test_a_rescue_file_and_its_new_folders_survive_power_loss(keyed: Shell) -> None:
    data = keyed.home / "afk" / "data"
    data.parent.mkdir()
    data.write_text("a file where the folder should be")

    calls = Calls(keyed, "run", "-t", "t", "hi")

    file = next((keyed.home / "afk" / "state" / "rescue").iterdir())
    assert calls.synced_folder("rename", file)
    for folder in (file.parent, file.parent.parent):
        assert calls.synced_folder("mkdir", folder)


@needs_strace
def test_the_parents_of_a_new_data_folder_survive_power_loss(keyed: Shell) -> None:
    home = keyed.home / "new" / "home"

    calls = Calls(keyed, "run", "-t", "t", "hi", AFK_HOME=str(home))

    for folder in (home.parent, home, home / "data"):
        assert calls.synced_folder("mkdir", folder)
    assert calls.synced_folder("rename", home / "data" / "threads.db")


@needs_strace
def test_the_record_of_trust_survives_power_loss(shell: Shell) -> None:
    (shell.folder / "afk.toml").write_text('[providers.openai]\nbase_url = "http://127.0.0.1:9/v1"\n')

    calls = Calls(shell, "trust")

    record = shell.home / "afk" / "state" / "trusted.toml"
    assert calls.position("fsync", record.parent, calls.position("rename", record))
    assert calls.synced_folder("mkdir", record.parent)


@needs_strace
def test_a_new_config_and_an_export_survive_power_loss(keyed: Shell) -> None:
    keyed.afk("run", "-t", "t", "hi")
    exported = keyed.folder / "t.json"

    assert Calls(keyed, "init").synced_folder("link", keyed.folder / "afk.toml")
    assert Calls(keyed, "threads", "export", "t", "-o", str(exported)).synced_folder("rename", exported)


def test_files_and_folders_have_their_modes_under_umask_0777(keyed: Shell) -> None:
    """A run, a rescue file, a record of trust, a config and an export; each is written and found again."""

    def afk(*arguments: str, **env: str) -> int:
        shell = ["sh", "-c", 'umask 0777; exec "$@"', "sh", str(AFK), *arguments]
        return subprocess.run(
            shell,
            cwd=keyed.folder,
            env=keyed.environment(**env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT,
        ).returncode

    assert afk("run", "-t", "t", "hi") == 0
    assert afk("run", "-t", "t", "again") == 0
    assert afk("threads", "export", "t", "-o", "t.json") == 0
    assert afk("init") == 0
    assert afk("trust") == 0
    unusable = keyed.home / "unusable"
    unusable.mkdir()
    (unusable / "data").write_text("")
    assert afk("run", "-t", "t", "hi", AFK_HOME=str(unusable)) == 1

    found = [path for path in keyed.home.rglob("*") if path != unusable]
    wrong = {path: oct(mode) for path in found if (mode := path.stat().st_mode & 0o777) != _private(path)}
    assert wrong == {unusable / "data": oct((unusable / "data").stat().st_mode & 0o777)}
    assert any(path.parent.name == "rescue" for path in found)
    assert (keyed.folder / "t.json").stat().st_mode & 0o777 == 0o600
    assert (keyed.folder / "afk.toml").stat().st_mode & 0o777 == 0o644


def _private(path: Path) -> int:
    return 0o700 if path.is_dir() else 0o600


def test_runs_of_a_user_work_under_umask_0777(server: ModelServer) -> None:
    """Root may read any file; a user cannot read what has no permission."""
    with other_user() as user, tempfile.TemporaryDirectory(prefix="afk-umask-") as name:
        root = Path(name)
        shell = Shell(home=root / "home", folder=root / "work")
        shell.env.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="sk-canary-0123456789", AFK_MODEL="openai/m")
        for folder in (root, shell.home, shell.folder):
            folder.mkdir(exist_ok=True)
            user.gives(folder)

        def as_user(*command: str) -> subprocess.CompletedProcess[bytes]:
            return subprocess.run(
                user.command(*command, folder=shell.folder),
                env=shell.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LIMIT,
            )

        script = 'umask 0777; for n in 1 2; do "$0" run -t t $n || exit; done; "$0" threads show t'
        done = as_user("sh", "-c", script, str(AFK))

    assert (done.returncode, done.stderr) == (0, b"")
