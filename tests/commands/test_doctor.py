"""`afk doctor`, as a user meets it."""

from __future__ import annotations

from typing import Any

import pytest

from afkcli.commands import doctor
from afkcli.processes import sandbox
from tests.commands.conftest import Install
from tests.e2e.shell import Shell


def findings(shell: Shell, code: int) -> dict[str, dict[str, Any]]:
    done = shell.in_process("doctor", "--json")
    assert done.code == code, done.out + done.err
    return {row["check"]: row for row in done.events}


def test_all_is_well_where_a_run_would_work_and_no_request_is_made(keyed: Shell, server: Any) -> None:
    rows = findings(keyed, 0)
    assert rows["model"]["detail"].startswith("openai/gpt-5.2-mini (the environment variable AFK_MODEL)")
    assert rows["store"]["detail"] == "opens; 0 threads"
    assert rows["keys"]["detail"] == "OPENAI_API_KEY is set (***)"
    assert server.requests == []
    out = keyed.in_process("doctor").out
    assert "sk-canary" not in out
    assert "afk-store-disk 0.1.0" in out


def test_says_why_a_bare_run_uses_which_model(keyed: Shell) -> None:
    del keyed.env["AFK_MODEL"]
    assert "OPENAI_API_KEY is set" in findings(keyed, 0)["model"]["detail"]


def test_without_a_model_is_exit_1_with_the_next_step(shell: Shell) -> None:
    shell.env["AFK_DEMO"] = "off"
    row = findings(shell, 1)["model"]
    assert row["status"] == "fail"
    assert "AFK_DEMO=off" in row["detail"]
    assert "OPENAI_API_KEY" in row["detail"]


@pytest.mark.parametrize(
    ("landlock", "refused"),
    [(0, "tools.shell and searches of tools.files are"), (2, "tools.shell is")],
)
def test_says_what_is_refused_without_a_sandbox(
    keyed: Shell, monkeypatch: pytest.MonkeyPatch, landlock: int, refused: str
) -> None:
    absent = sandbox.Mechanism(name="bubblewrap", program="", works=False, detail="not installed")
    monkeypatch.setattr(doctor, "mechanisms", lambda: (absent,))
    monkeypatch.setattr(sandbox, "landlock_version", lambda: landlock)
    monkeypatch.setattr(sandbox, "has_seccomp", lambda: True)

    row = findings(keyed, 0)["sandbox"]

    assert row["status"] == "warn"
    assert row["detail"] == f"none, so {refused} refused without sandbox = 'off' (bubblewrap: not installed)"


def test_says_that_only_linux_has_a_sandbox(keyed: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "mechanisms", lambda: ())

    assert findings(keyed, 0)["sandbox"]["detail"] == (
        "none: only Linux has one, so programs that a model runs have all your rights"
    )


def test_a_named_model_without_its_key_is_exit_1(shell: Shell) -> None:
    shell.env["AFK_MODEL"] = "openai/gpt-x"
    assert "set OPENAI_API_KEY" in findings(shell, 1)["model"]["detail"]


def test_a_store_that_does_not_open_is_exit_1(keyed: Shell) -> None:
    data = keyed.home / "afk" / "data"
    data.parent.mkdir(parents=True)
    data.write_text("in the way")
    rows = findings(keyed, 1)
    assert rows["store"]["status"] == "fail"
    assert "is not a folder" in rows["data folder"]["detail"]


def test_a_malformed_config_is_exit_1_and_the_rest_is_still_said(keyed: Shell) -> None:
    (keyed.folder / "afk.toml").write_text("modl = \n")
    rows = findings(keyed, 1)
    assert "line 1" in rows["config"]["detail"]
    assert rows["store.disk"]["status"] == "ok"


def test_a_broken_plugin_and_a_foreign_package_are_warnings(keyed: Shell, install: Install) -> None:
    install("broken", {"afk": {"tools.broken": "broken_tools"}}, broken_tools="import nowhere")
    install("other-afk", {}, afk="")
    rows = findings(keyed, 0)
    assert rows["tools.broken"]["status"] == "warn"
    assert "nowhere" in rows["tools.broken"]["detail"]
    assert "other-afk" in rows["package afk"]["detail"]


def user_config(shell: Shell, text: str) -> None:
    path = shell.home / "afk" / "config" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "litellm"])
def test_a_key_in_the_config_is_set(shell: Shell, provider: str) -> None:
    user_config(shell, f"[providers.{provider}]\napi_key = 'sk-canary-0123456789'\n")
    shell.env["AFK_MODEL"] = "local"
    keys = findings(shell, 0)["keys"]["detail"]
    assert keys == f"api_key under [providers.{provider}] is set (***)"


def test_a_key_of_a_trusted_project_is_set(shell: Shell) -> None:
    file = shell.folder / "afk.toml"
    file.write_text("[providers.openai]\napi_key = 'sk-canary-0123456789'\n")
    file.chmod(0o644)
    assert findings(shell, 0)["keys"]["detail"].startswith("no key is set (OPENAI_API_KEY")
    assert shell.in_process("trust").code == 0
    assert findings(shell, 0)["keys"]["detail"] == "api_key under [providers.openai] is set (***)"


@pytest.mark.parametrize(("given", "said"), [("sk-canary-9876543210", "set (***)"), (" ", "blank")])
def test_a_key_in_the_environment_replaces_that_of_the_config(shell: Shell, given: str, said: str) -> None:
    user_config(shell, "[providers.anthropic]\napi_key = 'sk-canary-0123456789'\n")
    shell.env.update(ANTHROPIC_API_KEY=given, AFK_MODEL="local")
    wanted = f"ANTHROPIC_API_KEY is {said}, and replaces api_key under [providers.anthropic]"
    assert findings(shell, 0)["keys"]["detail"] == wanted


def test_a_blank_key_in_the_config_is_not_set(shell: Shell) -> None:
    user_config(shell, "[providers.openai]\napi_key = ' '\n")
    shell.env["AFK_MODEL"] = "local"
    assert findings(shell, 0)["keys"]["detail"].startswith("no key is set")


PROVIDER = """
from dataclasses import dataclass, field
from afkcli.plugin import BaseProvider, hookimpl
AFK_HOOKS = 1
@dataclass
class Settings:
    token: str = field(default="", metadata={"secret": True, "env": "GREY_TOKEN"})
@hookimpl
def afk_provider(settings: Settings): ...
"""


@pytest.mark.parametrize("config", [True, False])
def test_keys_that_other_providers_read_are_named(shell: Shell, config: bool) -> None:
    file = shell.folder / "grey.py"
    file.write_text(PROVIDER)
    table = "[providers.grey]\ntoken = 'canary-0123456789'\n" if config else ""
    user_config(shell, f"plugins.paths = ['{file}']\nmodel = 'local'\n{table}")
    if not config:
        shell.env["GREY_TOKEN"] = "canary-0123456789"
    wanted = "token under [providers.grey] is set (***)" if config else "GREY_TOKEN is set (***)"
    assert findings(shell, 0)["keys"]["detail"] == wanted


def test_a_server_alone_selects_its_default_model(shell: Shell, server: Any) -> None:
    shell.env["OPENAI_BASE_URL"] = server.base_url
    assert findings(shell, 0)["model"]["detail"].startswith("openai/gpt-5.2-mini (OPENAI_BASE_URL is set)")
    assert shell.in_process("run", "hi").out == "reply 1: hi\n"
