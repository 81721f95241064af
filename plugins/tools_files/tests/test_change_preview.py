"""What the question about `files.write` shows, and what it does not read: the same places that the tool refuses."""

from __future__ import annotations

import os
import sys

import pytest
from afk_tools_files import Settings, afk_tools

from afkcli.plugin import ChangePreview, FileChange, ToolError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="tools.files is refused on Windows")


@pytest.fixture
def notes(tmp_path, monkeypatch):
    monkeypatch.setenv("AFK_HOME", str(tmp_path / "home" / "afk"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    notes = tmp_path / "home" / "notes"
    notes.mkdir(parents=True)
    (notes / "todo.md").write_bytes(b"one\r\ntwo\r\n")
    (tmp_path / "outside").write_text("the secret outside")
    return notes


def change(notes, path: str, text: str = "new\n", **settings) -> FileChange:
    tools = {tool.name: tool for tool in afk_tools(Settings(roots=[str(notes)], write=True, **settings))}
    preview = tools["files.write"].preview
    assert isinstance(preview, ChangePreview)
    assert preview.change is not None
    return preview.change({"path": path, "text": text})


def test_the_file_as_it_is_and_as_it_would_be(notes):
    assert change(notes, "todo.md") == FileChange(path=str(notes / "todo.md"), before=b"one\r\ntwo\r\n", after=b"new\n")


@pytest.mark.parametrize("path", ["new.md", "a/b/c/new.md"])
def test_a_new_file_has_nothing_before_and_nothing_is_created(notes, path):
    assert change(notes, path).before is None
    assert [file.name for file in notes.iterdir()] == ["todo.md"]


@pytest.mark.parametrize(
    "path", ["link.md", "link/x", "../outside", "/etc/passwd", ".git/config", "afk.toml", "a\0b", "."]
)
def test_what_the_tool_refuses_is_not_read(notes, tmp_path, path):
    (notes / "link.md").symlink_to(tmp_path / "outside")
    (notes / "link").symlink_to(tmp_path)
    with pytest.raises(ToolError) as caught:
        change(notes, path)
    assert "the secret outside" not in str(caught.value)


def test_a_fifo_a_binary_file_a_large_one_and_a_second_name_are_refused(notes):
    os.mkfifo(notes / "fifo")
    (notes / "binary").write_bytes(b"\0\1")
    (notes / "large").write_bytes(b"x" * 1_000_001)
    os.link(notes / "todo.md", notes / "second")
    for path in ("fifo", "binary", "large", "second"):
        with pytest.raises(ToolError):
            change(notes, path, max_file_mb=1)
