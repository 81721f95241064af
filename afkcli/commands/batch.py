"""`afk batch`: files of prompts."""

from __future__ import annotations

import click

from afkcli.commands.subcommands import Subcommands

_COMMANDS = {"run": "batch_run:run"}


@click.group(
    "batch",
    cls=Subcommands,
    places=_COMMANDS,
    examples=(
        ("afk batch run prompts.jsonl -o results.jsonl", "ask all prompts of a file"),
        ("afk batch run prompts.csv -o results.jsonl --max-cost 5", "for $5 at most"),
    ),
)
def command() -> None:
    """Run files of prompts, and look at what became of them."""
