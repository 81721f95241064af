"""A file that is written in one step: the whole new one, or the old one."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from afkcli.host.files import make_private_folder, private_file, replace_file


def test_a_new_file_has_all_pieces_and_only_the_user_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new.txt"
    replace_file(path, ["one\n", "two ä\n"])

    assert path.read_bytes() == "one\ntwo ä\n".encode()
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_an_old_file_is_replaced_and_a_link_is_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("other")
    link.symlink_to(target)
    replace_file(link, ["new"])

    assert (link.is_symlink(), link.read_text(), target.read_text()) == (False, "new", "other")


@pytest.mark.parametrize("error", [OSError("no space"), ValueError("bad"), KeyboardInterrupt()])
def test_an_error_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "kept"
    path.write_text("old")

    def pieces() -> Iterator[str]:
        yield "half"
        raise error

    with pytest.raises(type(error)):
        replace_file(path, pieces())
    assert (path.read_text(), list(tmp_path.iterdir())) == ("old", [path])


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        replace_file(tmp_path / "x", ["\udcff"])
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def _strange_umask() -> Iterator[None]:
    before = os.umask(0o277)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_strange_umask")
def test_files_and_folders_are_private_whatever_the_umask_is(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    make_private_folder(folder)
    os.close(private_file(folder / "empty"))
    replace_file(folder / "text", ["text"])
    modes = {path: path.stat().st_mode & 0o777 for path in (folder.parent, folder, folder / "empty", folder / "text")}
    assert list(modes.values()) == [0o700, 0o700, 0o600, 0o600]


def test_a_folder_that_exists_keeps_its_mode_and_a_file_in_its_place_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    make_private_folder(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o750
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError):
            make_private_folder(folder)


def test_a_private_file_follows_no_link_and_empties_only_what_it_may(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("kept")
    link.symlink_to(target)
    with pytest.raises(OSError):
        private_file(link)
    with pytest.raises(FileExistsError):
        private_file(target, new=True)
    assert target.read_text() == "kept"
    os.close(private_file(target))
    assert target.read_text() == ""


def test_a_mode_is_set_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0o777)
    try:
        replace_file(tmp_path / "shared", ["text"], mode=0o644)
    finally:
        os.umask(before)
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("kind", ["file", "link", "broken link"])
def test_a_new_file_replaces_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "there"
    if kind == "file":
        path.write_text("old")
    else:
        path.symlink_to(tmp_path / ("other" if kind == "broken link" else "."))
    before = os.lstat(path).st_ino

    with pytest.raises(FileExistsError):
        replace_file(path, ["new"], new=True)

    assert (os.lstat(path).st_ino, list(tmp_path.iterdir())) == (before, [path])


def test_a_new_file_is_written_where_the_file_system_has_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    replace_file(tmp_path / "new", ["text"], new=True)
    with pytest.raises(FileExistsError):
        replace_file(tmp_path / "new", ["other"], new=True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["text"]


def test_a_folder_that_cannot_be_synced_is_an_error_only_where_the_disk_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = errno.EINVAL

    def fail(folder: Path) -> None:
        raise OSError(number, os.strerror(number), str(folder))

    monkeypatch.setattr("afkcli.host.files.sync_folder", fail)
    replace_file(tmp_path / "text", ["new"])
    number = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        replace_file(tmp_path / "text", ["newer"])
