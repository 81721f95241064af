"""Errors about settings of plugins say where the value came from: the variable, or the file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands.conftest import keyed, server, shell
from tests.e2e.shell import Finished, Shell

__all__ = ["keyed", "server", "shell"]

BAD_URLS = ["notaurl", "ftp://127.0.0.1", "http://", "http://127.0.0.1:x/v1"]
PLUGIN = """
from dataclasses import dataclass, field
from afkcli.plugin import hookimpl
AFK_HOOKS = 1
@dataclass
class Bed:
    size: int = 1
@dataclass
class Settings:
    colour: str = "green"
    height: int = field(default=1, metadata={{"env": "GREEN_HEIGHT"}})
    beds: dict[str, Bed] = field(default_factory=dict)
class Green:
    name = "green"
    def emit(self, event): ...
    def close(self): ...
@hookimpl
def afk_{kind}(settings: Settings):
    return {returned}
"""
WRONG = [
    ("color = 'x'", 2, "unknown key 'color'; did you mean 'colour'?"),
    ("colour = 'x'\nhieght = 1", 3, "unknown key 'hieght'; did you mean 'height'?"),
    ("colour = 1", 2, "colour is 1; a string was expected"),
    ("[{table}.beds.north]\nsizes = 1", 3, "unknown key 'sizes'; did you mean 'size'?"),
    ("beds = {{ north = {{ size = 'x' }} }}", 2, "size is 'x'"),
]


def user_config(shell: Shell, text: str) -> Path:
    path = shell.home / "afk" / "config" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refusal(done: Finished) -> str:
    """Return the only line of a command that was refused before a run."""
    assert (done.code, done.out) == (2, ""), done.err
    (line,) = done.err.splitlines()
    return line


@pytest.mark.parametrize("url", BAD_URLS)
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_url_that_a_variable_gives_is_named_by_it(shell: Shell, provider: str, url: str) -> None:
    user_config(shell, f"[providers.{provider}]\nbase_url = 'http://127.0.0.1:1'\napi_key = 'canary-0123456789'\n")
    variable = f"{provider.upper()}_BASE_URL"
    line = refusal(shell.in_process("run", "-m", f"{provider}/x", "hi", **{variable: url}))
    assert line.startswith(f"afk: {variable} is {url!r}; it is a URL such as http://")
    assert "[providers" not in line


@pytest.mark.parametrize("url", BAD_URLS)
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_url_that_the_config_gives_is_named_by_file_and_line(shell: Shell, provider: str, url: str) -> None:
    file = user_config(shell, f"[providers.{provider}]\napi_key = 'canary-0123456789'\nbase_url = '{url}'\n")
    line = refusal(shell.in_process("run", "-m", f"{provider}/x", "hi"))
    assert line.startswith(f"afk: [providers.{provider}] base_url ({file}, line 3) is {url!r}; it is a URL such as")
    assert "BASE_URL" not in line


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_key_that_is_none_is_named_by_its_source(shell: Shell, provider: str) -> None:
    variable = f"{provider.upper()}_API_KEY"
    line = refusal(shell.in_process("run", "-m", f"{provider}/x", "hi", **{variable: "k\u00e9y-0123456789"}))
    assert line == f"afk: {variable} holds a character that a key cannot have"


@pytest.mark.parametrize("from_variable", [True, False])
def test_a_server_that_cannot_be_reached_is_named_by_the_source_of_its_url(shell: Shell, from_variable: bool) -> None:
    url = "http://127.0.0.1:1/v1"
    if from_variable:
        shell.env["OPENAI_BASE_URL"] = url
    config = "" if from_variable else f"[providers.openai]\nbase_url = '{url}'\n"
    user_config(shell, f"max_retries = 0\n{config}")
    done = shell.in_process("run", "-m", "openai/x", "hi")
    assert done.code == 4
    said = "OPENAI_BASE_URL" if from_variable else "base_url under [providers.openai]"
    assert f"check the network and {said}" in done.err
    assert ("base_url under" in done.err) is not from_variable


def plugin_shell(shell: Shell, kind: str, returned: str, wrong: str) -> Path:
    """Give the shell a plugin file `green` of a kind, and wrong settings for it; return the config."""
    section = kind if kind == "tools" else f"{kind}s"
    (shell.folder / "green.py").write_text(PLUGIN.format(kind=kind, returned=returned))
    table = f"{section}.green"
    text = f"[{table}]\n{wrong.format(table=table)}\n[plugins]\npaths = ['{shell.folder / 'green.py'}']\n"
    return user_config(shell, text)


@pytest.mark.parametrize(("wrong", "number", "said"), WRONG)
def test_wrong_settings_of_a_sink_end_the_command(keyed: Shell, wrong: str, number: int, said: str) -> None:
    file = plugin_shell(keyed, "sink", "Green()", wrong)
    line = refusal(keyed.in_process("run", "hi"))
    assert line.startswith(f"afk: {file}, line {number}: [sinks.green")
    assert said in line


@pytest.mark.parametrize(("wrong", "number", "said"), WRONG)
def test_wrong_settings_of_tools_have_a_file_and_line(keyed: Shell, wrong: str, number: int, said: str) -> None:
    file = plugin_shell(keyed, "tools", "[]", wrong)
    line = refusal(keyed.in_process("run", "--tool", "green.*", "hi"))
    assert f"{file}, line {number}: [tools.green" in line
    assert said in line


def test_wrong_settings_of_a_store_and_of_a_provider_have_a_file_and_line(keyed: Shell) -> None:
    file = user_config(keyed, "store = 'disk'\n[stores.disk]\nlock_timout = 1\n")
    line = refusal(keyed.in_process("threads"))
    assert line.startswith(
        f"afk: {file}, line 3: [stores.disk] has the unknown key 'lock_timout'; did you mean 'lock_t"
    )
    file = user_config(keyed, "[providers.openai]\n\nbase_ur = 'x'\n")
    line = refusal(keyed.in_process("run", "hi"))
    assert line == (f"afk: {file}, line 3: [providers.openai] has the unknown key 'base_ur'; did you mean 'base_url'?")


def test_the_jsonl_sink_and_doctor_say_the_same(keyed: Shell) -> None:
    file = user_config(keyed, "[sinks.jsonl]\nmax_fils = 1\n")
    line = refusal(keyed.in_process("run", "hi"))
    assert line.startswith(f"afk: {file}, line 2: [sinks.jsonl] has the unknown key 'max_fils'")
    done = keyed.in_process("doctor")
    assert done.code == 1
    assert f"{file}, line 2" in done.out


def test_a_wrong_variable_of_a_sink_ends_the_command(keyed: Shell) -> None:
    plugin_shell(keyed, "sink", "Green()", "colour = 'x'")
    line = refusal(keyed.in_process("run", "hi", GREEN_HEIGHT="tall"))
    assert line.startswith("afk: the environment variable GREEN_HEIGHT is 'tall'")


def test_the_file_is_the_one_with_the_key(keyed: Shell) -> None:
    user_config(keyed, "[sinks.jsonl]\nretention_days = 3\n")
    project = keyed.folder / "afk.toml"
    project.write_text("[sinks.jsonl]\nnothing_like_it = 1\n")
    project.chmod(0o644)
    assert keyed.in_process("trust").code == 0
    line = refusal(keyed.in_process("run", "hi"))
    assert f"{project}, line 2: [sinks.jsonl] has the unknown key 'nothing_like_it'; known: " in line
