"""`afk completion`: the script that a shell sources, and the completion of thread names."""

from __future__ import annotations

import click

from afkcli.commands.base import Command
from afkcli.core.contract.errors import AfkError
from afkcli.host.invocation import Invocation


def complete_thread(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of threads that `incomplete` may mean (their beginning or a short name), the last used first."""
    from afkcli.core.thread.listing import names_meant
    from afkcli.wiring.assembly import load_setup
    from afkcli.wiring.plugin_objects import open_store

    try:
        store = open_store(load_setup(ctx.find_object(Invocation)))
        names = list(names_meant(store, incomplete))
        store.close()
    except AfkError:
        return []
    return names


@click.command(
    "completion",
    cls=Command,
    examples=(
        ('eval "$(afk completion bash)"', "in ~/.bashrc"),
        ('eval "$(afk completion zsh)"', "in ~/.zshrc"),
        ("afk completion fish | source", "in ~/.config/fish/config.fish"),
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL, which completes commands, options and the names of threads."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(click.get_current_context().find_root().command, {}, "afk", "_AFK_COMPLETE").source())
