"""The commands of afk inside the chat: the same functions that the shell calls, with the chat's streams.

Since: 0.2.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from afkcli.host.ending import Ending
from afkcli.host.invocation import Invocation, Stream

if TYPE_CHECKING:
    import click


class CommandsOfAfk:
    """Carries out command lines of afk in this process.

    Args:
        invocation: what the chat was started with.
        root: the group of all commands.
    """

    def __init__(self, invocation: Invocation, root: click.Command) -> None:
        self._invocation = invocation
        self._root = root
        answers = invocation.answer_descriptor()
        self._answers = os.fdopen(answers, "w", encoding="utf-8", errors="replace", closefd=False)

    def __call__(self, *words: str) -> int:
        """Carry out a command line, given without `afk`, and return its exit code; an error is one line on stderr."""
        return self._run(words, Stream(self._answers.fileno(), self._answers))

    def output(self, *words: str) -> tuple[int, str]:
        """As a call, but return what goes to stdout too, without blanks around it."""
        with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
            code = self._run(words, Stream(file.fileno(), file))
            file.seek(0)
            return code, file.read().strip()

    def _run(self, words: tuple[str, ...], stdout: Stream) -> int:
        given = self._invocation
        with Path(os.devnull).open(encoding="utf-8") as nothing:
            invocation = Invocation(
                arguments=words,
                environment=given.environment,
                folder=given.folder,
                stdin=given.stdin if given.stdin.is_terminal else Stream(nothing.fileno(), nothing),
                stdout=stdout,
                stderr=given.stderr,
                terminal=given.terminal,
                stop_signals=given.stop_signals,
                secrets=given.secrets,
            )
            try:
                returned = self._root.main(list(words), prog_name="afk", standalone_mode=False, obj=invocation)
                stdout.flush()
            except BaseException as error:
                from afkcli.screen.errors import ending_of

                return ending_of(error, invocation, debug=False).code
        if isinstance(returned, Ending):
            return returned.code
        return returned if isinstance(returned, int) else 0
