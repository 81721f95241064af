"""What the Tab key completes in the chat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from afkcli.chat.completion import SlashCompleter
from afkcli.chat.slash import COMMANDS, Completes

KNOWN = {
    "thread": ["trip", "trip-2", "soup"],
    "model": ["openai/gpt-5.2", "local/"],
    "agent": ["afk", "critic"],
    "tool": ["files.*", "files.read"],
}


class Known:
    def names(self, kind: Completes, beginning: str) -> Sequence[str]:
        return KNOWN[kind]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "cat.png").write_text("")
    for name in ("plan.md", "two words.txt", ".hidden", "日本.txt", "it's.md"):
        (tmp_path / name).write_text("")
    return tmp_path


def completed(folder: Path, text: str) -> list[str]:
    """Return what the line would be with each of the completions."""
    found = SlashCompleter(Known(), folder).get_completions(Document(text), CompleteEvent(completion_requested=True))
    return [text[: len(text) + item.start_position] + item.text for item in found]


def test_a_slash_shows_all_commands(folder: Path) -> None:
    assert completed(folder, "/") == [f"/{command.name} " for command in COMMANDS]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("/mo", ["/model ", "/models "]),
        ("/RE", ["/redo ", "/retry ", "/resume "]),
        ("/model o", ["/model openai/gpt-5.2"]),
        ("/model 5.2", ["/model openai/gpt-5.2"]),
        ("/agent ", ["/agent afk", "/agent critic"]),
        ("/tools files.*", ["/tools files.*"]),
        ("/tools files.* files.r", ["/tools files.* files.read"]),
        ("/thread tr", ["/thread trip", "/thread trip-2"]),
        ("/help mod", ["/help model", "/help models"]),
        ("/attach p", ["/attach pictures/", "/attach plan.md"]),
        ("/attach pictures/", ["/attach pictures/cat.png"]),
        ("/attach ./pi", ["/attach ./pictures/"]),
        ("/attach plan.md t", ["/attach plan.md two\\ words.txt"]),
        ("/attach two\\ w", ["/attach two\\ words.txt"]),
        ("/attach .h", ["/attach .hidden"]),
        ("/attach 日", ["/attach 日本.txt"]),
        ("/attach it", ["/attach it\\'s.md"]),
        ("/attach missing/", []),
        ("/undo ", []),
        ("/nothing x", []),
        ("//mo", []),
        ("hello /mo", []),
        ("/search x\n/mo", []),
        ("", []),
    ],
)
def test_names_are_completed(folder: Path, text: str, lines: list[str]) -> None:
    assert completed(folder, text) == lines


def test_the_home_folder_is_followed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))

    assert completed(folder / "pictures", "/attach ~/pl") == ["/attach ~/plan.md"]


def test_a_name_that_moves_the_terminal_is_shown_as_text(folder: Path) -> None:
    (folder / "evil\x1b[31m").write_text("")
    found = SlashCompleter(Known(), folder).get_completions(Document("/attach ev"), CompleteEvent())

    assert ["\x1b" in item.display_text for item in found] == [False]
