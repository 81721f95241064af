"""`afk prompts show`: a prompt as it is in its file, or filled."""

from __future__ import annotations

from typing import Any

import click

from afkcli.commands.base import Command
from afkcli.commands.completion import complete_prompt
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.prompt_list import form
from afkcli.commands.prompt_lookup import Listed, Prompts
from afkcli.commands.variable_option import variable_option
from afkcli.config.prompt_file import MAX_BYTES, values_for
from afkcli.config.prompt_text import filled
from afkcli.core.contract.errors import ConfigError, UsageError
from afkcli.core.contract.text import decoded, visible
from afkcli.host.permissions import UnsafeFileError, read_file_once
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout


@click.command(
    "show",
    cls=Command,
    examples=(
        ("afk prompts show review", "the file as it is"),
        ("afk prompts show review --var lang=de", "the text as it would be sent"),
    ),
)
@click.argument("name", shell_complete=complete_prompt)
@variable_option
@click.option("--filled", "is_filled", is_flag=True, help="Show the text with its variables filled, as --var does.")
@json_option
def show(name: str, variables: dict[str, str], is_filled: bool, as_json: bool) -> None:
    """Show the prompt NAME, or a file whose path has a slash: as it is, or with --var as it would be sent."""
    start = invocation()
    prompt, line = Prompts(start).find(name)
    if line is not None:
        Messages(start).say(line)
    stdout = Stdout(start)
    text = None
    if variables or is_filled:
        values = values_for(prompt, variables, {}, strict=False)
        missing = [item for item in prompt.named if item not in values]
        if missing:
            Messages(start).say(f"without a value: {', '.join(missing)}")
        text = filled(prompt.text, values)
    if as_json:
        said: dict[str, Any] = form(Listed(prompt.name, prompt.path, "file", prompt))
        del said["from"], said["problem"], said["hidden"]
        stdout.objects([said | {"instructions": prompt.instructions, "text": prompt.text if text is None else text}])
        return
    lines = (_raw(prompt.path) if text is None else text).rstrip("\n").split("\n")
    stdout.lines(visible(line) if stdout.is_terminal else line for line in lines)


def _raw(path: Any) -> str:
    try:
        return decoded(read_file_once(path, MAX_BYTES)[0]).replace("\r\n", "\n")
    except (OSError, UnsafeFileError, UnicodeDecodeError) as error:
        raise ConfigError(f"the prompt {path} cannot be read: {error}") from None
    except ValueError as error:
        raise UsageError(str(error)) from None
