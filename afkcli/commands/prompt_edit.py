"""`afk prompts edit` and `afk prompts new`: prompts in the user's editor, and a commented file to begin with."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import click

from afkcli.commands.base import Command
from afkcli.commands.completion import complete_prompt
from afkcli.commands.context import invocation
from afkcli.commands.editor import edit_file
from afkcli.commands.prompt_lookup import Prompts, checked_name, project_folder
from afkcli.config.prompt_file import MAX_BYTES, SUFFIX, read_prompt
from afkcli.config.prompt_folders import is_path, spelled
from afkcli.core.contract.errors import ConfigError, UnknownNameError, UsageError
from afkcli.core.contract.suggestions import near_names
from afkcli.host.files import make_private_folder, replace_file
from afkcli.host.permissions import UnsafeFileError, read_file_once
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout

_TEMPLATE = """---
# What a list shows.
description:
# Each of these is as the option of `afk run`, which wins. Remove the # from those that you want.
#model: openai/gpt-5.2
#agent: NAME
#instructions: You answer in one sentence.
#options: {temperature: 0}
#tools: [files.read]
#schema: answer.schema.json
# Variables with their defaults; one without a default needs --var NAME=VALUE.
variables:
  lang: en
---
Review this text, and answer in the language {{ lang }}.

"""
"""What `afk prompts new` writes. MESSAGE and what is piped in follow the text."""

_project_option = click.option("--project", is_flag=True, help="In the folder `prompts` of the project, not in yours.")


@click.command("new", cls=Command, examples=(("afk prompts new review", "writes review.md, and says where"),))
@click.argument("name")
@_project_option
def new(name: str, project: bool) -> None:
    """Write a commented prompt NAME to begin with. An existing one is not changed."""
    start, name = invocation(), checked_name(name)
    prompts = Prompts(start)
    folder = project_folder(prompts) if project else prompts.user_folder
    path = folder / f"{name}{SUFFIX}"
    try:
        if project:
            folder.mkdir(exist_ok=True)
        else:
            make_private_folder(folder)
        # 0644 whatever the umask is, because a file that others can write would not count
        replace_file(path, [_TEMPLATE], mode=0o644 if project else 0o600, new=True)
    except FileExistsError:
        raise UsageError(f"{path} exists already; it was not changed (afk prompts edit {quote(name)})") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    Stdout(start).lines([str(path)])
    more = "; then trust the project again with `afk trust`" if project else ""
    word = quote(name)
    Messages(start).say(f"wrote it; change it with `afk prompts edit {word}`, try it with `afk run -p {word}`{more}")


@click.command("edit", cls=Command, examples=(("afk prompts edit review", "in VISUAL or EDITOR"),))
@click.argument("name", shell_complete=complete_prompt)
@_project_option
def edit(name: str, project: bool) -> None:
    """Change the prompt NAME in your editor (VISUAL, else EDITOR), and check it afterwards.

    If you have a prompt of this name, it is changed; otherwise the prompt of the project is.
    """
    start = invocation()
    path = _file_of(Prompts(start), name, project=project)
    before = _bytes_of(path)
    edit_file(start, path)
    after = _bytes_of(path)
    if after == before:
        Messages(start).say(f"{path} was not changed")
        return
    read_prompt(after, path, name)  # raises with the line of what is wrong; the file stays as it was saved
    Messages(start).say(f"{path} was changed")


def _file_of(prompts: Prompts, name: str, *, project: bool) -> Path:
    if is_path(name):
        return Path(name)
    name = name.removesuffix(SUFFIX)
    theirs = prompts.project_folder
    folders = [theirs] if project else [prompts.user_folder, theirs]
    for folder in folders:
        if folder is not None and (found := spelled(name, folder)) is not None:
            return folder / f"{found}{SUFFIX}"
    near = near_names(name, prompts.names())
    hint = f"did you mean {near[0]!r}?" if near else f"`afk prompts new {quote(name)}` writes one"
    raise UnknownNameError(f"there is no prompt {name!r}; {hint}")


def _bytes_of(path: Path) -> bytes:
    try:
        return read_file_once(path, MAX_BYTES)[0]
    except FileNotFoundError:
        raise UnknownNameError(f"there is no prompt file {path}") from None
    except UnsafeFileError as error:
        raise ConfigError(f"the prompt {path} cannot be used: {error}") from None
    except OSError as error:
        raise ConfigError(f"the prompt {path} cannot be read: {error.strerror}") from None
