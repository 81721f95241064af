"""The servers of the config: an error is one line and contains no secret."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from afk_tools_mcp import ServerSettings, Settings, afk_tools

from afkcli.plugin import ConfigError, mask_secrets
from afkcli.testing.settings import settings_for

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "config.md"


def servers(tables: dict[str, Any]) -> dict[str, ServerSettings]:
    """Return the servers of a config."""
    settings: Settings = settings_for(afk_tools, {"servers": tables}, "[tools.mcp]")
    return settings.servers


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "is not usable: it needs `command` (a program) or `url` (an HTTP server), and not both"),
        ({"command": "a", "url": "http://b/c"}, "is not usable: it needs `command` (a program) or `url`"),
        ({"comand": "a"}, "has the unknown key 'comand'; did you mean 'command'?"),
        ({"command": 3}, "command is 3; a string was expected"),
        ({"command": "a", "args": "b"}, "args is 'b'; "),
        ({"command": "a", "args": [1]}, "args is [1]; "),
        ({"command": "a", "env": {"PORT": 80}}, "is not usable: `env` PORT must be a text; put its value into quotes"),
        ({"command": "a", "env": {"A=B": "c"}}, "is not usable: `env` 'A=B' cannot be a variable"),
        ({"command": "a", "env": {"A": "${}"}}, "is not usable: `env` A refers to a variable by ${...}"),
        ({"command": "a", "env": {"A": "${B C}"}}, "is not usable: `env` A refers to a variable by ${...}"),
        ({"command": "a", "headers": {"A": "b"}}, "is not usable: `headers` goes with `url`"),
        ({"url": "http://a/b", "args": ["c"]}, "is not usable: `args` goes with `command`"),
        ({"url": "http://a/b", "cwd": "/"}, "is not usable: `cwd` goes with `command`"),
        ({"url": "a/b"}, "is not usable: `url` is not a valid address; write http://HOST/PATH or https://HOST/PATH"),
        ({"url": "ftp://a/b"}, "is not usable: `url` is not a valid address"),
        ({"url": "http://[a/b"}, "is not usable: `url` is not a valid address"),
        ({"url": "http://a:99999/b"}, "is not usable: `url` is not a valid address"),
        ({"url": "http://a/b", "headers": {"A B": "c"}}, "is not usable: `headers` 'A B' is not a valid header name"),
        ({"url": "http://a/b", "headers": {"A": "b\r\nC: d"}}, "is not usable: `headers` A holds characters"),
        ({"url": "http://a/b", "headers": {"A": "\u00e9"}}, "is not usable: `headers` A holds characters"),
        ({"command": "a", "timeout": 0}, "is not usable: `timeout` is 0"),
        ({"command": "a", "timeout": -1.5}, "is not usable: `timeout` is -1.5; a number above 0 was expected"),
        ({"command": "a", "start_timeout": float("nan")}, "is not usable: `start_timeout` is nan"),
        ({"command": "a", "start_timeout": float("inf")}, "is not usable: `start_timeout` is inf"),
        ({"command": "a", "timeout": "3"}, "timeout is '3'; a number was expected"),
        ({"command": "a", "max_output": 0}, "is not usable: `max_output` is 0; a number above 0 was expected"),
        ({"command": "a", "max_output": 10**9}, "is not usable: `max_output` is 1000000000; a model is given 100000"),
        ({"command": "a", "read_only": "b"}, "read_only is 'b'; "),
    ],
)
def test_what_is_wrong_is_one_line_that_names_server_and_key(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        servers({"garden": table})

    line = str(caught.value)
    assert line.startswith(f"[tools.mcp.servers.garden] {said}")
    assert "\n" not in line


def test_a_server_that_is_not_a_table_is_named() -> None:
    with pytest.raises(ConfigError, match=r"\[tools\.mcp\] servers\.garden is 'npx'; a table was expected"):
        servers({"garden": "npx"})


@pytest.mark.parametrize("name", ["", "a.b", "a b", "-a", "\u00e9", "a" * 65, "*"])
def test_a_name_that_cannot_begin_the_name_of_a_tool_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"invalid server name .* use up to 64 letters"):
        servers({name: {"command": "a"}})


@pytest.mark.parametrize(
    "table",
    [
        {"command": "a", "env": {"API_KEY": "canary-1111111111"}, "headers": {"A": "b"}},
        {"url": "http://a/b", "headers": {"Authorization": ["canary-1111111111"]}},
        {"url": "http://a/b", "headers": "canary-1111111111"},
        {"command": "a", "env": {"API_KEY": "canary-1111111111", "PORT": 80}},
        {"url": "http://user:canary-1111111111@/b"},
    ],
)
def test_no_secret_is_in_the_line(table: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        servers({"garden": table})

    assert "canary" not in mask_secrets(str(caught.value))


def test_a_variable_that_is_not_set_is_named(use_servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)

    async def scenario(bench: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            await bench.tools()
        return str(caught.value)

    table = {"command": "a", "env": {"TOKEN": "x${NO_SUCH_TOKEN}"}}

    assert use_servers({"garden": table}, scenario) == (
        "[tools.mcp.servers.garden] env TOKEN names the environment variable NO_SUCH_TOKEN, which is not set"
    )


@pytest.mark.parametrize(
    ("value", "filled"),
    [
        ("x${FORGE}y", "xhammery"),
        ("$${FORGE}", "${FORGE}"),
        ("$$${FORGE}", "$${FORGE}"),
        ("$FORGE $$ {FORGE}", "$FORGE $$ {FORGE}"),
    ],
)
def test_two_dollars_before_a_brace_are_the_text_itself(
    monkeypatch: pytest.MonkeyPatch, value: str, filled: str
) -> None:
    monkeypatch.setenv("FORGE", "hammer")
    program = servers({"garden": {"command": "a", "env": {"A": value}}})["garden"]
    server = servers({"garden": {"url": "http://127.0.0.1/mcp", "headers": {"A": value}}})["garden"]

    assert program.environment()["A"] == filled
    assert server.request_headers()["A"] == filled


def test_a_reference_without_its_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="`headers` A refers to a variable by"):
        servers({"garden": {"url": "http://127.0.0.1/mcp", "headers": {"A": "Bearer ${TOKEN"}}})


def test_what_names_tell_is_masked_and_the_rest_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORGE_TOKEN", "canary-2222222222")
    monkeypatch.setenv("SOME_FOLDER", "folder-2222222222")
    table = {
        "command": "a",
        "env": {
            "API_KEY": "canary-3333333333",
            "MODE": "${FORGE_TOKEN}",
            "LEVEL": "level-44444444",
            "F": "${SOME_FOLDER}",
        },
    }
    settings = servers({"garden": table})["garden"]
    settings.environment()

    text = "canary-2222222222 canary-3333333333 level-44444444 folder-2222222222"
    assert mask_secrets(text) == "*** *** level-44444444 folder-2222222222"


def test_the_plugin_imports_no_sdk() -> None:
    script = "import sys, afk_tools_mcp; print([name for name in sys.modules if name in ('mcp', 'anyio', 'httpx2')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_naming_tools_that_are_kept_imports_no_sdk(scripted: Any, tmp_path: Path) -> None:
    async def listed(bench: Any) -> None:
        await bench.tools()

    scripted.use(listed)
    script = tmp_path / "names.py"
    script.write_text(
        "import asyncio, sys\n"
        "from afk_tools_mcp import ServerSettings, Settings, afk_tools\n"
        f"toolset = afk_tools(Settings(servers={{'s': ServerSettings(**{scripted.table()!r})}}))\n"
        "print(len(asyncio.run(toolset.list_tools(['s']))) > 10)\n"
        "print([name for name in sys.modules if name in ('mcp', 'mcp_types', 'anyio', 'httpx2')])\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == ["True", "[]"]
    assert scripted.notes.count("start") == 1


def test_every_setting_of_a_server_is_documented() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("### [tools.mcp.servers.NAME]\n")[2].partition("\n#")[0]

    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == {
        field.name for field in dataclasses.fields(ServerSettings)
    }
