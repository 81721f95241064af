"""`afk init`: writes a commented afk.toml."""

from __future__ import annotations

from pathlib import Path

import click

from afkcli.commands.base import Command
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.config.project import FILE_NAME
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.limits import LIMITS
from afkcli.host.files import replace_file
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout

# A line that starts with "# " is prose; one that starts with "#" and no space is a setting that can be enabled.
_TEMPLATE = """\
# afk.toml: how `afk` runs in this folder and those below it.
# `afk config show` lists the values that count, with their sources; options and AFK_* variables count before this file.

# These count without trust: instructions, sampling, models of providers that you have configured, agents, and limits
# that are lower than yours. The rest, marked below, counts only after `afk trust`.

# The system message of every run in this folder.
#instructions = "Answer in one paragraph."

# The model of threads that do not have one yet, as provider/model.
#model = "openai/gpt-5.2-mini"

# The agent of runs without --agent.
#agent = "reviewer"

# Sampling.
#[options]
#temperature = 0.2
#top_p = 0.9
#max_output_tokens = 2000

# The limits of every run; a run that reaches one ends, and keeps its output.
#[limits]
LIMITS
# An agent by name: afk run --agent reviewer "..."
#[agents.reviewer]
#model = "openai/gpt-5.2-mini"
#instructions = "You review changes: say what is wrong and where, nothing else."
#[agents.reviewer.options]
#temperature = 0.0
#[agents.reviewer.limits]
#max_steps = 5

# Everything below needs trust.

# Instructions from a file in the same folder.
#[agents.writer]
#instructions_file = "writer.md"

# The tools of plugins that an agent has; `afk tools` lists them.
#[agents.clerk]
#tools = ["files.read", "files.search"]

# Decisions on tool calls: the first rule that fits counts. You are asked about other calls that may change something.
#[[approvals.rules]]
#tool = "shell.run"
#arguments = { argv = ["git", "status", "..."] }
#decision = "allow"

# A short name for a model: afk run --model fast "..."
#[models]
#fast = "openai/gpt-5.2-mini"

# A server of your own that speaks the OpenAI API. Keys belong in the environment, not in a project's file.
#[providers.openai]
#base_url = "http://127.0.0.1:8080/v1"

# The price of a model, in US dollars per million tokens, if its provider does not know it.
#[prices."openai/my-model"]
#input = 0.5
#output = 1.5

# Plugins that are one file each.
#[plugins]
#paths = ["plugins/my_sink.py"]
"""


def template() -> str:
    """Return the text of the file, with every limit of the table."""
    return _TEMPLATE.replace("LIMITS", "".join(f"#{limit.field} = {limit.example}\n" for limit in LIMITS), 1)


@click.command(
    "init",
    cls=Command,
    examples=(("afk init", "write afk.toml into this folder"),),
)
@json_option
def command(as_json: bool) -> None:
    """Write a commented afk.toml here. An existing one is not changed."""
    folder = invocation().folder
    if folder is None:
        raise UsageError("the working directory does not exist any more; change to one that does")
    path = Path(folder) / FILE_NAME
    try:
        # 0644 whatever the umask is, because a file that others can write would not count
        replace_file(path, [template()], mode=0o644, new=True)
    except FileExistsError:
        raise UsageError(f"{path} exists already; it was not changed") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    Messages(invocation()).say(f"wrote {path}; every setting in it is a comment; remove the # from those that you want")
    if as_json:
        Stdout(invocation()).objects([{"v": 1, "type": "written", "path": str(path)}])
