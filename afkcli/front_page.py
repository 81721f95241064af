"""The front page: what `afk --version` and `afk --help` print, made without click, whose import takes twice as long.

The help is laid out as click lays it out (`tests/test_front_page.py` compares them); click itself shows it where it is
asked for in another way, such as after an option.
"""

from __future__ import annotations

from afkcli.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from afkcli.host.invocation import Invocation

MAX_COLUMNS = 100
_MIN_WIDTH = 50
_MAX_NAME = 30
"""Of the first column; the help of a longer name begins on a line of its own. As in click."""

COMMANDS = {
    "run": "Run an agent on a message and stream its answer.",
    "threads": "List, show, rename, export and delete threads.",
    "usage": "Show tokens and cost, by day, model, agent, thread or tag.",
    "events": "Read the event log; print the events' JSON Schema.",
    "replay": "Show the runs of an event log again.",
    "tools": "List the tools of plugins and servers, and the decision on their calls.",
    "plugins": "List plugins and their problems.",
    "config": "Show the config and where it comes from.",
    "init": "Write a commented afk.toml here.",
    "trust": "Trust the afk.toml of this project.",
    "doctor": "Check the installation; show which model a bare run would use.",
    "completion": "Print the completion script for bash, zsh or fish.",
}
FROM_A_PLUGIN = "(from a plugin)"

INTRODUCTION = "Run language-model agents from the shell."
EXAMPLES = (
    'afk run "Why is the sky blue?"           ask, in a new thread',
    'afk run --thread t-42 "And at sunset?"   ask, in a thread that is remembered',
    'git diff | afk run "Review this"         a message, followed by piped text',
)
_OPTIONS = (("-V, --version", "Show the version and exit."), ("-h, --help", "Show this message and exit."))


def front_page(invocation: Invocation) -> str | None:
    """Return what a call for the version or for the help of `afk` itself prints; None for any other call."""
    if "_AFK_COMPLETE" in invocation.environment or len(invocation.arguments) != 1:
        return None
    (asked,) = invocation.arguments
    if asked in ("--version", "-V"):
        return f"afk {__version__}\n"
    return _help(invocation.columns(), plugin_commands()) if asked in ("--help", "-h") else None


def plugin_commands() -> list[str]:
    """Return the names of the commands of installed plugins, sorted, as far as no command of ours has their name."""
    from afkcli.loading.entry_points import claims

    names = [name for (_, name), points in claims(("afk",)).items() if len(points) == 1]
    commands = sorted(name.partition(".")[2] for name in names if name.startswith("command."))
    return [name for name in commands if name not in COMMANDS]


def _help(columns: int, plugins: Sequence[str]) -> str | None:
    if not all(name.isascii() and name.isprintable() for name in plugins):  # click knows how wide others are
        return None
    width = max(min(columns, MAX_COLUMNS) - 2, _MIN_WIDTH)
    rows = [*COMMANDS.items(), *((name, FROM_A_PLUGIN) for name in plugins)]
    lines = ["Usage: afk [OPTIONS] COMMAND [ARGS]...", "", f"  {INTRODUCTION}", "", *(f"  {line}" for line in EXAMPLES)]
    lines += ["", "Options:", *_table(_OPTIONS, width), "", "Commands:", *_table(rows, width)]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[tuple[str, str]], width: int) -> Iterator[str]:
    """Yield the lines of a table of two columns, the second wrapped to the width."""
    first = min(max(len(name) for name, _ in rows), _MAX_NAME) + 2
    for name, text in rows:
        begin, *more = _wrapped(text, max(width - first - 2, 10))
        if len(name) <= first - 2:
            yield f"  {name:<{first}}{begin}"
        else:
            yield f"  {name}"
            yield f"{'':<{first + 2}}{begin}"
        for line in more:
            yield f"{'':<{first + 2}}{line}"


def _wrapped(text: str, width: int) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line
