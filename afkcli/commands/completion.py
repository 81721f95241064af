"""`afk completion`: the script that a shell sources, and the values that options and arguments complete to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from afkcli.commands.base import Command
from afkcli.commands.context import invocation
from afkcli.core.contract.errors import AfkError, UsageError
from afkcli.host.invocation import Invocation

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


SHELLS = ("bash", "zsh", "fish")
_MOST_TITLES = 50
"""The names that have titles beside them; more do not fit on a screen, and each takes a look into the store."""


def complete_thread(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names of threads that `incomplete` may mean, the last used first, a few of them with their titles.

    They are those that begin with it, and those of unnamed threads whose short name does.
    """
    from click.shell_completion import CompletionItem

    from afkcli.core.thread.listing import names_meant
    from afkcli.wiring.assembly import load_setup
    from afkcli.wiring.plugin_objects import open_store

    try:
        store = open_store(load_setup(ctx.find_object(Invocation)))
        names = list(names_meant(store, incomplete))
        infos = [store.find(name) for name in names] if len(names) <= _MOST_TITLES else []
        store.close()
    except AfkError:
        return []
    titles = {info.name: info.title for info in infos if info is not None}
    return [CompletionItem(name, help=titles.get(name)) for name in names]


def complete_agent(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names of the agents of the config that begin so, with their models."""
    from click.shell_completion import CompletionItem

    from afkcli.config.merging import DEFAULT_AGENT
    from afkcli.wiring.assembly import load_setup

    try:
        agents = load_setup(ctx.find_object(Invocation), project=True).config.agents()
    except AfkError:
        return []
    models = {DEFAULT_AGENT: None, **{name: agent.model for name, agent in agents.items()}}
    return [CompletionItem(name, help=model) for name, model in models.items() if name.startswith(incomplete)]


def complete_tool(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the plugins of tools that begin so, as `files.*`; none is imported."""
    from afkcli.loading.discovery import discover

    try:
        names = [f"{name}.*" for name in discover(ctx.find_object(Invocation)).names("tools")]
    except AfkError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def complete_file(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Have the shell complete the name of a file."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


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


def complete_variable(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the variables of the prompt that the line names, as `lang=`, without those that it has already."""
    from click.shell_completion import CompletionItem

    from afkcli.commands.prompt_lookup import Prompts

    typed = ctx.params.get("prompt") or ctx.params.get("name")
    if not typed and ctx.command.name == "show" and ctx.args:  # click stops at `--var`, before it takes arguments
        typed = ctx.args[0]
    if not typed or "=" in incomplete:
        return []
    try:
        prompt, _ = Prompts(ctx.find_object(Invocation) or Invocation.of_process()).find(typed)
    except AfkError:
        return []
    given = ctx.params.get("variables") or {}
    return [
        CompletionItem(f"{name}=", help=variable.description or variable.default)
        for name, variable in prompt.variables.items()
        if name.startswith(incomplete) and name not in {"message", "input", *given}
    ]


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
@click.argument("shell", type=click.Choice(SHELLS), required=False, metavar="[SHELL]")
def command(shell: str | None) -> None:
    """Print the script that makes SHELL complete commands, options, and the names of threads, models and files.

    SHELL is bash, zsh or fish. Put the line of your shell into the file that it reads at its start. Without SHELL,
    afk shows the line and the file for your shell, which the environment variable SHELL names.
    """
    from afkcli.commands.completion_scripts import SCRIPTS, START_FILES

    start = invocation()
    own = start.environment.get("SHELL", "").rpartition("/")[2]
    if shell is None:
        file, line = START_FILES.get(own, START_FILES["bash"])
        raise UsageError(f"name the shell, one of {', '.join(SHELLS)}; for yours, put this line into {file}: {line}")
    if start.stdout.is_terminal:
        file, line = START_FILES[shell]
        from afkcli.screen.messages import Messages

        Messages(start).say(f"this script is for {shell}; to have it always, put this line into {file}: {line}")
    if start.stdout.text is not None:
        start.stdout.text.write(SCRIPTS[shell])
