"""An approval rule that is added to the user's config file: every other line stays, and in doubt nothing is written."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from afkcli.config.rule_writing import add_rule, edited_rule, rule_lines, toml_value
from afkcli.core.contract.errors import ConfigError
from afkcli.core.contract.rules import ApprovalRule
from afkcli.core.contract.tools import Tool

ARGV = ["git", "log", '--format=%h "x" \\ \u202e\'']


def run(argv: list[str], cwd: str | None = None) -> str:
    return ""


CALL = Tool(name="shell.run", description="", function=run, from_plugin=True).validate({"argv": ARGV})


def rule(**fields: Any) -> ApprovalRule:
    given: dict[str, Any] = {"tool": "shell.run", "arguments": {"argv": ARGV}, "other_arguments": False}
    return ApprovalRule(decision="allow", **{**given, **fields})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config" / "config.toml"


def write(config: Path, text: str, mode: int = 0o600) -> Path:
    config.parent.mkdir(mode=0o700)
    config.write_bytes(text.encode())
    config.chmod(mode)
    return config


def rules_in(config: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads(config.read_bytes().decode("utf-8-sig"))["approvals"]["rules"]
    return found


WRITTEN = {"tool": "shell.run", "decision": "allow", "arguments": {"argv": ARGV}, "other_arguments": False}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# my config\nmodel = 'a/b' # why\n",
        "model = 'a/b'",
        "[approvals]\nmode = 'ask'\n\n[[approvals.rules]]\ntool = 'x.y'\ndecision = 'deny'\n# the end",
        "[agents.x]\ntools = ['shell.run']\n",
        "\ufeffmodel = 'a/b'\n",
        "model = 'a/b'\r\n# c\r\n",
    ],
)
def test_everything_that_was_there_stays_and_the_rule_is_the_last_one(config: Path, text: str) -> None:
    write(config, text, 0o640)
    add_rule(config, rule(), CALL)
    assert config.read_bytes().startswith(text.encode())
    assert rules_in(config)[-1] == WRITTEN
    assert stat.S_IMODE(config.stat().st_mode) == 0o640
    assert b"\r\n" not in config.read_bytes() or b"\n" not in config.read_bytes().replace(b"\r\n", b"")
    assert [path.name for path in config.parent.iterdir()] == ["config.toml"]


def test_a_config_that_is_not_there_is_made_for_the_user_alone(config: Path) -> None:
    add_rule(config, rule(), CALL)
    assert rules_in(config) == [WRITTEN]
    assert stat.S_IMODE(config.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[approvals]\nrules = [{ tool = 'x.y', decision = 'deny' }]\n", "afk cannot add a rule"),
        ("approvals = { mode = 'ask' }\n", "afk cannot add a rule"),
        ("model = \n", "not valid TOML"),
        ("modle = 'a/b'\n", "did you mean"),
        ("[[approvals.rules]]\ntool = 'shell.*'\ndecision = 'ask'\n", "rule 1 of"),
        (
            "[[approvals.rules]]\ntool = '*'\ndecision = 'deny'\narguments.argv = ['git', '...']\n",
            "decides on this call",
        ),
    ],
)
def test_a_file_to_which_a_rule_cannot_be_added_stays_as_it_is(config: Path, text: str, said: str) -> None:
    write(config, text)
    with pytest.raises(ConfigError, match=said):
        add_rule(config, rule(), CALL)
    assert config.read_text() == text


def test_a_link_is_neither_followed_nor_replaced(config: Path, tmp_path: Path) -> None:
    (tmp_path / "dotfiles.toml").write_text("model = 'a/b'\n")
    config.parent.mkdir(mode=0o700)
    config.symlink_to(tmp_path / "dotfiles.toml")
    with pytest.raises(ConfigError, match="it is a link to"):
        add_rule(config, rule(), CALL)
    assert config.is_symlink()
    assert (tmp_path / "dotfiles.toml").read_text() == "model = 'a/b'\n"


def test_a_file_with_a_second_name_is_not_replaced(config: Path, tmp_path: Path) -> None:
    write(config, "model = 'a/b'\n")
    os.link(config, tmp_path / "other")
    with pytest.raises(ConfigError, match="hard link"):
        add_rule(config, rule(), CALL)


def test_a_read_only_file_stays_as_it_is(config: Path) -> None:
    write(config, "model = 'a/b'\n", 0o400)
    with pytest.raises(ConfigError, match="it is read-only"):
        add_rule(config, rule(), CALL)
    assert config.read_text() == "model = 'a/b'\n"


def test_a_file_that_others_can_write_or_own_is_not_used(config: Path) -> None:
    write(config, "model = 'a/b'\n", 0o666)
    with pytest.raises(ConfigError, match="others can write it"):
        add_rule(config, rule(), CALL)
    if os.geteuid() == 0:
        config.chmod(0o600)
        os.chown(config, 12345, -1)
        with pytest.raises(ConfigError, match="belongs to another user"):
            add_rule(config, rule(), CALL)
    assert config.read_text() == "model = 'a/b'\n"


def test_two_processes_do_not_write_at_once(config: Path) -> None:
    import fcntl

    write(config, "model = 'a/b'\n")
    descriptor = os.open(config.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="another afk is writing"):
            add_rule(config, rule(), CALL)
    finally:
        os.close(descriptor)
    add_rule(config, rule(), CALL)


@pytest.mark.parametrize(
    "value",
    [
        "a",
        'q" \\ \n\t',
        "\u202e\x1b\x7f\u200b",
        "\U0001f600\U000e0041",
        ["a", [1, 2.5, True], {}],
        {"a b": {"c": []}},
        10**30,
    ],
)
def test_a_value_is_the_same_when_it_is_read_again(value: Any) -> None:
    line = toml_value(value)
    assert tomllib.loads(f"x = {line}")["x"] == value
    assert line.isprintable()


class TestEditing:
    @pytest.mark.parametrize(
        ("line", "arguments"),
        [
            ('argv = ["git", "log", "..."]', {"argv": ["git", "log", "..."]}),
            ('arguments.argv = ["git", "..."]', {"argv": ["git", "..."]}),
            ('arguments = { argv = ["git"] }', {"argv": ["git"]}),
            ('cwd = "sub/*"', {"argv": ARGV, "cwd": "sub/*"}),
        ],
    )
    def test_a_line_takes_the_place_of_the_old_one(self, line: str, arguments: dict[str, Any]) -> None:
        assert edited_rule(rule(), line) == rule(arguments=arguments)

    def test_other_arguments_and_the_tool_can_be_changed(self) -> None:
        assert edited_rule(rule(), "other_arguments = true") == rule(other_arguments=True)
        assert edited_rule(rule(), 'tool = "shell.*"') == rule(tool="shell.*")

    def test_a_pattern_that_is_taken_away_lets_its_argument_be_anything(self) -> None:
        assert edited_rule(rule(), "-argv") == rule(arguments={}, other_arguments=True)

    @pytest.mark.parametrize(
        "line",
        ["git log", "decision = 'deny'", "pin = 'x'", "tool = 1", "other_arguments = 'no'", "-cwd", "arguments = 1"],
    )
    def test_a_line_that_says_nothing_of_a_rule_is_refused(self, line: str) -> None:
        with pytest.raises(ConfigError):
            edited_rule(rule(), line)


def test_the_lines_that_are_shown_are_those_that_are_written(config: Path) -> None:
    add_rule(config, rule(pins=("a" * 64,)), CALL)
    assert config.read_text().splitlines() == rule_lines(rule(pins=("a" * 64,)))
