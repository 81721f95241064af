"""`afk NAME` of a plugin: its settings, the config and the store."""

from __future__ import annotations

from tests.commands.conftest import Install
from tests.e2e.shell import Shell

COMMAND = """
import contextlib
from dataclasses import dataclass, field
import click
from afkcli import hookimpl
from afkcli.plugin import CommandContext, load_history

AFK_HOOKS = 1

@dataclass
class Settings:
    mark: str = "-"
    token: str = field(default="", metadata={"secret": True, "env": "DIGEST_TOKEN"})

@hookimpl
def afk_command(settings: Settings, context: CommandContext) -> click.Command:
    @click.command("digest")
    @click.option("--config", "key")
    def command(key: str | None) -> None:
        assert context.settings is settings
        if key:
            click.echo(context.config[key])
            return
        with contextlib.closing(context.open_store()) as store:
            for thread in store.list():
                click.echo(f"{settings.mark} {thread.name}: {len(load_history(store, thread).turns)}")
    return command
"""
PLAIN = """
import click
from afkcli import hookimpl

AFK_HOOKS = 1

@hookimpl
def afk_command():
    return click.Command("plain", callback=lambda: click.echo("plain"))
"""
ONLY_SETTINGS = """
import click
from afkcli import hookimpl

AFK_HOOKS = 1

@hookimpl
def afk_command(settings):
    return click.Command("only", callback=lambda: click.echo(settings.mark))
"""


def write_config(shell: Shell, text: str) -> None:
    path = shell.home / "afk" / "config" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_command_reads_threads_with_its_settings(talked: Shell, install: Install) -> None:
    install("digest", {"afk": {"command.digest": "digest_command"}}, digest_command=COMMAND)
    write_config(talked, "[commands.digest]\nmark = '*'\n")

    done = talked.afk("digest")

    assert (done.code, done.out, done.err) == (0, "* soup: 1\n* trip: 2\n", "")


def test_a_command_sees_the_effective_config_without_secrets(shell: Shell, install: Install) -> None:
    install("digest", {"afk": {"command.digest": "digest_command"}}, digest_command=COMMAND)
    write_config(shell, "model = 'openai/m'\n[commands.digest]\ntoken = 'canary-token'\n")

    assert shell.afk("digest", "--config", "model").out == "openai/m\n"
    assert shell.afk("digest", "--config", "commands.digest.token").out == "***\n"
    assert shell.afk("digest", "--config", "model", AFK_MODEL="local").out == "local\n"
    shown = shell.afk("config", "show")
    assert "canary" not in shown.out


def test_wrong_settings_of_a_command_are_named(shell: Shell, install: Install) -> None:
    install("digest", {"afk": {"command.digest": "digest_command"}}, digest_command=COMMAND)
    write_config(shell, "[commands.digest]\nmork = 1\n")

    done = shell.afk("digest")

    assert (done.code, done.out) == (2, "")
    file = shell.home / "afk" / "config" / "config.toml"
    assert done.err == f"afk: {file}, line 2: [commands.digest] has the unknown key 'mork'; did you mean 'mark'?\n"


def test_a_command_that_takes_only_settings_gets_its_table(shell: Shell, install: Install) -> None:
    install("only", {"afk": {"command.only": "only_command"}}, only_command=ONLY_SETTINGS)
    write_config(shell, "[commands.only]\nmark = '+'\n")

    assert shell.afk("only").out == "+\n"


def test_a_command_without_parameters_works_beside_a_broken_config(shell: Shell, install: Install) -> None:
    install("plain", {"afk": {"command.plain": "plain_command"}}, plain_command=PLAIN)
    write_config(shell, "this is not TOML")

    assert (shell.afk("plain").code, shell.afk("plain").out) == (0, "plain\n")


def test_the_commands_of_a_project_count_only_after_trust(shell: Shell, install: Install) -> None:
    install("digest", {"afk": {"command.digest": "digest_command"}}, digest_command=COMMAND)
    (shell.folder / "afk.toml").write_text("[commands.digest]\nmark = 'p'\n")

    done = shell.afk("digest", "--config", "store")

    assert (done.code, done.out) == (0, "disk\n")
    assert "is not trusted, so this does not count: commands" in done.err
