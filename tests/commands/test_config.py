"""`afk config`, `afk init` and `afk trust`, as a user sees them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from afkcli.commands.init import template
from afkcli.config.reading import parse_config
from tests.commands.conftest import Install, on_terminal
from tests.e2e.shell import Shell

SECRETS = ("sk-canary-0123456789", "canary-password", "canary-token", "canary-of-plugin", "canary-header")


def user_config(shell: Shell, text: str) -> Path:
    path = shell.home / "afk" / "config" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def project(shell: Shell, text: str) -> Path:
    path = shell.folder / "afk.toml"
    path.write_text(text)
    path.chmod(0o644)
    return path


def shown(shell: Shell) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in shell.in_process("config", "show", "--json").events}


class TestShow:
    def test_each_value_has_its_source(self, shell: Shell) -> None:
        user = user_config(shell, "model = 'openai/a'\n[limits]\nmax_steps = 4\nmax_tool_calls = 9\n")
        here = project(shell, "instructions = 'x'\n[limits]\nmax_tool_calls = 2\n")
        shell.env["AFK_MODEL"] = "openai/b"
        rows = shown(shell)
        assert (rows["model"]["value"], rows["model"]["source"]) == ("openai/b", "environment AFK_MODEL")
        assert (rows["limits.max_steps"]["value"], rows["limits.max_steps"]["source"]) == (4, str(user))
        assert (rows["limits.max_tool_calls"]["value"], rows["limits.max_tool_calls"]["source"]) == (2, str(here))
        assert (rows["store"]["value"], rows["store"]["source"]) == ("disk", "default")
        assert shell.in_process("config", "show").out.count("\n") == len(rows)

    def test_every_secret_is_masked(self, keyed: Shell, install: Install) -> None:
        keyed.env["ANTHROPIC_API_KEY"] = SECRETS[0]
        install("broken", {"afk": {"sink.broken": "broken_sink"}}, broken_sink="raise SystemExit")
        user_config(
            keyed,
            """
            [extra.headers]
            Authorization = "Bearer canary-token"
            [providers.openai]
            api_key = "canary-of-plugin"
            base_url = "http://me:canary-password@127.0.0.1/v1"
            default_model = "shown"
            headers = { X-Anything = "canary-header" }
            [sinks.broken]
            whatever = "canary-of-plugin"
            [sinks.unknown]
            where = "canary-of-plugin"
            since = 2020-01-01
            """,
        )
        del keyed.env["OPENAI_BASE_URL"]
        done = keyed.in_process("config", "show")
        assert done.code == 0
        for secret in SECRETS:
            assert secret not in done.out + done.err
        assert shown(keyed)["providers.openai.default_model"]["value"] == "shown"

    def test_tables_of_tables_are_shown_by_name_with_the_values_that_count(self, shell: Shell) -> None:
        user = user_config(
            shell,
            """
            [tools.mcp.servers.garden]
            command = "garden-mcp"
            env = { GARDEN_TOKEN = "canary-token", LEVEL = "debug" }
            [tools.mcp.servers.tickets]
            url = "https://example.com/mcp"
            headers = { X-Anything = "canary-header" }
            """,
        )
        here = project(shell, "[tools.mcp.servers.tickets]\ncommand = 'tickets-mcp'\n")
        assert shell.in_process("trust").code == 0
        rows = {key: row for key, row in shown(shell).items() if key.startswith("tools.mcp.")}
        servers = "tools.mcp.servers"
        assert {key: (row["value"], row["source"]) for key, row in rows.items()} == {
            f"{servers}.garden.command": ("garden-mcp", str(user)),
            f"{servers}.garden.env.GARDEN_TOKEN": ("***", str(user)),
            f"{servers}.garden.env.LEVEL": ("debug", str(user)),
            f"{servers}.tickets.command": ("tickets-mcp", str(here)),
        }
        here.unlink()
        assert shown(shell)[f"{servers}.tickets.headers.X-Anything"]["value"] == "***"

    def test_a_malformed_file_is_exit_2_with_file_and_line(self, shell: Shell) -> None:
        path = user_config(shell, "\nmodl = 'x'\n")
        done = shell.in_process("config", "show")
        assert (done.code, done.out) == (2, "")
        assert f"{path}, line 2: unknown key 'modl'" in done.err

    def test_ignored_keys_are_listed(self, shell: Shell) -> None:
        project(shell, "store = 'x'\n")
        done = shell.in_process("config", "show")
        assert "so this does not count: store; see `afk trust`" in done.err
        assert shown(shell)["store"]["value"] == "disk"


class TestPath:
    def test_it_shows_which_files_exist_and_are_trusted(self, shell: Shell) -> None:
        done = shell.in_process("config", "path")
        assert "there is no afk.toml here or above" in done.err
        assert "not there" in done.out
        path = project(shell, "store = 'x'\n")
        rows = {row["what"]: row for row in shell.in_process("config", "path", "--json").events}
        assert rows["user config"]["exists"] is False
        assert rows["project config"]["path"] == str(path)
        assert rows["project config"]["trust"].startswith("not trusted")
        path.chmod(0o666)
        assert "refused: others can write it" in shell.in_process("config", "path").out


class TestInit:
    def test_the_new_file_changes_nothing_and_an_existing_one_is_kept(self, shell: Shell) -> None:
        done = shell.in_process("init")
        assert (done.code, done.out) == (0, "")
        path = shell.folder / "afk.toml"
        assert path.stat().st_mode & 0o022 == 0
        assert parse_config(path.read_bytes(), path) == {}
        assert shell.in_process("trust", "--check").code == 0
        path.write_text("instructions = 'mine'\n")
        again = shell.in_process("init")
        assert again.code == 2
        assert "exists already" in again.err
        assert path.read_text() == "instructions = 'mine'\n"

    def test_links_are_not_followed(self, shell: Shell, tmp_path: Path) -> None:
        (shell.folder / "afk.toml").symlink_to(tmp_path / "elsewhere")
        assert shell.in_process("init").code == 2
        assert not (tmp_path / "elsewhere").exists()

    def test_every_setting_in_the_file_is_valid(self, tmp_path: Path) -> None:
        switched_on = re.sub(r"^#(?! )", "", template(), flags=re.MULTILINE)
        table = parse_config(switched_on.encode(), tmp_path / "afk.toml")
        assert set(table["agents"]) == {"reviewer", "writer", "clerk"}
        assert {"limits", "options", "providers", "plugins", "prices", "models", "approvals"} <= set(table)


class TestTrust:
    NEEDS = "store = 'disk'\n[limits]\nmax_steps = 99\n[providers.openai]\napi_key = 'canary-of-plugin'\n"

    def test_it_shows_what_trust_enables_and_trusts_until_a_change(self, shell: Shell) -> None:
        path = project(shell, self.NEEDS)
        assert shell.in_process("trust", "--check").code == 2
        done = shell.in_process("trust")
        assert (done.code, done.out) == (0, "")
        assert 'store = "disk"' in done.err
        assert "limits.max_steps = 99" in done.err
        assert "canary" not in done.err
        assert shell.in_process("trust", "--check").code == 0
        assert shown(shell)["limits.max_steps"]["value"] == 99
        project(shell, path.read_text() + "\n")
        changed = shell.in_process("trust", "--check", "--json")
        assert changed.code == 2
        assert changed.events[0]["state"] == "changed"
        assert changed.events[0]["inert"] == ["store", "limits.max_steps", "providers"]

    @pytest.mark.parametrize(("typed", "code"), [(b"n\n", 2), (b"y\n", 0)])
    def test_it_asks_on_a_terminal(self, shell: Shell, typed: bytes, code: int) -> None:
        project(shell, self.NEEDS)
        ended, seen = on_terminal(shell, "trust", typed=typed)
        assert ended == code
        assert "Trust it?" in seen
        assert shell.in_process("trust", "--check").code == code

    def test_trust_can_be_withdrawn(self, shell: Shell) -> None:
        project(shell, self.NEEDS)
        shell.in_process("trust")
        assert "no longer trusted" in shell.in_process("trust", "--remove").err
        assert shell.in_process("trust", "--check").code == 2
        assert "was not trusted" in shell.in_process("trust", "--remove").err

    @pytest.mark.parametrize(
        ("text", "code", "said"),
        [
            (None, 0, "there is nothing to trust"),
            ("instructions = 'x'\n", 0, ""),
            ("store = 'x'\n", 2, "is not trusted"),
            ("modl = 1\n", 2, "line 1: unknown key"),
        ],
    )
    def test_check_gives_exit_codes_for_scripts(self, shell: Shell, text: str | None, code: int, said: str) -> None:
        if text is not None:
            project(shell, text)
        done = shell.in_process("trust", "--check")
        assert (done.code, done.out) == (code, "")
        assert said in done.err

    def test_it_takes_a_file_or_a_folder_but_no_other_name(self, shell: Shell, tmp_path: Path) -> None:
        path = project(shell, self.NEEDS)
        path.chmod(0o666)
        assert "cannot be trusted: others can write it" in shell.in_process("trust", str(shell.folder)).err
        path.chmod(0o644)
        shell.folder = tmp_path
        assert shell.in_process("trust", str(path)).code == 0
        assert shell.in_process("trust", "--check", str(path.parent)).code == 0
        assert shell.in_process("trust", "--check", "gone/afk.toml").code == 2
        assert "is not called afk.toml" in shell.in_process("trust", "other.toml").err

    def test_no_file_and_conflicting_options_are_exit_2(self, shell: Shell) -> None:
        assert "there is no afk.toml here or above" in shell.in_process("trust").err
        assert shell.in_process("trust", "--check", "--remove").code == 2
