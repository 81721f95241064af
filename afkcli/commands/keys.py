"""`afk keys`: keeps the keys of providers in one file, and says where each key comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from afkcli.commands.base import Command, Group
from afkcli.commands.completion import complete_key
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.stdin import is_piped, read_all
from afkcli.core.contract.errors import UnknownNameError, UsageError
from afkcli.core.contract.suggestions import near_names
from afkcli.core.contract.text import decoded, one_line
from afkcli.host.keys import MAX_KEY_CHARS, changed_keys, checked_key, keys_file, read_keys
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout
from afkcli.screen.styles import DIM
from afkcli.screen.tables import write_table
from afkcli.wiring.assembly import load_setup
from afkcli.wiring.key_origins import SecretSetting, all_settings, named_setting, origins
from afkcli.wiring.setup import Setup

_MOST_STDIN_BYTES = 4 * MAX_KEY_CHARS
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,4}")
_LOOKS_LIKE_A_KEY = re.compile(
    r"(sk|gsk|xai|hf|pk|rk|AIza|r8|pplx|nvapi|ghp|github_pat)[-_]?[A-Za-z0-9_-]{12,}|\S{25,}"
)


@click.group(
    "keys",
    cls=Group,
    examples=(
        ("afk keys set openai", "asks for the key, and does not show it"),
        ("pass show openai | afk keys set openai", "takes it from a program"),
        ("afk keys list", "where each key comes from"),
    ),
)
def command() -> None:
    """Keep the keys of providers in one file that only you can read.

    A key comes from the environment, else from this file, else from `api_key` in the config, else from the command
    `api_key_command` in the config.
    """


class _WithoutKey(Command):
    """A command that takes more arguments than it names, to refuse them."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [piece for piece in super().collect_usage_pieces(ctx) if piece]


@command.command(
    "set",
    cls=_WithoutKey,
    examples=(
        ("afk keys set openai", "asks for the key, and does not show it"),
        ("pass show openai | afk keys set openai", "takes it from a program"),
    ),
    context_settings={"ignore_unknown_options": True},
)
@click.argument("name", shell_complete=complete_key)
@click.argument("rest", nargs=-1, type=click.UNPROCESSED, metavar="")
def set_key(name: str, rest: tuple[str, ...]) -> None:
    """Keep the key of the provider NAME. It is asked for on the terminal, or read from stdin; it is not an argument.

    Where a provider has several keys, NAME is PROVIDER.SETTING.
    """
    start = invocation()
    if rest:
        start.secrets.add(rest)
        raise UsageError(_as_argument(_shown(name)))
    setting = _named(load_setup(start), name)
    try:
        key, has_blanks = checked_key(_read_key(setting))
    except ValueError as why:
        raise UsageError(f"the key for {setting.name} was not kept: {why}") from None
    start.secrets.add(key)
    messages = Messages(start)
    if has_blanks:
        messages.say("the blanks around the key were left out")
    path = keys_file(start.environment)
    with changed_keys(path) as keys:
        replaced = setting.name in keys
        keys[setting.name] = key
    messages.say(f"the key for {setting.name} is {'replaced' if replaced else 'kept'} in {path}")
    if setting.variable and start.environment.get(setting.variable):
        messages.warn(f"{setting.variable} is set and comes before it; unset {setting.variable} to use the kept key")


@command.command(
    "list",
    cls=Command,
    examples=(("afk keys list", "a line for each place that has a key"), ("afk keys list --json", "the same as JSON")),
)
@json_option
def list_keys(as_json: bool) -> None:
    """Show which keys there are, and where each comes from. No key is shown, and no command is run."""
    start = invocation()
    setup = load_setup(start, project=True, notify=Messages(start).say)
    stdout = Stdout(start)
    rows = list(_rows(setup))
    if as_json:
        stdout.objects(
            {"v": 1, "type": "key", "name": name, "source": source, "where": where, "used": used}
            for name, source, where, used in rows
        )
        return
    if not rows:
        Messages(start).say("there is no key; `afk keys set openai` keeps one")
    if rows:
        cells = [(name, "***", where, "used" if used else "not used") for name, _, where, used in rows]
        write_table(stdout, ("NAME", "KEY", "FROM", "STATUS"), cells, ["" if used else DIM for *_, used in rows])


