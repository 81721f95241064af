"""Who else can write a file, by its mode, its owner, the links to it and their folders."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from afkcli.host.permissions import UnsafeFileError, is_private_group, read_file_once, read_own_file

AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="only root can give files away; CI runs as root in its container")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of the user in a folder of the user."""
    folder = tmp_path / "config"
    folder.mkdir(mode=0o755)
    file = folder / "config.toml"
    file.write_text("x")
    file.chmod(0o644)
    return file


def why(path: Path) -> str:
    """Return why the file at `path` is not read."""
    with pytest.raises(UnsafeFileError) as caught:
        read_own_file(path)
    return str(caught.value)


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o644, 0o755])
def test_a_file_that_only_its_owner_can_write_is_read(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert read_own_file(file) == b"x"


@pytest.mark.parametrize("mode", [0o666, 0o646, 0o602, 0o622])
def test_a_file_that_everyone_can_write_is_refused_with_the_command_that_mends_it(file: Path, mode: int) -> None:
    file.chmod(mode)
    said = why(file)
    assert said == f"others can write it; mend it with: chmod go-w {file}"
    subprocess.run(said.partition(": ")[2], shell=True, check=True)
    assert read_own_file(file) == b"x"


def test_the_command_is_quoted_for_the_shell(tmp_path: Path) -> None:
    odd = tmp_path / "my config; touch x"
    odd.write_text("x")
    odd.chmod(0o666)
    subprocess.run(why(odd).partition(": ")[2], shell=True, check=True, cwd=tmp_path)
    assert read_own_file(odd) == b"x"
    assert not (tmp_path / "x").exists()


def test_a_file_in_a_folder_that_others_can_write_is_refused(file: Path) -> None:
    file.parent.chmod(0o777)
    assert why(file) == f"others can write the folder {file.parent}; mend it with: chmod go-w {file.parent}"


def test_a_file_below_a_folder_that_everyone_can_write_is_refused(file: Path) -> None:
    file.parent.parent.chmod(0o777)
    assert f"others can write the folder {file.parent.parent}" in why(file)


def test_a_sticky_folder_such_as_tmp_is_fine(file: Path) -> None:
    file.parent.chmod(0o1777)
    assert read_own_file(file) == b"x"


def test_a_link_to_a_file_that_others_can_write_is_refused(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    assert read_own_file(link) == b"x"
    file.chmod(0o666)
    assert "others can write it" in why(link)
    file.chmod(0o644)
    file.parent.chmod(0o777)
    assert f"others can write the folder {file.parent}" in why(link)


def test_a_link_in_between_that_others_can_replace_is_refused(file: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "hop").symlink_to(file)
    link = tmp_path / "link.toml"
    link.symlink_to(shared / "hop")
    assert read_own_file(link) == b"x"
    shared.chmod(0o777)
    assert f"others can write the folder {shared}" in why(link)


@needs_root
def test_a_file_a_link_and_a_folder_of_another_user_are_refused(file: Path, tmp_path: Path) -> None:
    os.chown(file, 12345, -1)
    assert why(file) == f"another user owns it; make it yours with: chown -h 0 {file}"
    os.chown(file, 0, -1)
    os.chown(file.parent, 12345, -1)
    assert "another user owns the folder" in why(file)
    os.chown(file.parent, 0, -1)
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    os.lchown(link, 12345, -1)
    assert "another user owns the link" in why(link)


@needs_root
def test_a_file_that_the_group_can_write_is_read_only_if_the_group_has_no_other_members(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import grp
    import pwd

    os.chown(file, 1000, 1000)
    os.chown(file.parent, 1000, 1000)
    file.chmod(0o664)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: pwd.struct_passwd(("ada", "x", uid, 1000, "", "/", "/")))
    monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group(("ada", "x", gid, [])))
    assert read_own_file(file) == b"x"
    monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group(("ada", "x", gid, ["bob"])))
    assert "others can write it" in why(file)
    monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group(("ada", "x", gid, [])))
    monkeypatch.setattr(os, "getxattr", lambda *arguments: b"an access control list", raising=False)
    assert "others can write it" in why(file)


@needs_root
def test_a_user_reads_files_of_root(file: Path) -> None:
    """A config that the system's manager made, as on NixOS, is a link to a file of root."""
    script = (
        "import os, sys; from pathlib import Path; from afkcli.host.permissions import read_own_file\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(read_own_file(Path(sys.argv[1])))\n"
    )
    for folder in (file.parent, *list(file.parents)[:5]):
        if folder != Path("/tmp"):
            folder.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", script, file], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("b'x'\n", "")


def test_a_fifo_a_device_a_folder_and_a_file_without_end_are_not_read(tmp_path: Path, file: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero"), tmp_path):
        with pytest.raises(UnsafeFileError, match="not a regular file"):
            read_file_once(path, 10)
    file.write_text("12345678901")
    with pytest.raises(UnsafeFileError, match="longer than 10 bytes"):
        read_file_once(file, 10)


class TestPrivateGroup:
    """With the umask 002 of many desktops, the group of the user can write a clone's files; it has no other members."""

    @pytest.mark.parametrize(
        ("owner", "group", "members", "private"),
        [
            ("ada", "ada", [], True),
            ("ada", "ada", ["ada"], True),
            ("ada", "staff", [], False),
            ("ada", "ada", ["bob"], False),
        ],
    )
    def test_a_group_is_private_if_the_owner_is_its_only_member(
        self, monkeypatch: pytest.MonkeyPatch, owner: str, group: str, members: list[str], private: bool
    ) -> None:
        grp, pwd = pytest.importorskip("grp"), pytest.importorskip("pwd")
        monkeypatch.setattr(pwd, "getpwuid", lambda uid: pwd.struct_passwd((owner, "x", uid, 1000, "", "/", "/")))
        monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group((group, "x", gid, members)))
        status = os.stat_result((stat.S_IFREG | 0o664, 0, 0, 1, 1000, 1000, 0, 0, 0, 0))

        assert is_private_group(status) is private

    def test_the_group_of_root_is_not_private(self) -> None:
        assert not is_private_group(os.stat_result((stat.S_IFREG | 0o664, 0, 0, 1, 0, 0, 0, 0, 0, 0)))
