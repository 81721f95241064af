"""Completes slash commands and what follows them, while a line is typed.

Since: 0.2.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, ThreadedCompleter
from prompt_toolkit.document import Document

from afkcli.chat.slash import BY_NAME, COMMANDS, Completes
from afkcli.core.contract.text import one_line

_MOST = 100
_ASKED_FOR = ("thread", "model", "agent", "tool")


class Names(Protocol):
    """The names that can be completed; it is asked in a thread of its own, and raises nothing."""

    def names(self, kind: Completes, beginning: str) -> Sequence[str]:
        """Return the names of a kind that `beginning` may mean, the best first."""


class SlashCompleter(Completer):
    """Completes the name of a slash command, and the last of its arguments.

    Args:
        names: knows threads, models, agents and tools.
        folder: where the paths of files begin.
    """

    def __init__(self, names: Names, folder: Path) -> None:
        self._names = names
        self._folder = folder

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        before = document.text_before_cursor
        if not before.startswith("/") or before.startswith("//") or "\n" in before:
            return
        name, space, argument = before[1:].partition(" ")
        if not space:
            yield from (
                Completion(f"{command.name} ", -len(name), display=f"/{command.name}", display_meta=command.help)
                for command in COMMANDS
                if command.name.startswith(name.lower())
            )
            return
        command = BY_NAME.get(name.lower())
        if command is not None and command.completes is not None:
            yield from self._arguments(command.completes, argument)

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        """Yield what is known at once at once, so that Tab has it; what a store or a plugin knows, from a thread."""
        command = BY_NAME.get(document.text_before_cursor[1:].partition(" ")[0].lower())
        if command is not None and command.completes in _ASKED_FOR:
            async for item in ThreadedCompleter(self).get_completions_async(document, complete_event):
                yield item
            return
        for item in self.get_completions(document, complete_event):
            yield item

    def _arguments(self, kind: Completes, argument: str) -> Iterator[Completion]:
        if kind == "file":
            yield from _files(self._folder, _last_word(argument))
            return
        word = argument.rpartition(" ")[2]
        known = list(BY_NAME) if kind == "command" else self._names.names(kind, word)
        fitting = [name for name in known if name.startswith(word)] or [name for name in known if word in name]
        for name in fitting[:_MOST]:
            yield Completion(name, -len(word), display=one_line(name))


def _last_word(argument: str) -> str:
    """Return the last word of a line of shell words, as it was typed: a blank behind a backslash belongs to it."""
    start = 0
    for at, char in enumerate(argument):
        if char == " " and (len(argument[:at]) - len(argument[:at].rstrip("\\"))) % 2 == 0:
            start = at + 1
    return argument[start:]


def _files(folder: Path, word: str) -> Iterator[Completion]:
    """Yield the paths that begin with `word`, folders with a slash; hidden ones only where a point was typed."""
    written = _unescaped(word)
    head, slash, beginning = written.rpartition("/")
    base = Path(f"{head}{slash}" or ".").expanduser()
    try:
        with os.scandir(folder / base) as entries:
            found = sorted((entry.name, entry.is_dir()) for entry in entries)
    except (OSError, ValueError):
        return
    count = 0
    for name, is_folder in found:
        if not name.startswith(beginning) or (name.startswith(".") and not beginning.startswith(".")):
            continue
        path = f"{head}{slash}{name}{'/' if is_folder else ''}"
        yield Completion(_escaped(path), -len(word), display=one_line(name) + ("/" if is_folder else ""))
        count += 1
        if count >= _MOST:
            return


_SPECIAL = " \t\"'\\"


def _escaped(path: str) -> str:
    return "".join(f"\\{char}" if char in _SPECIAL else char for char in path)


def _unescaped(word: str) -> str:
    text, escaped = [], False
    for char in word.replace('"', "").replace("'", "") if "\\" not in word else word:
        if char == "\\" and not escaped:
            escaped = True
            continue
        text.append(char)
        escaped = False
    return "".join(text)