@command.command("rm", cls=Command, examples=(("afk keys rm openai", "delete the key of openai"),))
@click.argument("name", shell_complete=complete_key)
def remove(name: str) -> None:
    """Delete the key NAME from the keys file."""
    start = invocation()
    path = keys_file(start.environment)
    known = read_keys(path)
    start.secrets.add(known)
    wanted = name if name in known else _alias(known, name)
    if wanted is None:
        near = near_names(name, known)
        hint = f"did you mean {near[0]!r}?" if near else "`afk keys list` shows all keys"
        raise UnknownNameError(f"the keys file has no key {_shown(name)}; {hint}")
    with changed_keys(path) as keys:
        keys.pop(wanted, None)
    Messages(start).say(f"the key for {wanted} is deleted from {path}; it is valid until its provider revokes it")


@command.command("path", cls=Command, examples=(('ls -l "$(afk keys path)"', "look at the file"),))
def path() -> None:
    """Print the path of the keys file, whether it is there or not."""
    start = invocation()
    Stdout(start).lines([str(keys_file(start.environment))])


def _alias(known: dict[str, str], name: str) -> str | None:
    """Return the name under which a key is kept that is named by its setting or its variable, if it is."""
    try:
        found = named_setting(load_setup(invocation()), name).name
    except UsageError:
        return None
    return found if found in known else None


def _named(setup: Setup, name: str) -> SecretSetting:
    if not _NAME.fullmatch(name) or _LOOKS_LIKE_A_KEY.fullmatch(name):
        raise UsageError(_as_argument("NAME"))
    return named_setting(setup, name)


def _shown(name: str) -> str:
    """Return a name for a message; what may be a key is not shown."""
    return name if _NAME.fullmatch(name) and not _LOOKS_LIKE_A_KEY.fullmatch(name) else "NAME"


def _as_argument(name: str) -> str:
    return (
        "a key is not taken as an argument: it is now in the shell's history, and others could see it in the list of "
        f"processes; revoke it at its provider, make a new one, and give that to `afk keys set {name}` when it asks"
    )


def _read_key(setting: SecretSetting) -> str:
    """Return what a person types or what stdin has, as text."""
    start = invocation()
    if start.stdin.is_terminal:
        import os

        if os.name == "nt":  # it has no termios
            from getpass import getpass

            return getpass(f"Key for {one_line(setting.name)} (it is not shown): ")
        from afkcli.screen.hidden_prompt import read_hidden

        terminal = os.ttyname(start.stdin.descriptor)
        return read_hidden(terminal, f"Key for {one_line(setting.name)} (it is not shown): ", MAX_KEY_CHARS)
    if not is_piped(start.stdin):
        raise UsageError(f"there is no key on stdin; pipe it in, or run `afk keys set {setting.name}` on a terminal")
    data = read_all(start.stdin, _MOST_STDIN_BYTES, Messages(start).say)
    try:
        return decoded(data)
    except UnicodeDecodeError:
        raise UsageError("the key on stdin is not text; nothing was kept") from None


def _rows(setup: Setup) -> Iterator[tuple[str, str, str, bool]]:
    """Yield (name, source, where, whether it is used) for each place that has a key."""
    plugins = setup.plugins
    usable = [id_ for id_ in plugins.found if id_.startswith("provider.")]
    seen = set()
    for setting in all_settings(plugins, usable, setup.config):
        for number, origin in enumerate(origins(setup.invocation, plugins, setup.config, setting)):
            seen.add(setting.name)
            yield setting.name, origin.source, origin.where, number == 0
    for name in sorted(set(plugins.stored_keys()) - seen):
        kind, _, plugin = name.partition(".")
        used = any(f"{known}.{plugin.partition('.')[0]}" in plugins.found for known in (kind, kind.removesuffix("s")))
        yield name, "keys file", f"the key {name!r} of the keys file", used
