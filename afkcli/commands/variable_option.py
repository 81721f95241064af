"""`--var NAME=VALUE`: the variables of a prompt."""

from __future__ import annotations

import click

from afkcli.commands.base import MESSAGE, option
from afkcli.commands.completion import complete_variable


def _variables(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    """Return the variables of the prompt by name."""
    found = {}
    for item in value:
        name, equals, text = item.partition("=")
        if not (name.strip() and equals):
            raise click.BadParameter(f"{item!r} is not NAME=VALUE, as in lang=de", ctx, param)
        found[name.strip()] = text
    return found


variable_option = option(
    "--var",
    "variables",
    group=MESSAGE,
    multiple=True,
    callback=_variables,
    metavar="NAME=VALUE",
    shell_complete=complete_variable,
    help="A variable of the prompt, such as lang=de; may be given more than once.",
)
