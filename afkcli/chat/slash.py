"""The slash commands of the chat: their table, and whether a text that was typed is one of them.

Since: 0.2.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Literal, NamedTuple

from afkcli.core.contract.suggestions import near_names

Completes = Literal["thread", "model", "agent", "tool", "file", "command"]
"""What the arguments of a slash command are names of."""


class SlashCommand(NamedTuple):
    """A slash command: its name, what follows it, its help, and what can be completed behind it."""

    name: str
    usage: str
    help: str
    completes: Completes | None = None


COMMANDS = (
    SlashCommand("help", "[COMMAND]", "Show the commands and keys, or the help of a command.", "command"),
    SlashCommand("model", "[MODEL]", "Show the model, or use another one from now on.", "model"),
    SlashCommand("models", "[-q WORDS]", "List the models of all providers, or those that have these words."),
    SlashCommand("agent", "[NAME]", "Show the agent, or use another one from now on.", "agent"),
    SlashCommand("tools", "[NAME]...", "List the tools, or give the agent these too from now on.", "tool"),
    SlashCommand("attach", "[FILE|URL]...", "Attach files to the next message; `/attach none` drops them.", "file"),
    SlashCommand("undo", "[N]", "Undo the last question with its answer, or the last N."),
    SlashCommand("redo", "", "Take back the last undo."),
    SlashCommand("retry", "", "Ask the last question again, and set its answer aside."),
    SlashCommand("edit", "", "As /retry, with the question changed in your editor first."),
    SlashCommand("resume", "", "Continue an answer that was cut."),
    SlashCommand("fork", "[NEW]", "Continue in a copy of this thread, named NEW."),
    SlashCommand("compact", "", "Have the model summarise the older turns, and send the summary in their place."),
    SlashCommand("cost", "", "Show the tokens and the cost of this thread, by model."),
    SlashCommand("show", "[-n N]", "Show this thread, or its last N turns."),
    SlashCommand("search", "WORDS", "Find the turns of all threads that have these words."),
    SlashCommand("thread", "[NAME]", "Show the name of this thread, or continue another one.", "thread"),
    SlashCommand("threads", "", "List the threads, the last used first."),
    SlashCommand("new", "[NAME]", "Start a new thread."),
    SlashCommand("quit", "", "Leave; Ctrl-D does the same."),
)
BY_NAME = {command.name: command for command in COMMANDS}
_OTHER_NAMES = {
    "exit": "quit",
    "bye": "quit",
    "q": "quit",
    "?": "help",
    "h": "help",
    "usage": "cost",
    "tokens": "cost",
    "clear": "new",
    "reset": "new",
    "regenerate": "retry",
    "branch": "fork",
    "history": "show",
    "sessions": "threads",
    "file": "attach",
    "image": "attach",
    "compress": "compact",
}
"""What other programs call a command."""
_LEAVING = ("exit", "quit")
"""Words that leave shells and other chats; a person who types one alone does not mean the model."""

_COMMAND = re.compile(r"/([A-Za-z?][\w-]*)?(?=\s|\Z)")
_QUOTED = re.compile(r"//(?=[A-Za-z?])")


class Typed(NamedTuple):
    """A message to send, or a slash command by its name with its arguments; a command that does not exist is `unknown`.

    `argument` is all that follows the name, as it was typed.
    """

    message: str | None = None
    command: str = ""
    words: tuple[str, ...] = ()
    argument: str = ""
    unknown: bool = False


def typed(text: str, *, by_person: bool = False) -> Typed:
    """Return what a text means.

    It is a command if it begins with a slash and a word. `//` in front of a word is a message that begins with a slash.
    What begins with a path (`/etc/hosts`) or a comment (`/* ... */`, `// ...`) is a message as it is. `exit` and `quit`
    alone leave, too, where a person types: in a file they may be data.
    """
    stripped = text.strip()
    if by_person and stripped in _LEAVING:
        return Typed(command="quit")
    found = _COMMAND.match(stripped)
    if found is None:
        return Typed(stripped[1:] if _QUOTED.match(stripped) else stripped)
    written = (found[1] or "").lower()
    name = written if written in BY_NAME else _OTHER_NAMES.get(written, "" if written else "help")
    argument = stripped[found.end() :].strip()
    if not name:
        return Typed(command=found[1], argument=argument, unknown=True)
    return Typed(command=name, words=_words(argument), argument=argument)


def _words(argument: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(argument))
    except ValueError:  # an apostrophe is no open quote: `/search don't`
        return tuple(argument.split())


def unknown_line(name: str) -> str:
    """Return the line about a command that does not exist, with the near one."""
    near = near_names(name.lower(), BY_NAME)
    hint = f"; did you mean /{near[0]}?" if near else "; /help lists the commands"
    return f"there is no command /{name}{hint} (//{name} sends it as a message)"


def help_rows(names: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return the rows of the help: each command with what follows it, and what it does."""
    shown = [BY_NAME[name] for name in names] or COMMANDS
    return [(f"/{command.name} {command.usage}".rstrip(), command.help) for command in shown]


KEYS = (
    ("Enter", "Send."),
    ("Alt-Enter, or \\ at the end", "Start a new line."),
    ("Tab", "Complete a command, model, agent, tool, thread or file."),
    ("Up, Down, Ctrl-R", "Go through what was typed before, or search it."),
    ("Ctrl-X Ctrl-E", "Write the message in your editor."),
    ("Ctrl-C", "Stop the answer; at the prompt clear the line, and leave if it is pressed again."),
    ("Ctrl-D", "Leave."),
    ("//word", "Send a message that begins with /word."),
)
