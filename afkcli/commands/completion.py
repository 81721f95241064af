"""`afk completion`: the script that a shell sources, and the completion of thread names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from afkcli.commands.base import Command
from afkcli.core.contract.errors import AfkError
from afkcli.host.invocation import Invocation

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


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


def complete_prompt(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the prompts whose name begins so, with their descriptions; files where a path is typed."""
    from click.shell_completion import CompletionItem

    if "/" in incomplete:
        return [CompletionItem(incomplete, type="file")]
    from afkcli.commands.prompt_lookup import Prompts

    try:
        found = list(Prompts(ctx.find_object(Invocation) or Invocation.of_process()).listed())
    except AfkError:
        return []
    usable = {item.name: item.prompt.description for item in found if item.prompt is not None and not item.is_hidden}
    return [CompletionItem(name, help=text or None) for name, text in usable.items() if name.startswith(incomplete)]


def complete_provider(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of installed providers that begin so."""
    from afkcli.loading.discovery import discover

    names = discover(ctx.find_object(Invocation)).names("provider")
    return [name for name in names if name.startswith(incomplete)]


def complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return models that begin so: aliases, providers, and the lists that `afk models` has kept. Nothing is asked."""
    from click.shell_completion import CompletionItem

    from afkcli.wiring.assembly import load_setup
    from afkcli.wiring.known_models import known_models

    try:
        known = known_models(load_setup(ctx.find_object(Invocation), project=True))
    except AfkError:
        return []
    return [CompletionItem(name, help=text or None) for name, text in known.items() if name.startswith(incomplete)]


def complete_key(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of the keys that may be set: those of installed providers, and those that are kept."""
    from afkcli.loading.discovery import discover

    try:
        plugins = discover(ctx.find_object(Invocation))
        names = {*plugins.names("provider"), *plugins.stored_keys()}
    except AfkError:
        return []
    return sorted(name for name in names if name.startswith(incomplete))


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
