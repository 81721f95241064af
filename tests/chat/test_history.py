"""What was typed is kept for its user alone."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from afkcli.chat.history import KEPT, TypedTexts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "chat-history.jsonl"


def texts(path: Path | None) -> TypedTexts:
    return TypedTexts(path, lambda text: text.replace("sk-secret", "[masked]"))


def test_what_was_typed_is_there_in_the_next_chat(path: Path) -> None:
    for text in ("one", "two\nlines", "日本語 مرحبا 👩‍👩‍👧", "a \udcff lone surrogate", "a\u2028b"):
        texts(path).add(text)

    assert texts(path).read() == ["one", "two\nlines", "日本語 مرحبا 👩‍👩‍👧", "a \udcff lone surrogate", "a\u2028b"]


@pytest.mark.skipif(os.name != "posix", reason="modes of files are of POSIX")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_no_other_user_can_read_the_file_whatever_the_umask_is(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        texts(path).add("hello")
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_others_could_read_is_closed_to_them(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('"old"\n')
    path.chmod(0o644)
    texts(path).add("new")

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert texts(path).read() == ["old", "new"]


def test_secrets_that_are_known_are_masked(path: Path) -> None:
    texts(path).add("my key is sk-secret")

    assert "sk-secret" not in path.read_text()
    assert texts(path).read() == ["my key is [masked]"]


@pytest.mark.parametrize("text", [" begins with a blank", "", "\n", "x" * 30_000])
def test_some_texts_are_not_kept(path: Path, text: str) -> None:
    texts(path).add(text)

    assert texts(path).read() == []


def test_a_link_in_the_place_of_the_file_is_not_followed(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("")
    path.parent.mkdir()
    path.symlink_to(target)
    texts(path).add("hello")

    assert target.read_text() == ""


@pytest.mark.parametrize("line", [b"not json", b"{}", b"\xff\xfe", b"", b'"cut'])
def test_a_damaged_line_is_left_out(path: Path, line: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(b'"one"\n' + line + b'\n"two"\n')

    assert texts(path).read() == ["one", "two"]


def test_a_long_file_is_shortened(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("".join(f'"text {number}"\n' for number in range(3 * KEPT)))

    assert texts(path).read() == [f"text {number}" for number in range(2 * KEPT, 3 * KEPT)]
    assert len(path.read_text().splitlines()) == KEPT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_chats_at_once_lose_nothing(path: Path) -> None:
    def add(name: str) -> None:
        for number in range(100):
            texts(path).add(f"{name} {number}")

    chats = [threading.Thread(target=add, args=(name,)) for name in "ab"]
    for chat in chats:
        chat.start()
    for chat in chats:
        chat.join()

    assert sorted(texts(path).read()) == sorted(f"{name} {number}" for name in "ab" for number in range(100))


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = texts(tmp_path / "file" / "history")
    kept.add("hello")

    assert kept.read() == []
    assert texts(None).read() == []
