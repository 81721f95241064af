"""`afk batch`: files of prompts."""

from __future__ import annotations

import click

from afkcli.commands.subcommands import Subcommands

_COMMANDS = {
    "run": "batch_run:run",
    "worker": "batch_worker:worker",
    "list": "batch_list:list_batches",
    "status": "batch_status:status",
    "results": "batch_results:results",
    "retry": "batch_retry:retry",
    "cancel": "batch_retry:cancel",
    "rm": "batch_remove:remove",
}


@click.group(
    "batch",
    cls=Subcommands,
    places=_COMMANDS,
    examples=(
        ("afk batch run prompts.jsonl -o results.jsonl", "ask all prompts of a file; the same line goes on"),
        ("afk batch status", "how far it has come"),
        ("afk batch results --csv > results.csv", "its results, for a spreadsheet"),
    ),
)
def command() -> None:
    """Run files of prompts, and show their results."""
