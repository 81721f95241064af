"""The front page: what `afk`, `afk --version` and `afk --help` print, made without click, whose import takes long.

The help is laid out as click lays it out with our formatter (`tests/test_front_page.py` compares them); click itself
shows it where it is asked for in another way, such as after an option.
"""

from __future__ import annotations

import os
import sys

from afkcli.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from afkcli.host.invocation import Invocation

COMMAND_GROUPS: dict[str, dict[str, str]] = {
    "Ask": {
        "run": "Run an agent on a message and stream its answer.",
        "chat": "Talk with an agent on the terminal, turn by turn.",
        "batch": "Run a file of prompts to a file of results.",
        "prompts": "List, show, edit and make prompts with variables.",
    },
    "Look back": {
        "threads": "List, show, rename, export and delete threads.",
        "usage": "Show tokens and cost, by day, model, agent, thread or tag.",
        "events": "Read the event log; print the events' JSON Schema.",
        "replay": "Show the runs of an event log again.",
    },
    "Models and tools": {
        "models": "List the models of your providers, with window and price.",
        "agents": "List the agents of the config.",
        "tools": "List the tools of plugins and servers, and the decision on their calls.",
        "plugins": "List plugins and their problems, install and uninstall them.",
    },
    "Set up": {
        "doctor": "Check the installation; show which model a bare run would use.",
        "keys": "Keep the keys of providers, and show where each key comes from.",
        "config": "Show the config and where it comes from.",
        "init": "Write a commented afk.toml here.",
        "trust": "Trust the afk.toml of this project.",
        "completion": "Print the completion script for bash, zsh or fish.",
        "worker": "Show or end the warm worker, which makes commands start fast.",
    },
}
"""All commands, by the group in which `afk --help` shows them."""
COMMANDS = {name: text for group in COMMAND_GROUPS.values() for name, text in group.items()}
FROM_PLUGINS = "From plugins"
FROM_A_PLUGIN = "(from a plugin)"

INTRODUCTION = "Run language-model agents from the shell."
EXAMPLES = (
    ('afk run "Why is the sky blue?"', "ask, in a new thread"),
    ('afk run -t trip "And at sunset?"', "ask, in a thread with a name"),
    ('git diff | afk run "Review this"', "a message, and piped text"),
)
_OPTIONS = (("-V, --version", "Show the version and exit."), ("-h, --help", "Show this message and exit."))

_FIRST_COMMANDS = (
    ('afk run "Why is the sky blue?"', "ask, and get the answer here"),
    ("afk chat", "talk, question after question"),
    ("afk threads", "list your conversations; `afk run -c` continues the last one"),
)
_FIRST_KEY = (
    "No key is set, so a small demonstration model on this computer answers. `afk keys set openai` keeps a key for"
    " another model, and `afk doctor` says what it finds."
)
_ALL_COMMANDS = "`afk --help` lists all commands, `afk run --help` all options of `afk run`."


def front_page(invocation: Invocation) -> str | None:
    """Return what a call for the version or for the help of `afk` itself prints; None for any other call."""
    if "_AFK_COMPLETE" in invocation.environment or len(invocation.arguments) != 1:
        return None
    (asked,) = invocation.arguments
    if asked in ("--version", "-V"):
        return f"afk {__version__}\n"
    return _help(invocation.columns(), plugin_commands()) if asked in ("--help", "-h") else None


def first_page(invocation: Invocation) -> str | None:
    """Return the short page that `afk` alone shows, with what to type first; None for any other call."""
    if "_AFK_COMPLETE" in invocation.environment or invocation.arguments:
        return None
    from afkcli.screen.help_text import help_width, table, usage_lines, wrapped

    width = help_width(invocation.columns())
    paragraphs = [
        list(usage_lines("afk COMMAND [ARGS]...", width)),
        [f"  {line}" for line in wrapped(INTRODUCTION, width - 2)],
        ["Commands:", *table(_FIRST_COMMANDS, width, 40)],
    ]
    if not _has_model(invocation.environment):
        paragraphs.append([f"  {line}" for line in wrapped(_FIRST_KEY, width - 2)])
    paragraphs.append([f"  {line}" for line in wrapped(_ALL_COMMANDS, width - 2)])
    return "\n\n".join("\n".join(lines) for lines in paragraphs) + "\n"


def plugin_commands() -> list[str]:
    """Return the names of the commands of installed plugins, sorted, as far as no command of ours has their name."""
    from afkcli.loading.entry_points import claims

    names = [name for (_, name), points in claims(("afk",)).items() if len(points) == 1]
    commands = sorted(name.partition(".")[2] for name in names if name.startswith("command."))
    return [name for name in commands if name not in COMMANDS]


def command_sections(plugins: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Return the rows of the list of commands by their group; `plugins` are the names of plugins' commands."""
    sections = {group: list(commands.items()) for group, commands in COMMAND_GROUPS.items()}
    return {**sections, FROM_PLUGINS: [(name, FROM_A_PLUGIN) for name in plugins]} if plugins else sections


def _help(columns: int, plugins: Sequence[str]) -> str | None:
    if not all(name.isascii() and name.isprintable() for name in plugins):  # click knows how wide others are
        return None
    from afkcli.screen.help_text import example_lines, help_width, table, usage_lines, wrapped

    width = help_width(columns)
    lines = [
        *usage_lines("afk [OPTIONS] COMMAND [ARGS]...", width),
        "",
        *(f"  {line}" for line in wrapped(INTRODUCTION, width - 2)),
    ]
    lines += ["", "Examples:", *example_lines(EXAMPLES, width)]
    for group, rows in command_sections(plugins).items():
        lines += ["", f"{group}:", *table(rows, width)]
    lines += ["", "Options:", *table(_OPTIONS, width)]
    return "\n".join(lines) + "\n"


_MODEL_VARIABLES = ("AFK_MODEL", "OPENAI_BASE_URL")


def _has_model(environment: Mapping[str, str]) -> bool:
    """Return whether something names a model or a key: a variable, the user's config or a file of keys."""
    if any(value and (name.endswith("_API_KEY") or name in _MODEL_VARIABLES) for name, value in environment.items()):
        return True
    folder = _config_folder(environment)
    return any(os.path.exists(os.path.join(folder, name)) for name in ("config.toml", "keys.json"))  # noqa: PTH110,PTH118


def _config_folder(environment: Mapping[str, str]) -> str:
    """Return the folder of the user's config, as `afkcli.host.paths` does, which imports more."""
    if environment.get("AFK_HOME"):
        return os.path.join(os.path.expanduser(environment["AFK_HOME"]), "config")  # noqa: PTH111,PTH118
    if sys.platform == "win32":
        return os.path.join(environment.get("LOCALAPPDATA", ""), "afk")  # noqa: PTH118
    home = os.path.expanduser("~")  # noqa: PTH111
    if sys.platform == "darwin":
        return os.path.join(home, "Library", "Application Support", "afk")  # noqa: PTH118
    return os.path.join(environment.get("XDG_CONFIG_HOME") or os.path.join(home, ".config"), "afk")  # noqa: PTH118
