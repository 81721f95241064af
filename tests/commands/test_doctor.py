"""`afk doctor`, as a user meets it."""

from __future__ import annotations

from typing import Any

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
