"""`afk prompts list`: the prompts of the project and of the user."""

from __future__ import annotations

from typing import Any

import click

from afkcli.commands.base import Command
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.prompt_lookup import Listed, Prompts
from afkcli.config.prompt_file import INPUT, MESSAGE, Prompt
from afkcli.host.invocation import Invocation
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout
from afkcli.screen.styles import DIM, RED
from afkcli.screen.tables import write_table


@click.command("list", cls=Command, examples=(("afk prompts list --json", "for a program"),))
@json_option
def list_prompts(as_json: bool) -> None:
    """List the prompts: name, where it is from, variables, description.

    A variable that needs a value is shown as NAME, one with a default as NAME=DEFAULT.
    """
    write_list(invocation(), as_json=as_json)


def write_list(start: Invocation, *, as_json: bool) -> None:
    """Write the list to stdout; a line on stderr says what to do where there is no prompt."""
    stdout, prompts = Stdout(start), Prompts(start)
    rows = list(prompts.listed())
    if as_json:
        stdout.objects(form(row) for row in rows)
        return
    if not rows:
        Messages(start).say(f"there are no prompts in {prompts.user_folder}; `afk prompts new NAME` writes one")
        return
    table = [(row.name, row.origin, variables_of(row.prompt), _said(row)) for row in rows]
    styles = [RED if row.problem else DIM if row.is_hidden else "" for row in rows]
    write_table(stdout, ("NAME", "FROM", "VARIABLES", "DESCRIPTION"), table, styles)


def form(row: Listed) -> dict[str, Any]:
    """Return a row as JSON."""
    prompt = row.prompt
    said: dict[str, Any] = {
        "v": 1,
        "type": "prompt",
        "name": row.name,
        "from": row.origin,
        "path": str(row.path),
        "problem": row.problem,
        "hidden": row.is_hidden,
    }
    if prompt is None:
        return said
    return said | {
        "description": prompt.description,
        "model": prompt.model,
        "agent": prompt.agent,
        "tools": list(prompt.tools),
        "options": dict(prompt.options),
        "variables": {
            name: {"default": item.default, "description": item.description} for name, item in prompt.variables.items()
        },
    }


def variables_of(prompt: Prompt | None) -> str:
    """Return the variables of a prompt in words, those that need a value first."""
    if prompt is None:
        return ""
    own = {name: item.default for name, item in prompt.variables.items() if name not in (MESSAGE, INPUT)}
    needed = [name for name, default in own.items() if default is None]
    return " ".join([*needed, *(f"{name}={default}" for name, default in own.items() if default is not None)])


def _said(row: Listed) -> str:
    if row.problem is not None:
        return row.problem
    text = row.prompt.description if row.prompt is not None else ""
    return f"{text} (not used: the project has one of this name)".strip() if row.is_hidden else text
