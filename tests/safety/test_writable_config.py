"""A config that others can write is not used: it can start programs, load code and send keys to a server."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.shell import Finished, Shell
from tests.host.test_permissions import needs_root

PLUGIN = "import os, pathlib\npathlib.Path({ran!r}).touch()\nAFK_HOOKS = 1\n"


@pytest.fixture
def config(keyed: Shell, tmp_path: Path) -> Path:
    """The user's config, with a plugin file; `ran` is there once the plugin's code has run."""
    folder = keyed.home / "afk" / "config"
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text(PLUGIN.format(ran=str(tmp_path / "ran")))
    file = folder / "config.toml"
    file.write_text('[plugins]\npaths = ["mine.py"]\n')
    for path in (file, folder / "mine.py"):
        path.chmod(0o644)
    return file


def refused(shell: Shell, said: str) -> Finished:
    """Assert that a run is refused with one line that has the command which mends it, and no code was run."""
    done = shell.afk("run", "-t", "t", "hi")
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not (shell.home.parent / "ran").exists()
    return done


def test_a_config_that_everyone_can_write_is_refused_until_the_command_in_the_message_is_run(
    keyed: Shell, config: Path
) -> None:
    config.chmod(0o666)
    done = refused(keyed, f"the config {config} is not used: others can write it; mend it with: chmod go-w {config}")
    subprocess.run(done.err.rpartition("mend it with: ")[2], shell=True, check=True)
    keyed.afk("run", "-t", "t", "hi")
    assert (keyed.home.parent / "ran").exists()


def test_a_config_in_a_folder_that_others_can_write_is_refused(keyed: Shell, config: Path) -> None:
    config.parent.chmod(0o777)
    refused(keyed, f"mend it with: chmod go-w {config.parent}")


def test_a_link_to_a_config_that_others_can_write_is_refused(keyed: Shell, config: Path, tmp_path: Path) -> None:
    real = config.rename(tmp_path / "dotfiles.toml")
    config.symlink_to(real)
    real.chmod(0o666)
    refused(keyed, f"mend it with: chmod go-w {real}")


@needs_root
def test_a_config_of_another_user_is_refused_as_under_sudo(keyed: Shell, config: Path) -> None:
    os.chown(config, 12345, -1)
    refused(keyed, f"another user owns it; make it yours with: chown -h 0 {config}")


@pytest.mark.parametrize("command", [("threads",), ("plugins",), ("config", "show"), ("trust",), ("tools",)])
def test_every_command_that_would_use_it_refuses_it(keyed: Shell, config: Path, command: tuple[str, ...]) -> None:
    (keyed.folder / "afk.toml").write_text('store = "disk"\n')
    config.chmod(0o666)
    done = keyed.afk(*command)
    assert (done.code, done.out) == (2, "")
    assert f"chmod go-w {config}" in done.err
    assert not (keyed.home.parent / "ran").exists()


def test_doctor_and_config_path_say_what_is_wrong(keyed: Shell, config: Path) -> None:
    config.chmod(0o666)
    shown = keyed.afk("config", "path")
    found = keyed.afk("doctor")
    assert shown.code == 0
    assert f"refused: others can write it; mend it with: chmod go-w {config}" in shown.out
    assert found.code == 1
    assert f"chmod go-w {config}" in found.out


def test_a_plugin_file_of_the_config_that_others_can_write_is_not_loaded(keyed: Shell, config: Path) -> None:
    plugin = config.with_name("mine.py")
    plugin.chmod(0o666)
    done = keyed.afk("run", "-t", "t", "hi")
    assert (done.code, done.out) == (0, "reply 1: hi\n")
    assert f"the plugin file {plugin} is not used: others can write it; mend it with: chmod go-w {plugin}" in done.err
    assert not (keyed.home.parent / "ran").exists()


def test_an_instructions_file_of_the_config_that_others_can_write_is_not_sent(keyed: Shell, config: Path) -> None:
    told = config.with_name("told.md")
    told.write_text("Be kind.")
    told.chmod(0o666)
    config.write_text('instructions_file = "told.md"\n')
    refused(keyed, f"cannot be read: others can write it; mend it with: chmod go-w {told}")


def test_an_instructions_file_without_end_is_refused(keyed: Shell, config: Path) -> None:
    config.write_text('instructions_file = "/dev/zero"\n')
    refused(keyed, "/dev/zero of agent 'afk' cannot be read: it is not a regular file")


def test_a_record_of_trusted_files_that_others_can_write_trusts_nothing(keyed: Shell, tmp_path: Path) -> None:
    (keyed.folder / "mine.py").write_text(PLUGIN.format(ran=str(tmp_path / "ran")))
    (keyed.folder / "afk.toml").write_text('[plugins]\npaths = ["mine.py"]\n')
    assert keyed.afk("trust").code == 0
    record = keyed.home / "afk" / "state" / "trusted.toml"
    record.chmod(0o666)
    refused(keyed, f"the record of trusted files {record} is not used: others can write it; mend it with: chmod go-w")
