"""A file that is written in one step: the whole new one, or the old one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from afkcli.host.files import replace_file


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
